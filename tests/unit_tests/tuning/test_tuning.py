"""`tune`: what is tried and asked, what comes back, and what is refused before anything is asked."""

from __future__ import annotations

import asyncio
import enum
import random
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import rich
from fakes import SECRET, FakeLLM, FakeScoringLLM
from langchain_core.prompts import PromptTemplate

from langchain_stormtrooper import (
    ConfigurationError,
    FailedRequestWarning,
    FewShotClassifier,
    LabelError,
    Ledger,
    PromptError,
    RequestFailedError,
    ServerUnreachableError,
    Tuned,
    TuningEvidence,
    ZeroShotClassifier,
    atune,
    tune,
)
from langchain_stormtrooper.calibration import Calibration
from langchain_stormtrooper.prompts import Prompt

NAMES = ["negative", "positive"]
TEXTS = [f"{SECRET} {name} {number}" for number in range(60) for name in NAMES]
RIGHT = [name for _ in range(60) for name in NAMES]


def kind_of(prompt: Prompt) -> tuple[str, int]:
    """Which preset a prompt is of, and how many examples it has."""
    said = str(prompt)
    preset = "task" if "Classify the" in said else "flan-t5" if "Which label" in said else "kinds"
    return preset, said.count("Text: ") - 1


def skilled(skills: Callable[[str, int], float]) -> Callable[[Prompt, Sequence[str]], tuple[float, ...]]:
    """A model that is right on the share of texts that prompt and number of examples give it, and leans nowhere."""

    def score(prompt: Prompt, answers: Sequence[str]) -> tuple[float, ...]:
        preset, examples = kind_of(prompt)
        true = next((name for name in NAMES if f" {name} " in prompt.text), None)
        if true is None:
            return (1 / len(answers),) * len(answers)
        # The same luck for all ways of asking: of nested skills, the better one is right on more of the same texts.
        is_right = random.Random(prompt.text).random() < skills(preset, examples)
        return tuple(0.9 if (answer.strip() == true) == is_right else 0.1 for answer in answers)

    return score


def model(skills: Callable[[str, int], float], **settings: Any) -> FakeScoringLLM:
    """An LLM of such skills."""
    return FakeScoringLLM(score=skilled(skills), **settings)


def asked(llm: FakeLLM) -> Counter[tuple[str, int]]:
    """How many texts were asked with which prompt and how many examples; what shows the lean is left out."""
    return Counter(kind_of(prompt) for prompt in llm.log.prompts if SECRET in prompt.text)


def helps(preset: str, examples: int) -> float:
    """Examples help, and more of them help no more than four."""
    return {0: 0.5, 2: 0.6}.get(examples, 0.95)


def hurts(preset: str, examples: int) -> float:
    """Examples hurt."""
    return 0.9 if not examples else 0.5


