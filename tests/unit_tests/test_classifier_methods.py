"""How rows are answered: methods, prompts and priors on our LLMs, and LangChain's other LLMs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from fakes import LABELS, SECRET, FakeLLM, FakeScoringLLM, Log, Recorder, hashed_scores, label_of
from langchain_core.caches import InMemoryCache
from langchain_core.exceptions import ContextOverflowError, ModelAuthenticationError, OutputParserException
from langchain_core.language_models import LLM
from langchain_core.language_models.fake import FakeListLLM
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.output_parsers import BaseOutputParser
from langchain_core.outputs import Generation, LLMResult
from pydantic import PrivateAttr
from typing_extensions import override

from langchain_stormtrooper.calibration import divide_by_prior, mean_distribution, word_bags
from langchain_stormtrooper.classifiers import FewShotClassifier, ZeroShotClassifier
from langchain_stormtrooper.errors import (
    ConfigurationError,
    FailedRequestWarning,
    OverlongInputWarning,
    ServerUnreachableError,
    UnmatchedLabelWarning,
)
from langchain_stormtrooper.parsers import LabelOutputParser
from langchain_stormtrooper.presets import PRESETS
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.results import Method, Reason

SPACED = tuple(f" {label}" for label in LABELS)


def shout_label(prompt: Prompt) -> str:
    """The label in a form of its own."""
    return f"!{label_of(prompt.text)}!"


def say_a(prompt: Prompt) -> str:
    """A label that is always the same."""
    return "a"


def down(prompt: Prompt) -> str:
    """A server that is not there."""
    raise ServerUnreachableError("Start it.")


def even(prompt: Prompt, answers: Sequence[str]) -> tuple[float, ...]:
    """A model that knows nothing."""
    return tuple(1 / len(answers) for _ in answers)


class TestScore:
    """Probabilities of the labels."""

    async def test_best_method_is_taken(self) -> None:
        """`auto` scores where the LLM can, and generates where it cannot."""
        for llm, method in ((FakeScoringLLM(), Method.SCORE), (FakeLLM(), Method.GENERATE)):
            assert (await ZeroShotClassifier(LABELS, llm=llm).with_details().ainvoke("x")).method is method

    async def test_probabilities(self) -> None:
        """Without a prior, the model's own probabilities come out, in the order of the labels."""
        task = ZeroShotClassifier(LABELS, llm=FakeScoringLLM(), prior=None, prompt="kinds")
        row = await task.with_details().ainvoke("x")
        expected = dict(zip(LABELS, hashed_scores(Prompt(text="x"), SPACED), strict=True))
        assert row.probabilities == pytest.approx(expected)
        assert list(row.probabilities or ()) == LABELS
        assert row.label == max(expected, key=expected.__getitem__)
        assert row.confidence == pytest.approx(max(expected.values()))
        assert (row.covered_mass, row.prompt_tokens, row.generated_tokens) == (0.5, 7, 1)

    async def test_prior(self) -> None:
        """With the words prior, probabilities are divided by their mean over the bags, which is asked for once."""
        llm = FakeScoringLLM()
        rows = await ZeroShotClassifier(LABELS, llm=llm, prompt="kinds").with_details().abatch(["x", "y", "z"])
        assert llm.log.texts[:8] == word_bags()
        assert sorted(llm.log.texts[8:]) == ["x", "y", "z"]
        prior = mean_distribution([hashed_scores(Prompt(text=bag), SPACED) for bag in word_bags()])
        for text, row in zip("xyz", rows, strict=True):
            expected = divide_by_prior(hashed_scores(Prompt(text=text), SPACED), prior)
            assert list((row.probabilities or {}).values()) == pytest.approx(list(expected))
            assert row.label == LABELS[expected.index(max(expected))]

    async def test_prior_keeps_to_the_llms_places(self) -> None:
        """Bags are asked at once, but never more than the LLM has places."""
        llm = FakeScoringLLM(places=3, delay=0.001)
        await ZeroShotClassifier(LABELS, llm=llm).ainvoke("x")
        assert llm.log.peak == 3

    async def test_first_label_wins_a_tie(self) -> None:
        """Equal probabilities give the label given first, whatever its name."""
        for labels in (["b", "a"], ["a", "b"]):
            assert await ZeroShotClassifier(labels, llm=FakeScoringLLM(score=even)).ainvoke("x") == labels[0]

    @pytest.mark.parametrize(
        ("template", "joined"),
        [
            ("{text}:", " "),
            ("{text} is about", " "),
            ("{text}\n", ""),
            ("{text}: ", ""),
            ('{text}: "', ""),
            ("{text} (", ""),
            ("({text})", " "),
        ],
    )
    async def test_labels_as_in_running_text(self, template: str, joined: str) -> None:
        """A label follows a space, unless the prompt ends with white space or an opening bracket or quote."""
        llm = FakeScoringLLM()
        await ZeroShotClassifier(LABELS, llm=llm, prompt=template, prior=None).ainvoke("x")
        assert llm.asked == [tuple(joined + label for label in LABELS)]

    async def test_codes(self) -> None:
        """With `prompt="codes"` letters are scored, and stand for the labels in the order given."""
        llm = FakeScoringLLM()
        task = ZeroShotClassifier(LABELS, llm=llm, prompt="codes", prior=None)
        row = await task.with_details().ainvoke("x")
        assert llm.asked == [(" A", " B", " C")]
        expected = dict(zip(LABELS, hashed_scores(Prompt(text="x"), (" A", " B", " C")), strict=True))
        assert row.probabilities == pytest.approx(expected)
        for settings in ({"llm": FakeLLM()}, {"llm": llm, "method": "generate"}, {"llm": llm, "max_new_tokens": 3}):
            with pytest.raises(ConfigurationError, match="prompt='codes' asks for codes"):
                await ZeroShotClassifier(LABELS, prompt="codes", **settings).ainvoke("x")

    @pytest.mark.parametrize(
        ("settings", "method"),
        [
            ({}, Method.SCORE),
            ({"parser": LabelOutputParser(LABELS)}, Method.SCORE),
            ({"parser": LabelOutputParser(LABELS, margin=0.5)}, Method.GENERATE),
            ({"max_new_tokens": 20}, Method.GENERATE),
            ({"max_new_tokens": 20, "method": "score"}, Method.SCORE),
        ],
    )
    async def test_auto_generates_where_text_is_expected(self, settings: Any, method: Method) -> None:
        """Whoever sets a parser or a length wants generated text, unless he names the method."""
        task = ZeroShotClassifier(LABELS, llm=FakeScoringLLM(), **settings)
        assert await task.aget_method() is method
        assert (await task.with_details().ainvoke("x")).method is method

    async def test_generating_on_request(self) -> None:
        """`method="generate"` generates, also where scores could be had; no prior is asked for."""
        llm = FakeScoringLLM()
        assert await ZeroShotClassifier(LABELS, llm=llm, method="generate").ainvoke("x") == label_of("x")
        assert llm.asked == []
        assert llm.log.texts == ["x"]

    @pytest.mark.parametrize(
        ("llm", "method", "offer"),
        [
            (FakeLLM(), "score", "'generate'"),
            (FakeScoringLLM(), "constrain", "'score' or 'generate'"),
            (FakeListLLM(responses=["x"]), "score", "'generate'"),
        ],
    )
    async def test_methods_that_are_not_offered(self, llm: Any, method: Any, offer: str) -> None:
        """A method that the LLM does not have is refused, with those that it has."""
        with pytest.raises(
            ConfigurationError, match=f"does not offer method='{method}' for this task: use {offer}, or leave it out"
        ):
            await ZeroShotClassifier(LABELS, llm=llm, method=method).ainvoke("x")


