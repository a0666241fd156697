"""Which examples stand in a row's prompt, and how many where there is not room for all."""

from __future__ import annotations

import asyncio
import pickle
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from fakes import LABELS, SECRET, FakeLLM, FakeScoringLLM, Recorder, hashed_scores
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.example_selectors import BaseExampleSelector, LengthBasedExampleSelector
from langchain_core.load import dumps
from langchain_core.prompts import PromptTemplate
from typing_extensions import override

from langchain_stormtrooper import (
    Classification,
    Example,
    FewShotClassifier,
    Reason,
    Shortlist,
    TextGenerationInference,
    ZeroShotClassifier,
    load,
)
from langchain_stormtrooper.calibration import Calibration
from langchain_stormtrooper.errors import (
    CalibrationError,
    CalibrationWarning,
    ConfigurationError,
    LabelError,
    OverlongInputError,
    PromptError,
    SettingsWarning,
)
from langchain_stormtrooper.examples import alternate
from langchain_stormtrooper.labels import Label, LabelSet
from langchain_stormtrooper.prompts import Prompt

POOL = [(f"{word} {label}", label) for word in ("red apples", "green pears", "blue plums") for label in LABELS]
WAYS: list[Any] = ["balanced", "fuzzy", "bm25", DeterministicFakeEmbedding(size=8)]


class Words(DeterministicFakeEmbedding):
    """Vectors without meaning, but the same for the same text; counts its calls."""

    size: int = 8
    calls: list[int] = []

    @override
    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.calls.append(len(texts))
        return super().embed_documents(texts)


class Selector(BaseExampleSelector):
    """Names what a function says."""

    def __init__(self, say: Any) -> None:
        self.say = say

    @override
    def add_example(self, example: dict[str, str]) -> Any:
        raise NotImplementedError

    @override
    def select_examples(self, input_variables: dict[str, str]) -> list[Any]:
        found: list[Any] = self.say(input_variables["text"])  # or whatever a wrong one returns
        return found


def limited(limit: int, *, counts: bool = True, tells: bool = True, chars: int = 1) -> FakeScoringLLM:
    """An LLM that takes prompts of so many tokens, each of some characters."""

    class Limited(FakeScoringLLM):
        @override
        async def acount_tokens(self, prompt: Prompt) -> int | None:
            return len(str(prompt)) // chars if counts else None

    def answer(prompt: Prompt) -> str:
        tokens = len(str(prompt)) // chars
        if tokens > limit:
            told = {"tokens": tokens, "limit": limit} if tells else {}
            raise OverlongInputError("The prompt is too long.", **told)
        return LABELS[0]

    return Limited(answer=answer)


def few_shot(llm: Any = None, pool: Any = POOL, **arguments: Any) -> FewShotClassifier:
    """A classifier whose prompts are easy to read."""
    arguments = {"prompt": "{examples}>{text}", "prior": None, **arguments}
    return FewShotClassifier(LABELS, pool, llm=llm or FakeScoringLLM(), **arguments)


def asked(classifier: FewShotClassifier, text: str) -> list[str]:
    """The texts of the examples in the prompt of a text, in order."""
    before = len(classifier.llm.log.prompts)  # type: ignore[attr-defined]  # a fake
    classifier.invoke(text)
    (prompt,) = classifier.llm.log.prompts[before:]  # type: ignore[attr-defined]
    return [line[len("Text: ") :] for line in prompt.head.splitlines() if line.startswith("Text: ")]


def test_a_fixed_set_is_in_rounds_and_bounded() -> None:
    """Without a choice all examples stand in every prompt, in the same rounds as ever; with a number, the first."""
    in_rounds = [e.text for e in alternate([Example(text=t, label=label) for t, label in POOL], LABELS)]
    assert asked(few_shot(), "x") == in_rounds
    assert asked(few_shot(n_examples=4), "x") == asked(few_shot(n_examples=4), "y") == in_rounds[:4]
    assert asked(few_shot(n_examples=99), "x") == in_rounds


@pytest.mark.parametrize("select", WAYS, ids=str)
def test_a_text_is_never_among_its_own_examples(select: Any) -> None:
    """A text that is an example itself, but for case and spacing, is classified without it; all others are there."""
    task = few_shot(select=select, n_examples=9)
    texts = [text for text, _ in POOL]
    assert sorted(asked(task, "something else")) == sorted(texts)
    assert sorted(asked(task, "  RED   apples sport\n")) == sorted(set(texts) - {"red apples sport"})