class TestChoosing:
    """What is chosen."""

    def test_examples_that_help_are_taken_as_few_as_will_do(self) -> None:
        """Of several numbers that are as good, the smallest is chosen, and the classifier has just these examples."""
        llm = model(helps)
        tuned = tune(TEXTS, RIGHT, llm=llm, prompts=["kinds"])
        assert isinstance(tuned.classifier, FewShotClassifier)
        assert Counter(example.label for example in tuned.classifier.examples) == dict.fromkeys(NAMES, 2)
        assert (tuned.evidence.best.n_examples, tuned.evidence.best.examples) == (2, 4)
        assert tuned.evidence.candidates[0].drop is not None
        assert any("Examples help" in remark for remark in tuned.evidence.remarks)
        assert tuned.classifier.invoke(TEXTS[0]) in NAMES

    def test_where_examples_hurt_it_is_noticed(self) -> None:
        """The choice is zero-shot, and the evidence says that examples were shown to hurt, and how many texts."""
        tuned = tune(TEXTS, RIGHT, llm=model(hurts), prompts=["kinds"])
        assert isinstance(tuned.classifier, ZeroShotClassifier)
        evidence = tuned.evidence
        assert evidence.chosen == 0
        assert all(candidate.drop is not None for candidate in evidence.candidates[1:])
        (remark,) = evidence.remarks
        assert remark.startswith("Examples hurt: 4 of the 4 candidates")
        assert evidence.stopped == "one left"

    def test_examples_that_change_nothing_are_left_out(self) -> None:
        """Candidates that agree end the search early, with the simplest and cheapest."""
        llm = model(lambda preset, examples: 0.8)
        tuned = tune(TEXTS, RIGHT, llm=llm, prompts=["task", "kinds"])
        assert type(tuned.classifier) is ZeroShotClassifier
        assert tuned.evidence.stopped == "nothing to show"
        assert tuned.evidence.answered < 10 * tuned.evidence.texts
        assert tuned.evidence.remarks == ("Examples were not shown to help, so that one without was chosen.",)

    def test_a_better_prompt_is_found(self) -> None:
        """Presets, templates and descriptions are tried with each other, and the best one comes back."""
        template = PromptTemplate.from_template("Which label? {labels}\n{text}\nAnswer:")
        llm = model(lambda preset, examples: 0.95 if preset == "flan-t5" else 0.5)
        described = {"negative": "bad things"}
        tuned = tune(TEXTS, RIGHT, llm=llm, prompts=["kinds", template], descriptions=[None, described], n_examples=[0])
        assert tuned.classifier.prompt == template
        assert [(one.prompt, one.descriptions) for one in tuned.evidence.candidates] == [
            ("kinds", 0),
            ("template 1", 0),
            ("kinds", 1),
            ("template 1", 1),
        ]
        assert tuned.evidence.best.prompt == "template 1"
        assert tuned.evidence.remarks == ()

    def test_of_equally_good_ones_the_shortest_prompt_is_chosen(self) -> None:
        """Tokens decide between prompts that are right as often."""
        answer = {name: name for name in NAMES}
        llm = FakeLLM(answer=lambda prompt: next(answer[name] for name in NAMES if f" {name} " in prompt.text))
        tuned = tune(TEXTS, RIGHT, llm=llm, prompts=["task", "kinds", "flan-t5"], n_examples=[0])
        assert tuned.evidence.best.prompt == "kinds"
        tokens = [candidate.prompt_tokens for candidate in tuned.evidence.candidates]
        assert tokens[1] == min(token for token in tokens if token is not None)

    def test_it_is_compared_as_it_will_be_used(self) -> None:
        """A model that leans is judged with its lean taken out, if that is the classifier's prior."""

        def leaning(prompt: Prompt, answers: Sequence[str]) -> tuple[float, ...]:
            lean = 0.99 if kind_of(prompt)[0] == "kinds" else 0.6
            true = next((name for name in NAMES if f" {name} " in prompt.text), None)
            is_right = random.Random(prompt.text).random() < (0.95 if kind_of(prompt)[0] == "kinds" else 0.7)
            odds = [(lean, 1 - lean)[position] for position in range(2)]
            for position, answer in enumerate(answers):
                odds[position] *= 4 if true and (answer.strip() == true) == is_right else 1
            return tuple(value / sum(odds) for value in odds)

        def chosen(prior: str | None) -> str:
            llm = FakeScoringLLM(score=leaning)
            tuned = tune(TEXTS, RIGHT, llm=llm, prior=prior, prompts=["kinds", "task"], n_examples=[0])
            return tuned.evidence.best.prompt

        assert chosen("words") == "kinds"
        assert chosen(None) == "task"