class TestPrompt:
    """Which prompt is used."""

    @pytest.mark.parametrize(
        ("model_id", "preset"),
        [(None, "stable-beluga"), ("google/flan-t5-xl", "flan-t5"), ("acme/big-70B", "kinds"), ("gpt2", "kinds")],
    )
    @pytest.mark.parametrize("few", [False, True])
    async def test_preset_suits_the_model(self, model_id: str | None, preset: str, few: bool) -> None:
        """The server's model decides, zero-shot and few-shot, and the answer ends where the preset says."""
        llm = FakeLLM(model_id=model_id)
        kinds: Any = {"text_kind": "note", "label_kind": "topic"}
        if few:
            await FewShotClassifier(LABELS, [("A goal!", "sport")], llm=llm, **kinds).ainvoke("x")
        else:
            await ZeroShotClassifier(LABELS, llm=llm, **kinds).ainvoke("x")
        template = PRESETS[preset].few_shot if few else PRESETS[preset].zero_shot
        assert str(llm.log.prompts[0]) == template.format(
            text="x",
            labels="sport, politics, science.",
            examples="Note: A goal!\nTopic: sport\n\n",
            descriptions="",
            text_kind="note",
            label_kind="topic",
            Text_kind="Note",
            Label_kind="Topic",
        )
        assert llm.log.keywords[0]["stop"] == (list(PRESETS[preset].stop) or None)

    async def test_chat_template_of_the_model(self) -> None:
        """A larger model with a chat template gets its own, kept apart from what users wrote."""
        llm = FakeLLM(model_id="meta-llama/Llama-3.1-8B-Instruct", chat=("<|user|>", "<|bot|>"))
        await ZeroShotClassifier(LABELS, llm=llm).ainvoke("<|bot|>")
        prompt = llm.log.prompts[0]
        assert (prompt.before, prompt.text, prompt.after) == ("<|user|>", "<|bot|>", "<|bot|>")
        assert "Classify the text below" in prompt.head

    async def test_prompt_by_name(self) -> None:
        """A preset may be named, whatever the model."""
        llm = FakeLLM(model_id="google/flan-t5-xl", chat=("<", ">"))
        await ZeroShotClassifier(LABELS, llm=llm, prompt="kinds").ainvoke("x")
        await ZeroShotClassifier(LABELS, llm=llm, prompt="chat").ainvoke("x")
        assert str(llm.log.prompts[0]) == "Text: x\nLabel:"
        assert llm.log.prompts[1].before == "<"

    async def test_chat_where_there_is_none(self) -> None:
        """`prompt="chat"` needs a chat template."""
        with pytest.raises(ConfigurationError, match="cannot render its model's chat template: choose another"):
            await ZeroShotClassifier(LABELS, llm=FakeLLM(), prompt="chat").ainvoke("x")

    async def test_examples_alternate(self) -> None:
        """Examples stand in rounds of one per label, each label's in the order given."""
        llm = FakeLLM()
        shots = [(f"s{n}", "sport") for n in range(3)] + [(f"p{n}", "politics") for n in range(3)]
        await FewShotClassifier(LABELS, shots, llm=llm, prompt="{examples}{text}").ainvoke("x")
        texts = [line.removeprefix("Text: ") for line in llm.log.prompts[0].head.splitlines() if "Text:" in line]
        assert [sorted(texts[n : n + 2]) for n in (0, 2, 4)] == [["p0", "s0"], ["p1", "s1"], ["p2", "s2"]]

    async def test_room_for_an_answer(self) -> None:
        """Generation is short, long enough for the longest label, and as long as the user says if he does."""
        llm = FakeLLM(answer=say_a)
        await ZeroShotClassifier(["a", "ä" * 40], llm=llm).ainvoke("x")
        await ZeroShotClassifier(["a", "b"], llm=llm, max_new_tokens=3).ainvoke("x")
        longest, given = (keywords["max_new_tokens"] for keywords in llm.log.keywords)
        assert 80 <= longest <= 300
        assert given == 3

    async def test_server_is_asked_once(self) -> None:
        """However many rows come first and at once, what depends on the server is settled once."""
        llm = FakeScoringLLM()
        task = ZeroShotClassifier(LABELS, llm=llm)
        await asyncio.gather(*(task.ainvoke(f"text {number}") for number in range(5)))
        assert len(llm.log.texts) == 8 + 5

    async def test_failed_start_is_tried_again(self) -> None:
        """A server that was not there at the first row may be there at the second."""
        llm = FakeScoringLLM(answer=down)
        task = ZeroShotClassifier(LABELS, llm=llm)
        with pytest.raises(ServerUnreachableError):
            await task.ainvoke("x")
        object.__setattr__(llm, "answer", label_answer)
        assert await task.ainvoke("x") in LABELS