def test_a_text_that_is_the_only_example_is_classified_without_any() -> None:
    """Where nothing is left, the prompt is the one without examples."""
    task = few_shot(pool=[("same", "sport")], prompt=None)
    alone = ZeroShotClassifier(LABELS, llm=FakeLLM()).get_prompt()
    task.invoke("Same")
    assert str(task.llm.log.prompts[-1]) == alone.format(text="Same")  # type: ignore[attr-defined]
    assert task.with_details().invoke("Same").n_examples == 0


@pytest.mark.parametrize("select", ["fuzzy", "bm25"])
def test_the_most_similar_example_stands_last(select: Any) -> None:
    """The nearest to the text come last, ties by their place among the examples."""
    task = few_shot(select=select, n_examples=3)
    first, second, last = asked(task, "blue plums of science")
    assert last == "blue plums science"
    assert {first, second} == {"blue plums sport", "blue plums politics"}
    assert asked(task, "?") == [text for text, _ in POOL[:3]][::-1]


def test_the_labels_of_the_nearest_can_be_bounded() -> None:
    """With a bound, further examples of a label make room for those of others."""
    pool = [*((f"red apple {n}", "sport") for n in range(5)), ("tree", "politics"), ("stone", "science")]
    free = few_shot(pool=pool, select="bm25", n_examples=3)
    bounded = few_shot(pool=pool, select="bm25", n_examples=3, max_per_label=1)
    assert asked(free, "red apple") == ["red apple 2", "red apple 1", "red apple 0"]
    assert asked(bounded, "red apple") == ["stone", "tree", "red apple 0"]


def test_embeddings_are_asked_for_many_texts_at_once() -> None:
    """The examples are embedded once, and the rows of a batch, a traced batch and a stream together."""
    embeddings, texts = Words(calls=[]), [f"text {n}" for n in range(40)]
    task = few_shot(FakeScoringLLM(places=2), select=embeddings)
    task.batch(texts)
    assert embeddings.calls == [9, 40]
    task.batch([text + "!" for text in texts], {"callbacks": [Recorder()]})
    assert embeddings.calls == [9, 40, 40]
    slow = few_shot(FakeScoringLLM(places=2, delay=0.005), select=(streaming := Words(calls=[])))
    list(slow.stream_rows(texts, window=20))
    assert streaming.calls[0] == 9
    assert sum(streaming.calls[1:]) == 40
    assert len(streaming.calls[1:]) <= 8

    async def serve() -> None:
        await asyncio.gather(*(task.ainvoke(text + ".") for text in texts))

    asyncio.run(serve())
    assert embeddings.calls == [9, 40, 40, 40]


@pytest.mark.parametrize("select", WAYS, ids=str)
def test_answers_do_not_depend_on_neighbours(select: Any) -> None:
    """A row's prompt is the same alone, in any batch and in any order."""
    texts = [f"{word} {n}" for n, word in enumerate(["red apples", "pears", "plums", "sport", "science", "??"] * 4)]
    task = few_shot(select=select, n_examples=4)
    task.batch(texts)
    together = {prompt.text: str(prompt) for prompt in task.llm.log.prompts}  # type: ignore[attr-defined]
    assert set(together) == set(texts)
    task.batch(texts[::-1], {"max_concurrency": 3})
    for text in texts:
        task.invoke(text)
    assert {str(prompt) for prompt in task.llm.log.prompts} == set(together.values())  # type: ignore[attr-defined]


def test_a_failing_embedding_fails_its_row_alone() -> None:
    """A row without a vector is None, with a reason that shows no text; its neighbours have their labels."""

    class Picky(Words):
        @override
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            if SECRET in texts:
                raise RuntimeError(SECRET)
            return super().embed_documents(texts)

    task = few_shot(select=Picky(calls=[])).with_details()
    with pytest.warns(
        UserWarning, match=r"1 of 3 texts got no label.*made no vector of the text \(RuntimeError\)"
    ) as caught:
        rows = task.batch(["one", SECRET, "two"])
    assert [row.label is None for row in rows] == [False, True, False]
    assert SECRET not in str(rows[1].error) + str(caught[0].message)