class TestAsking:
    """What is asked."""

    def test_all_answer_the_same_texts_and_none_its_examples(self) -> None:
        """Each candidate answers the first texts of one order, as many as it was in the race for; no example is one."""
        llm = model(helps)
        tuned = tune(TEXTS, RIGHT, llm=llm, prompts=["kinds", "task"])
        by_kind: dict[tuple[str, int], list[str]] = {}
        shown: set[str] = set()
        for prompt in llm.log.prompts:
            if SECRET in prompt.text:
                by_kind.setdefault(kind_of(prompt), []).append(prompt.text)
            shown |= {text for text in TEXTS if f"Text: {text}\nLabel: " in prompt.head}
        longest = max(by_kind.values(), key=len)
        for candidate in tuned.evidence.candidates:
            texts = by_kind[candidate.prompt, candidate.examples]
            assert set(texts) == set(longest[: candidate.texts])
            assert len(texts) == candidate.texts
        assert len(shown) == tuned.evidence.held == 16
        assert not shown & set(longest)
        assert len(longest) <= tuned.evidence.texts == len(TEXTS) - 16
        assert sum(asked(llm).values()) == tuned.evidence.answered

    def test_the_same_seed_gives_the_same_result(self) -> None:
        """However many rows are asked at once, and whichever face is used; another seed gives another split."""
        runs = [tune(TEXTS, RIGHT, llm=model(helps, places=places, delay=0.0005), seed=3) for places in (1, 7, 300)]
        assert runs[0].evidence == runs[1].evidence == runs[2].evidence
        assert runs[0].classifier.examples == runs[2].classifier.examples  # type: ignore[attr-defined]
        assert asyncio.run(atune(TEXTS, RIGHT, llm=model(helps), seed=3)).evidence == runs[0].evidence
        other = tune(TEXTS, RIGHT, llm=model(helps), seed=4)
        assert other.classifier.examples != runs[0].classifier.examples  # type: ignore[attr-defined]

    @pytest.mark.parametrize("budget", [60, 150, 300, 700])
    def test_the_budget_is_kept(self, budget: int) -> None:
        """No more rows are classified than were allowed, and the evidence says why it ended."""
        llm = model(lambda preset, examples: 0.75 if examples else 0.65)
        tuned = tune(TEXTS, RIGHT, llm=llm, prompts=["kinds"], budget=budget)
        assert sum(asked(llm).values()) == tuned.evidence.answered <= budget
        if budget == 150:
            assert tuned.evidence.stopped == "budget"
            # What is left would not pay for a text more.
            last = max(one.texts for one in tuned.evidence.candidates)
            assert budget - tuned.evidence.answered < sum(one.texts == last for one in tuned.evidence.candidates)
        # Each candidate's lean takes eight more.
        assert len(llm.log.prompts) == tuned.evidence.answered + 8 * len(tuned.evidence.candidates)

    def test_places_are_filled(self) -> None:
        """An LLM with many places is asked for several candidates at once, one with few for one after another."""
        wide, narrow = model(hurts, places=200, delay=0.001), model(hurts, places=4, delay=0.0001)
        tune(TEXTS, RIGHT, llm=wide, prompts=["kinds"])
        tune(TEXTS, RIGHT, llm=narrow, prompts=["kinds"])
        assert wide.log.peak > 24
        assert narrow.log.peak == 4

    def test_a_prompt_that_is_another_with_this_model_is_left_out(self) -> None:
        """What suits the model may be a preset that is tried, too: it is asked once, and the evidence says so."""
        llm = model(hurts, model_id="Some-135M")
        tuned = tune(TEXTS, RIGHT, llm=llm, n_examples=[0, 2])
        assert [candidate.prompt for candidate in tuned.evidence.candidates] == ["default", "task"] * 2
        assert any(remark.startswith("2 of the candidates ask in the same way") for remark in tuned.evidence.remarks)

    def test_examples_of_ones_own(self) -> None:
        """A pool, or a few-shot classifier's examples, are taken as they come, and all texts are compared on."""
        pool = [(f"known {name} {number}", name) for number in range(5) for name in NAMES]
        tuned = tune(TEXTS, RIGHT, llm=model(helps), prompts=["kinds"], examples=pool)
        assert (tuned.evidence.texts, tuned.evidence.held) == (120, 0)
        assert [one.examples for one in tuned.evidence.candidates] == [0, 2, 4, 8, 10]
        assert isinstance(tuned.classifier, FewShotClassifier)
        assert {example.text for example in tuned.classifier.examples} == {text for text, _ in pool[:4]}
        base = FewShotClassifier(NAMES, pool, llm=model(hurts), prompt="kinds", text_kind="remark", n_examples=3)
        other = tune(TEXTS, RIGHT, classifier=base, n_examples=[0, 2])
        assert type(other.classifier) is ZeroShotClassifier
        assert (other.classifier.text_kind, other.classifier.llm) == ("remark", base.llm)

    def test_rows_may_be_dicts_and_labels_enum_members(self) -> None:
        """Texts are found under the classifier's key, labels are the Enum's."""

        class Tone(enum.Enum):
            POSITIVE = "positive"
            NEGATIVE = "negative"

        tuned = tune(
            ({"body": text} for text in TEXTS), map(Tone, RIGHT), llm=model(hurts), text_key="body", prompts=["kinds"]
        )
        assert tuned.classifier.labels.names == ("positive", "negative")
        assert tuned.evidence.best.accuracy > 0.7