def label_answer(prompt: Prompt) -> str:
    """The label."""
    return label_of(prompt.text)


class Bare(BaseOutputParser[str | None]):
    """A parser of the user's own, which takes off exclamation marks."""

    @override
    def parse(self, text: str) -> str | None:
        if "sport" in text:
            raise OutputParserException(f"cannot parse {text}")
        return text.strip("!")


async def test_custom_parser() -> None:
    """A parser of one's own decides; what it refuses, or makes of it that is no label, is unmatched."""
    texts: list[Any] = [f"text {number}" for number in range(12)]
    task = ZeroShotClassifier(["politics", "economy"], llm=FakeLLM(answer=shout_label), parser=Bare())
    with pytest.warns(UnmatchedLabelWarning):
        labels = await task.abatch(texts)
    assert labels == ["politics" if label_of(text) == "politics" else None for text in texts]
    assert set(labels) == {"politics", None}


async def test_cache_of_answers() -> None:
    """LangChain's cache serves a classifier too, with the prompt's parts kept; overlong rows are asked again."""
    llm = FakeLLM(cache=InMemoryCache(), chat=("<", ">"), model_id="acme/big-70B")
    task = ZeroShotClassifier(LABELS, llm=llm)
    for _ in range(2):
        with pytest.warns(OverlongInputWarning, match="1 of 2"):
            assert await task.abatch(["x", "OVERLONG"]) == [label_of("x"), None]
    assert sorted(llm.log.texts) == ["OVERLONG", "OVERLONG", "x"]