def test_a_selector_names_the_examples() -> None:
    """Any LangChain selector may choose: the best first, which then stands last; the text itself is left out."""
    pool = [{"text": text, "label": label} for text, label in POOL]
    selector = LengthBasedExampleSelector(
        examples=pool, example_prompt=PromptTemplate.from_template("{text} {label}"), max_length=12
    )
    task = few_shot(pool=(), select=selector)
    assert asked(task, "x") == [text for text, _ in POOL[:2]][::-1]
    assert asked(task, POOL[0][0]) == [text for text, _ in POOL[1:2]][::-1]
    assert asked(few_shot(pool=(), select=selector, n_examples=1), "x") == [POOL[0][0]]
    assert POOL[0][0] not in repr(task)


FORM = "Selector must name examples as dicts with the texts 'text' and 'label'"


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ([{"input": SECRET}], FORM),
        ([SECRET], FORM),
        ([{"text": SECRET}], FORM),
        ([{"text": SECRET, "label": None}], f"{FORM}; None as a label needs `out_of_scope=`"),
        (None, "Selector must return a list of dicts with the texts 'text' and 'label', not NoneType"),
        ([{"text": SECRET, "label": "economy"}], "Selector names .* with a label that is not among the labels"),
    ],
)
def test_what_a_selector_may_not_name(named: Any, message: str) -> None:
    """Examples of another form or task fail their row alone, and every row's are an error; told without their text."""
    good = [{"text": "a", "label": LABELS[0]}]
    task = few_shot(pool=(), select=Selector(lambda text: named if text == "bad" else good)).with_details()
    with pytest.warns(UserWarning, match=f"1 of 3 texts got no label.*{message}") as warned:
        rows = task.batch(["one", "bad", "two"])
    assert [row.reason for row in rows] == [None, Reason.FAILED, None]
    assert SECRET not in str(rows[1].error) + str(warned[0].message)
    broken = few_shot(pool=(), select=Selector(lambda _: named))
    with pytest.raises(ConfigurationError, match=f"{message}.*failed for each of the first 8 texts") as caught:
        broken.batch([str(number) for number in range(20)])
    assert SECRET not in str(caught.value)


def test_none_from_a_selector_stands_for_the_option() -> None:
    """A selector may name a text that no label fits, as in `examples`."""
    selector = Selector(lambda _: [{"text": "y", "label": None}, {"text": "z", "label": LABELS[0]}])
    task = few_shot(pool=(), select=selector, out_of_scope="none of these")
    assert asked(task, "x") == ["z", "y"]
    assert "Text: y\nLabel: none of these" in str(task.llm.log.prompts[-1])  # type: ignore[attr-defined]


class Dead(Words):
    """Raises for everything, with the texts."""

    @override
    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        raise RuntimeError(str(texts))


class Deaf(Words):
    """Has vectors of examples, and of no other text."""

    @override
    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        if any(SECRET in text for text in texts):
            raise RuntimeError(str(texts))
        return super().embed_documents(texts)


def _dead_selector() -> Selector:
    def say(text: str) -> Any:
        raise RuntimeError(text)

    return Selector(say)


@pytest.mark.parametrize(
    ("arguments", "message", "worked_before"),
    [
        ({"select": Dead()}, "Dead made no vector", False),
        ({"select": Deaf()}, "Deaf made no vector", False),
        ({"select": Deaf()}, "Deaf made no vector", True),
        ({"shortlist": Shortlist(size=2, by=Dead())}, "Dead made no vector", False),
        ({"select": _dead_selector(), "pool": ()}, "Selector found no examples", False),
    ],
)
def test_what_fails_for_every_row_is_raised(arguments: dict[str, Any], message: str, worked_before: bool) -> None:
    """A dead model or selector ends the call at the eighth text, and tells the error's class alone; seven are rows'."""
    task = few_shot(**arguments)
    texts = [f"{SECRET} {number}" for number in range(20)]
    if worked_before:
        task.invoke("fine")
    with pytest.warns(UserWarning, match=f"7 of 7 texts got no label.*{message}"):
        assert task.batch(texts[:7]) == [None] * 7
    with pytest.raises(ConfigurationError, match=rf"{message}.*\(RuntimeError\), and has failed for each") as caught:
        task.batch(texts)
    shown: BaseException | None = caught.value
    while shown is not None:
        assert SECRET not in str(shown)
        shown = shown.__cause__ or shown.__context__