class TestTrouble:
    """Requests that fail, servers that are gone."""

    def test_a_failed_row_speaks_for_nobody(self) -> None:
        """A text that one candidate got no answer for is wrong for all, counted and warned about once."""
        broken = set(TEXTS[::9])

        def answer(prompt: Prompt) -> str:
            if prompt.text in broken and kind_of(prompt)[1] == 2:
                raise RequestFailedError("The model failed (500).")
            return ""

        llm = model(lambda preset, examples: 1.0, answer=answer)
        with pytest.warns(FailedRequestWarning, match="requests failed; each text") as seen:
            tuned = tune(TEXTS, RIGHT, llm=llm, prompts=["kinds"], n_examples=[0, 1])
        assert [warning.filename for warning in seen] == [__file__]
        bare, few = tuned.evidence.candidates
        assert few.failed > 0 == bare.failed
        assert (few.better, few.worse) == (0, 0)
        assert bare.right == few.right == few.texts - few.failed
        assert any("requests failed" in remark for remark in tuned.evidence.remarks)

    def test_rows_without_a_label_are_wrong(self) -> None:
        """What is too long, or no label, is the candidate's own mistake, and counted apart."""
        llm = FakeLLM(answer=lambda prompt: "hm" if kind_of(prompt)[1] else prompt.text.split()[-2])
        tuned = tune(TEXTS, RIGHT, llm=llm, prompts=["kinds"], n_examples=[0, 1])
        bare, few = tuned.evidence.candidates
        assert (bare.unlabelled, few.unlabelled, few.right) == (0, few.texts, 0)
        assert few.drop is not None

    def test_a_candidate_that_always_fails_is_named(self) -> None:
        """It cannot be compared, and the error says which it is and why, without a text."""

        def answer(prompt: Prompt) -> str:
            if kind_of(prompt)[1] == 4 and SECRET in prompt.text:
                raise RequestFailedError("The model failed (500).")
            return ""

        with pytest.raises(ConfigurationError, match=r"prompt 'kinds' and 4 examples failed \(The model") as caught:
            tune(TEXTS, RIGHT, llm=model(helps, answer=answer), prompts=["kinds"])
        assert SECRET not in str(caught.value)

    def test_a_dead_server_raises_and_a_ledger_loses_nothing(self, tmp_path: Path) -> None:
        """What was answered before is not asked again, and the end is as if nothing had been."""
        count = 0

        def answer(prompt: Prompt) -> str:
            nonlocal count
            count += SECRET in prompt.text
            if count >= 100:
                raise ServerUnreachableError("The server at http://127.0.0.1:9 refused the connection: start it.")
            return ""

        plain = tune(TEXTS, RIGHT, llm=model(helps), prompts=["kinds"]).evidence
        path = tmp_path / "search.sqlite"
        first = model(helps, answer=answer, places=1)
        with pytest.raises(ServerUnreachableError):
            tune(TEXTS, RIGHT, llm=first, prompts=["kinds"], ledger=path)
        second = model(helps)
        with Ledger(path) as ledger:
            assert len(ledger) == 99
            tuned = tune(TEXTS, RIGHT, llm=second, prompts=["kinds"], ledger=ledger)
        assert tuned.evidence == plain
        assert sum(asked(second).values()) == plain.answered - 99