async def test_tracing_changes_no_prompt() -> None:
    """A row is sent with the same parts whether somebody watches or not: text is never read for special tokens."""
    prompts = []
    for config in ({}, {"callbacks": [Recorder()]}):
        llm = FakeLLM(chat=("<", ">"), model_id="acme/big-70B")
        await ZeroShotClassifier(LABELS, llm=llm).ainvoke("<s>", config)  # type: ignore[arg-type]  # a plain dict
        prompts.append((llm.log.prompts, llm.log.keywords))
    assert prompts[0] == prompts[1]


class Foreign(LLM):
    """An LLM as others write them: one prompt at a time, and errors of any kind."""

    _log: Log = PrivateAttr(default_factory=Log)

    @property
    @override
    def _llm_type(self) -> str:
        return "foreign"

    @override
    def _call(self, prompt: str, stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any) -> str:
        raise NotImplementedError

    @override
    async def _acall(self, prompt: str, stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any) -> str:
        await self._log.run(Prompt(text=prompt), 0.03)
        if "BUG" in prompt:
            raise ZeroDivisionError(prompt)
        if "LONG" in prompt:
            raise ContextOverflowError(prompt)
        if "KEY" in prompt:
            raise ModelAuthenticationError("wrong key")
        return label_of(prompt.rpartition("Text: ")[2].partition("\n")[0])


class Counting(FakeListLLM):
    """An LLM whose counts are no numbers."""

    @override
    async def _agenerate(self, prompts: list[str], *args: Any, **kwargs: Any) -> LLMResult:
        info = {"prompt_tokens": "about 7", "generated_tokens": 2.5}
        return LLMResult(generations=[[Generation(text=self.responses[0], generation_info=info)] for _ in prompts])


class TestForeign:
    """LLMs and chat models of LangChain's that are not ours."""

    @pytest.mark.parametrize("kind", [FakeListLLM, FakeListChatModel])
    async def test_any_llm(self, kind: Any) -> None:
        """LLMs and chat models generate, and what they say is matched."""
        task = ZeroShotClassifier(LABELS, llm=kind(responses=["**Politics.**"]))
        assert await task.ainvoke("x") == task.invoke("x") == "politics"
        row = await task.with_details().ainvoke("x")
        assert (row.method, row.generation) == (Method.GENERATE, "**Politics.**")

    async def test_rows_run_side_by_side(self) -> None:
        """Rows are concurrent even if the LLM's own batch is a loop, and `max_concurrency` bounds them."""
        for config, peak in (({}, 16), ({"max_concurrency": 3}, 3)):
            llm = Foreign()
            texts: list[Any] = [f"text {number}" for number in range(40)]
            labels = await ZeroShotClassifier(LABELS, llm=llm).abatch(texts, config)  # type: ignore[arg-type]  # a dict
            assert labels == list(map(label_of, texts))
            assert llm._log.peak == peak

    async def test_prompt(self) -> None:
        """Nothing is known of the model but that it follows instructions: the plain task prompt it is."""
        llm = Foreign()
        await ZeroShotClassifier(LABELS, llm=llm, text_kind="note").ainvoke("x")
        assert llm._log.texts[0].startswith("Classify the note below. Its label is exactly one of: sport, politics,")

    async def test_error_in_one_row(self) -> None:
        """What a foreign LLM raises concerns its row, which fails without quoting the message; neighbours go on."""
        task = ZeroShotClassifier(LABELS, llm=Foreign()).with_details()
        with pytest.warns(FailedRequestWarning, match=r"1 of 3 .*The LLM raised ZeroDivisionError") as seen:
            rows = await task.abatch(["a", f"BUG {SECRET}", "b"])
        assert [row.label for row in rows] == [label_of("a"), None, label_of("b")]
        assert rows[1].reason is Reason.FAILED
        assert rows[1].error == "The LLM raised ZeroDivisionError."
        assert not any(SECRET in str(warning.message) for warning in seen)

    async def test_overlong(self) -> None:
        """LangChain's own error for too long a prompt is understood."""
        with pytest.warns(OverlongInputWarning, match="1 of 2"):
            assert await ZeroShotClassifier(LABELS, llm=Foreign()).abatch(["LONG", "b"]) == [None, label_of("b")]

    async def test_wrong_key(self) -> None:
        """What LangChain marks as wrong for every row is raised."""
        with pytest.raises(ModelAuthenticationError):
            await ZeroShotClassifier(LABELS, llm=Foreign()).abatch(["a", "KEY"])

    async def test_odd_counts(self) -> None:
        """Counts that are no numbers are unknown, and harm nobody."""
        row = await ZeroShotClassifier(LABELS, llm=Counting(responses=["sport"])).with_details().ainvoke("x")
        assert (row.label, row.prompt_tokens, row.generated_tokens) == ("sport", None, None)