def test_a_selector_that_fails_fails_its_row() -> None:
    """What a selector raises concerns the row, and is named without its words."""
    task = few_shot(pool=(), select=Selector(lambda text: [{"text": "a", "label": "sport"}][1 // (text != "bad") :]))
    with pytest.warns(UserWarning, match=r"Selector found no examples \(ZeroDivisionError\)"):
        assert [label is None for label in task.batch(["fine", "bad"])] == [False, True]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"select": "random"}, "'bm25', a LangChain `Embeddings` or a LangChain example selector, not 'random'"),
        ({"select": 3}, "selector, not int"),
        ({"n_examples": 0}, "`n_examples=`"),
        ({"n_examples": True}, "`n_examples=` is True"),
        ({"max_per_label": 0, "select": "bm25"}, "`max_per_label=`"),
        ({"max_per_label": True, "select": "bm25"}, "`max_per_label=` is True"),
        ({"max_per_label": 1}, "for the nearest examples"),
        ({"select": Selector(None)}, "exclude each other"),
        ({"pool": ()}, "`examples` is empty"),
        ({"pool": (), "select": Selector(None), "prompt": "{text}"}, r"no \{examples\}"),
    ],
)
def test_arguments_that_contradict(arguments: dict[str, Any], message: str) -> None:
    """What does not go together is said in one sentence when the classifier is made."""
    with pytest.raises(ConfigurationError, match=message):
        few_shot(**arguments)


@pytest.mark.parametrize("select", ["balanced", "bm25"])
@pytest.mark.parametrize(("counts", "tells"), [(True, True), (False, True), (False, False)])
def test_examples_are_dropped_before_the_text_is_cut(select: Any, counts: bool, tells: bool) -> None:
    """A long text costs examples, as many as must be where the LLM counts, and is not cut; the answer says how many."""
    llm = limited(500, counts=counts, tells=tells)
    task = few_shot(llm, select=select, n_examples=9, on_overlong="truncate")
    rows = task.with_details().batch(["x" * 20, "y" * 300, "z" * 480, "blue plums sport " + "w" * 900])
    assert [row.n_examples for row in rows[::2]] == [9, 0]
    assert [row.truncated for row in rows] == [False, False, False, True]
    assert rows[3].n_examples == 0
    used = rows[1].n_examples
    assert used is not None
    example = len("Text: red apples sport\nLabel: sport\n\n")
    if counts:
        assert used in ((3,) if select == "balanced" else (4, 5))
    assert 301 + (used - 1) * example <= 500
    kept = [p for p in llm.log.prompts if p.text == "y" * 300][-1]
    if select == "balanced" and used:
        assert kept.head == task.get_prompt().format(text="@").partition("Text: green")[0].rstrip() + "\n\n>"


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.text("ab ", min_size=1, max_size=60), st.sampled_from(LABELS)), min_size=1, max_size=9),
    st.lists(st.text("xyz ", max_size=200), min_size=1, max_size=4, unique=True),
    st.integers(1, 400),
    st.sampled_from(["balanced", "fuzzy", "bm25"]),
    st.sampled_from(["none", "truncate"]),
    st.sampled_from([1, 3]),
)
def test_no_answered_prompt_exceeds_the_limit_and_no_room_is_wasted(
    pool: list[tuple[str, str]], texts: list[str], limit: int, select: Any, on_overlong: Any, chars: int
) -> None:
    """Answered prompts fit, and another example would not have; what fits nowhere is None."""
    llm = limited(limit, chars=chars)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        task = few_shot(llm, pool=pool, select=select, on_overlong=on_overlong)
        rows = task.with_details().batch(texts)
        bare = ZeroShotClassifier(LABELS, llm=limited(limit, chars=chars), prompt=">{text}", prior=None)
        alone = bare.with_details().batch(texts)
    answered = {prompt.text: prompt for prompt in llm.log.prompts}
    assert len(llm.log.prompts) <= 8 * len(texts)
    for text, row, without in zip(texts, rows, alone, strict=True):
        fits_bare = without.label is not None
        assert (row.label is not None) >= fits_bare
        if not fits_bare:
            assert row.n_examples in (0, None)
            assert row.truncated == (row.label is not None)
            continue
        assert not row.truncated
        prompt = answered[text]
        assert len(str(prompt)) // chars <= limit
        whole = asyncio.run(task._chooser().achoose(text, None))  # type: ignore[arg-type]  # nothing to look ahead to
        sizes = task._chooser().sizes(whole)
        assert row.n_examples in sizes
        if row.n_examples != sizes[-1]:
            more = whole[: sizes[sizes.index(row.n_examples) + 1]]
            written = sum(len(f"Text: {e.text}\nLabel: {e.label}\n\n") for e in more) + 1 + len(text)
            assert written // chars > limit