class TestEvidence:
    """What is told."""

    @pytest.fixture(scope="class")
    @classmethod
    def tuned(cls) -> Tuned:
        """A search with descriptions."""
        return tune(
            [*TEXTS, TEXTS[0].upper()],
            [*RIGHT, RIGHT[0]],
            llm=model(hurts),
            prompts=["kinds", "task"],
            descriptions=[None, {"positive": "praise"}],
        )

    def test_it_comes_back_from_json(self, tuned: Tuned, tmp_path: Path) -> None:
        """Saved and loaded, it is the same."""
        tuned.evidence.save(tmp_path / "evidence.json")
        assert TuningEvidence.load(tmp_path / "evidence.json") == tuned.evidence

    def test_no_text_is_in_it(self, tuned: Tuned, capsys: pytest.CaptureFixture[str]) -> None:
        """Neither in JSON nor in the table nor in the repr is a text or an example."""
        rich.print(tuned)
        for said in (tuned.evidence.to_json(), repr(tuned), capsys.readouterr().out):
            assert SECRET not in said

    def test_the_table(self, tuned: Tuned) -> None:
        """A line for each candidate with its figures, and the remarks."""
        console = rich.console.Console(width=130)
        with console.capture() as capture:
            console.print(tuned)
        said = capture.get()
        lines = said.splitlines()
        for number, candidate in enumerate(tuned.evidence.candidates):
            cells = lines[1 + number].split()
            assert cells[:4] == [str(number), candidate.prompt, str(candidate.descriptions), str(candidate.examples)]
            assert cells[4:7] == [str(candidate.right), str(candidate.texts), f"{candidate.accuracy:.0%}"]
            assert ("dropped after" in lines[1 + number]) == (candidate.drop is not None)
        assert "chosen" in lines[1 + tuned.evidence.chosen]
        assert "Examples hurt" in said
        assert "1 of the texts repeats another" in " ".join(said.split())

    def test_the_numbers_fit_together(self, tuned: Tuned) -> None:
        """Counts of pairs are differences of right answers, and who left was shown to be worse."""
        evidence = tuned.evidence
        assert sum(candidate.texts for candidate in evidence.candidates) == evidence.answered
        for candidate in evidence.candidates:
            if candidate.texts == evidence.best.texts:
                assert candidate.better - candidate.worse == candidate.right - evidence.best.right
            if candidate.drop is not None:
                assert candidate.drop.p_value <= evidence.final_level
                assert candidate.drop.after == candidate.texts
        assert evidence.best.drop is None
        assert (evidence.best.better, evidence.best.worse, evidence.best.p_value) == (0, 0, 1)

    def test_rare_labels_are_told(self) -> None:
        """Labels with few examples, or without a text, are named."""
        texts, right = [*TEXTS, "one rare thing"], [*RIGHT, "mixed"]
        base = ZeroShotClassifier([*NAMES, "mixed", "unknown"], llm=model(hurts), prompt="kinds")
        tuned = tune(texts, right, classifier=base, n_examples=[0, 2])
        said = " ".join(tuned.evidence.remarks)
        assert "1 of 4 labels have no text ('unknown')" in said
        assert "2 of 4 labels have fewer examples than 2, the most that was tried: 'mixed', 'unknown'" in said