def test_a_set_that_never_fits_is_said_once() -> None:
    """Where not even an empty text leaves room for all, one warning says so, and rows are asked with what fits."""
    llm = limited(200)
    task = few_shot(llm, n_examples=9)
    with pytest.warns(SettingsWarning, match="3 of the 9 examples fit into the prompt, of which the model takes 200"):
        rows = task.with_details().batch([f"text {n}" for n in range(20)], {"max_concurrency": 1})
    assert {row.n_examples for row in rows} == {3}
    assert len(llm.log.prompts) == 21
    with pytest.warns(SettingsWarning, match="None of the 9"):
        assert few_shot(limited(20)).with_details().invoke("x").n_examples == 0


@pytest.mark.parametrize("select", ["balanced", "bm25"])
def test_a_prior_is_learnt_with_as_many_examples_as_fit(select: Any) -> None:
    """Texts without content are asked with examples, like any row, and with fewer where the limit is near."""
    llm = limited(300)
    task = few_shot(llm, select=select, n_examples=9, prior="words")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SettingsWarning)
        assert task.with_details().invoke("x" * 20).label is not None
    heads = [prompt.head for prompt in llm.log.prompts if len(str(prompt)) <= 300]
    assert len(heads) >= 9
    assert all("Label: " in head for head in heads)
    tiny = few_shot(limited(5), select=select, prior="words")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert tiny.with_details().invoke("x").reason is Reason.OVERLONG


def test_zero_shot_rows_say_nothing_of_examples() -> None:
    """Without examples the number is None; it must not be negative."""
    assert ZeroShotClassifier(LABELS, llm=FakeScoringLLM()).with_details().invoke("x").n_examples is None
    with pytest.raises(ValueError, match="n_examples"):
        Classification(label="a", n_examples=-1)


def test_rows_with_variables_of_their_own_get_their_examples() -> None:
    """Further variables of a template are filled in whatever examples a row gets; equal texts are not mixed up."""
    task = few_shot(select="bm25", n_examples=1, prompt="{who}: {examples}>{text}")
    task.batch([{"text": "red apples of sport", "who": "Ann"}, {"text": "red apples of sport", "who": "Bob"}])
    first, second = task.llm.log.prompts  # type: ignore[attr-defined]
    assert first.head == "Ann: Text: red apples sport\nLabel: sport\n\n>"
    assert second.head == first.head.replace("Ann", "Bob")
    with pytest.raises(PromptError, match="who"):
        task.invoke("x")


async def _fingerprints(tasks: Sequence[FewShotClassifier]) -> list[str]:
    return [await task.afingerprint() for task in tasks]


def test_how_examples_are_chosen_is_part_of_the_task() -> None:
    """Other ways, numbers, examples or embedding models are other tasks; the order of a fixed set's labels is none."""
    other = DeterministicFakeEmbedding(size=9)
    tasks = [
        few_shot(),
        few_shot(n_examples=4),
        few_shot(n_examples=4, pool=[*POOL, ("more", "sport")]),
        few_shot(select="fuzzy"),
        few_shot(select="bm25"),
        few_shot(select="bm25", n_examples=4),
        few_shot(select="bm25", n_examples=4, max_per_label=1),
        few_shot(select="bm25", pool=[*POOL, ("more", "sport")]),
        few_shot(select=WAYS[-1]),
        few_shot(select=other),
        few_shot(select=Selector(lambda _: []), pool=()),
    ]
    prints = asyncio.run(_fingerprints(tasks))
    assert len(set(prints)) == len(tasks)
    assert prints == asyncio.run(_fingerprints([pickle.loads(pickle.dumps(task)) for task in tasks[:9]])) + prints[9:]  # noqa: S301  # ours
    assert asyncio.run(_fingerprints([few_shot(pool=sorted(POOL, key=lambda pair: pair[1]))])) == prints[:1]


def test_a_calibration_belongs_to_its_examples() -> None:
    """A calibration that was learnt with one choice of examples is refused with another, and taken with the same."""
    task = few_shot(select="bm25").calibrate([f"text {n}" for n in range(30)])
    assert task.invoke("x") in LABELS
    with pytest.raises(CalibrationError):
        few_shot(select="fuzzy", calibration=task.calibration).invoke("x")


def test_the_choice_is_saved_and_loaded() -> None:
    """Names and numbers are plain data; of an embedding model LangChain saves the name, and loading says so."""
    llm = TextGenerationInference(base_url="http://127.0.0.1:9")
    task = FewShotClassifier(LABELS, POOL, llm=llm, select="bm25", n_examples=4, max_per_label=2)
    again = load(dumps(task))
    assert again == task
    assert (again.select, again.n_examples, again.max_per_label) == ("bm25", 4, 2)
    with pytest.raises(ConfigurationError, match="DeterministicFakeEmbedding, of which LangChain saves only the name"):
        load(dumps(FewShotClassifier(LABELS, POOL, llm=llm, select=WAYS[-1])))


def test_examples_are_added_to_a_copy() -> None:
    """Further examples come after those there are; the original stays, and zero-shot becomes few-shot."""
    task = few_shot(n_examples=20, min_confidence=0.1)
    more = task.with_examples([("a new one", "science")])
    assert [e.text for e in more.examples] == [text for text, _ in POOL] + ["a new one"]
    assert (more.n_examples, more.min_confidence, more.llm) == (20, 0.1, task.llm)
    assert len(task.examples) == len(POOL)
    zero = ZeroShotClassifier(LABELS, llm=FakeLLM(), text_kind="review", min_confidence=None)
    grown = zero.with_examples(POOL, select="bm25")
    assert type(grown) is FewShotClassifier
    assert (grown.select, grown.text_kind, grown.llm) == ("bm25", "review", zero.llm)
    for wrong in ([("x", "economy")], [], ["x"]):
        for classifier in (task, zero):
            with pytest.raises(ConfigurationError):
                classifier.with_examples(wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="exclude each other"):
        few_shot(pool=(), select=Selector(None)).with_examples(POOL)


def test_labels_are_added_to_a_copy() -> None:
    """Further labels come last, with their descriptions; parser, examples and settings follow; none comes twice."""
    task = few_shot(select="bm25", n_examples=2)
    more = task.with_labels({"economy": "money and trade"})
    assert more.labels.names == (*LABELS, "economy")
    assert more.labels.descriptions == {"economy": "money and trade"}
    assert more.parser.labels == more.labels  # type: ignore[union-attr]
    assert (more.select, more.n_examples, more.examples) == ("bm25", 2, task.examples)
    assert task.labels.names == tuple(LABELS)
    assert more.with_examples([("stocks fall", "economy")]).with_labels(["law"]).labels.names[-2:] == ("economy", "law")
    both = task.with_labels(LabelSet.of({"economy": "money and trade", "law": None}))
    assert both.labels.labels[-2:] == (Label("economy", "money and trade"), Label("law"))
    for twice in (["sport"], ["Sport"], ["law", "law"], []):
        with pytest.raises(LabelError):
            task.with_labels(twice)
    with pytest.raises(LabelError, match="did you mean"):
        task.with_labels("law")


def test_a_calibration_is_left_behind() -> None:
    """What was learnt for other labels or examples is dropped with a warning, not refused at the first row."""
    task = few_shot().calibrate([f"text {n}" for n in range(30)])
    assert isinstance(task.calibration, Calibration)
    changes: list[Callable[[], FewShotClassifier]] = [
        lambda: task.with_labels(["law"]),
        lambda: task.with_examples([("x", "sport")]),
    ]
    for change in changes:
        with pytest.warns(CalibrationWarning, match="is left behind: calibrate the new classifier"):
            changed = change()
        assert changed.calibration is None
        assert changed.invoke("x") in changed.labels
    assert task.calibration is not None


def test_rows_wait_for_the_first_only_where_it_computes_their_start() -> None:
    """A long fixed set is computed for all rows by the first; examples of their own are in no row's way."""

    class Sharing(FakeScoringLLM):
        @property
        @override
        def shares_prefixes(self) -> bool:
            return True

    async def goes_alone(select: Any) -> bool:
        pool = [(f"{text} {'word ' * 20}", label) for text, label in POOL]
        return (await few_shot(Sharing(), pool=pool, select=select)._aarranged()).first_goes_alone

    assert asyncio.run(goes_alone("balanced"))
    assert not asyncio.run(goes_alone("bm25"))


def test_scores_are_those_of_the_same_prompt() -> None:
    """Answers with examples are the inner way's own: the probabilities of the prompt that was asked."""
    task = few_shot(select="bm25", n_examples=2)
    row = task.with_details().invoke("blue plums")
    prompt = task.llm.log.prompts[-1]  # type: ignore[attr-defined]
    expected = hashed_scores(prompt, task.llm.asked[-1])  # type: ignore[attr-defined]
    assert tuple((row.probabilities or {}).values()) == pytest.approx(expected)