class TestRefused:
    """What is refused before anything is asked."""

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"texts": TEXTS[:4], "labels": RIGHT[:4], "n_examples": [0, 1]}, ConfigurationError, "no more examples"),
            ({"texts": TEXTS[:6], "labels": RIGHT[:6]}, ConfigurationError, "too few"),
            ({"labels": RIGHT[1:]}, ConfigurationError, "differ"),
            ({"labels": set(RIGHT)}, ConfigurationError, "a set has none"),
            ({"labels": [1, *RIGHT[1:]]}, ConfigurationError, r"labels\[0\] is of type int"),
            ({"texts": [7, *TEXTS[1:]]}, PromptError, "Row 0 of `texts`"),
            ({"prompts": []}, ConfigurationError, "`prompts=` is empty"),
            ({"prompts": "kinds"}, ConfigurationError, "`prompts=` must be a list"),
            ({"prompts": ["kinds", "task", "kinds"]}, ConfigurationError, "`prompts=` has one of them twice"),
            ({"prompts": ["{text} {examples}"] * 2}, ConfigurationError, "`prompts=` has one of them twice"),
            ({"prompts": ["kindz"]}, PromptError, "neither a preset"),
            ({"prompts": ["kinds", "{labels}"]}, PromptError, r"no \{text\}"),
            ({"prompts": ["kinds", "{text}"]}, PromptError, r"no \{examples\}"),
            ({"descriptions": {"positive": "x"}}, ConfigurationError, "`descriptions=` must be a list"),
            ({"descriptions": ["praise"]}, ConfigurationError, "must be a list of dicts"),
            ({"descriptions": [{"posittive": "praise"}]}, LabelError, "'posittive'"),
            ({"descriptions": [None, {}]}, ConfigurationError, "`descriptions=` has one of them twice"),
            ({"n_examples": [0, 2, 2]}, ConfigurationError, "`n_examples=` has one of them twice"),
            ({"n_examples": [0, -1]}, ConfigurationError, "whole numbers from 0 on"),
            ({"n_examples": [0, True]}, ConfigurationError, "whole numbers from 0 on"),
            ({"n_examples": 4}, ConfigurationError, "`n_examples=` must be a list"),
            ({"n_examples": [0, 20, 21]}, ConfigurationError, "no more examples than for 20"),
            ({"n_examples": [0], "prompts": ["kinds"]}, ConfigurationError, "There is one candidate"),
            ({"seed": "a"}, ConfigurationError, "`seed=` is 'a': it must be a whole number"),
            ({"seed": "7"}, ConfigurationError, "`seed=` is '7'"),
            ({"seed": None}, ConfigurationError, "`seed=` is None"),
            ({"seed": 1.5}, ConfigurationError, r"`seed=` is 1\.5"),
            ({"ledger": 3}, ConfigurationError, "`ledger=` must be a `Ledger` or the path of one, not int"),
            ({"labels": [1, 2] * 60}, ConfigurationError, r"labels\[0\] is of type int, and labels must be strings"),
            ({"labels": [["positive"]] * 120}, ConfigurationError, "list, .*MultiLabelClassifier"),
            ({"labels": [*RIGHT[:7], " ", *RIGHT[8:]]}, ConfigurationError, r"labels\[7\] is blank"),
            ({"labels": [None, *RIGHT[1:]]}, ConfigurationError, r"labels\[0\] is None.* set `out_of_scope=`"),
            ({"texts": [SECRET] * 120}, ConfigurationError, "too few .* 119 of the texts repeat others"),
            ({"prompts": [None, "Review: {text}"]}, PromptError, r"no \{examples\}.*, or set `n_examples=\[0\]`"),
            ({"budget": 0}, ConfigurationError, "`budget=` is 0"),
            ({"budget": 40}, ConfigurationError, "`budget=40` is too small"),
            ({"confidence": 1}, ConfigurationError, "confidence=1"),
            ({"examples": [(TEXTS[3].upper(), "positive")]}, ConfigurationError, "1 of 120 texts are examples, too"),
            ({"examples": [("some", "neutral")]}, LabelError, "neutral"),
            ({"ledger": "/nowhere/at/all.sqlite"}, ConfigurationError, "no directory"),
        ],
    )
    def test_arguments(self, arguments: dict[str, Any], error: type[Exception], message: str) -> None:
        """One sentence that says what to do, without a text."""
        llm = model(helps)
        given = {"texts": TEXTS, "labels": RIGHT, "llm": llm, **arguments}
        with pytest.raises(error, match=message) as caught:
            tune(given.pop("texts"), given.pop("labels"), **given)
        assert SECRET not in str(caught.value)
        assert llm.log.prompts == []

    def test_classifiers(self) -> None:
        """Calibrated ones, those that choose examples by the text, and what is no classifier of one prompt."""
        llm = model(helps)
        bare = ZeroShotClassifier(NAMES, llm=llm)
        learnt = Calibration(labels=tuple(NAMES), task="0" * 64, model_id=None, kind="prior", prior=(0.5, 0.5))
        pool = [("a", "negative"), ("b", "positive")]
        for classifier, settings, message in [
            (bare.model_copy(update={"calibration": learnt}), {}, "belongs to one prompt"),
            (FewShotClassifier(NAMES, pool, llm=llm, select="bm25"), {}, "takes others for each text"),
            (FewShotClassifier(NAMES, pool, llm=llm), {"examples": pool}, "give one of both"),
            (bare.with_details(), {}, "not DetailedClassifier"),
            (bare, {"llm": llm, "text_kind": "x"}, r"\['llm', 'text_kind'\] cannot be given beside it"),
        ]:
            with pytest.raises(ConfigurationError, match=message):
                tune(TEXTS, RIGHT, classifier=classifier, **settings)  # type: ignore[arg-type]  # on purpose
        assert llm.log.prompts == []

    def test_no_scikit_learn_is_needed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Tuning works without any extra."""
        for name in ("sklearn", "numpy", "scipy"):
            monkeypatch.setitem(sys.modules, name, None)
        assert tune(TEXTS, RIGHT, llm=model(hurts), prompts=["kinds"]).evidence.chosen == 0
