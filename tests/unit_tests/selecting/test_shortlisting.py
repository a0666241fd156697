"""Which labels are asked about for a row, and what its answer says of those left out."""

from __future__ import annotations

import asyncio
import math
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from fakes import SECRET, FakeLLM, FakeScoringLLM, hashed_scores
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.load import dumps
from typing_extensions import override

from langchain_stormtrooper import Classification, FewShotClassifier, Reason, Shortlist, ZeroShotClassifier, load
from langchain_stormtrooper.calibration import Calibration
from langchain_stormtrooper.errors import (
    CalibrationWarning,
    ConfigurationError,
    OverlongInputError,
    OverlongInputWarning,
    PromptError,
)
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.runs.keys import task_key
from langchain_stormtrooper.selecting.shortlisting import ranked

FRUIT = {
    "red_apple": None,
    "green pear": None,
    "blue plum": "small and sweet",
    "yellow melon": None,
    "ripe quince": None,
    "sour cherry": "grows on a tree",
}
NAMES = list(FRUIT)
POOL = [("it is crunchy", "red_apple"), ("it is crunchy and long", "green pear"), ("jam and jelly", "ripe quince")]


def zero_shot(llm: Any = None, **arguments: Any) -> ZeroShotClassifier:
    """A classifier whose prompts are easy to read."""
    arguments = {"prompt": "{labels}>{text}", "prior": None, "shortlist": 2, **arguments}
    return ZeroShotClassifier(FRUIT, llm=llm or FakeScoringLLM(answer=lambda _: ""), **arguments)


def few_shot(llm: Any = None, **arguments: Any) -> FewShotClassifier:
    """The same with examples."""
    arguments = {"prompt": "{examples}|{labels}>{text}", "prior": None, "shortlist": 2, **arguments}
    return FewShotClassifier(FRUIT, POOL, llm=llm or FakeScoringLLM(answer=lambda _: ""), **arguments)


def considered(classifier: Any, text: str) -> tuple[str, ...] | None:
    """The shortlist of a text."""
    row = classifier.with_details().invoke(text)
    assert isinstance(row, Classification)
    return row.shortlist


@given(
    st.lists(st.tuples(st.integers(0, 5), st.floats(-1, 1) | st.just(-math.inf)), max_size=20),
    st.integers(6, 8),
)
def test_labels_are_ranked_by_their_nearest_text(texts: list[tuple[int, float]], n_labels: int) -> None:
    """Each label counts with its best text, rounded; equal ones keep the order given; none is lost."""
    found = ranked([value for _, value in texts], [owner for owner, _ in texts], n_labels)
    slow = []
    for label in range(n_labels):
        own = [value for owner, value in texts if owner == label]
        best = max(own, default=-math.inf)
        slow.append((-(best if math.isinf(best) else round(best, 6)), label))
    assert found == [label for _, label in sorted(slow)]


def test_only_labels_like_the_text_are_asked_about() -> None:
    """Names, also with underscores, and descriptions decide; the prompt lists the shortlist in the order given."""
    task = zero_shot()
    assert considered(task, "a cherry or an apple") == ("red_apple", "sour cherry")
    assert considered(task, "a tree, small") == ("blue plum", "sour cherry")
    assert considered(task, "?") == ("red_apple", "green pear")
    llm = task.llm
    assert isinstance(llm, FakeScoringLLM)
    assert llm.log.prompts[0].head == "\n- red_apple\n- sour cherry: grows on a tree>"
    assert [name.strip() for name in llm.asked[0]] == ["red_apple", "sour cherry"]


def test_examples_decide_and_only_those_of_the_shortlist_are_shown() -> None:
    """A label is as near as its nearest example, but for the text itself; other labels' examples stay out."""
    for select in ("balanced", "bm25"):
        task = few_shot(select=select)
        assert considered(task, "crunchy") == ("red_apple", "green pear")
        (prompt,) = task.llm.log.prompts  # type: ignore[attr-defined]  # a fake
        assert "crunchy" in prompt.head
        assert "jelly" not in prompt.head
    assert "ripe quince" not in (considered(few_shot(), "Jam and  JELLY") or ())
    assert "ripe quince" in (considered(few_shot(), "jam and jelly!!") or ())


@pytest.mark.parametrize("by", ["bm25", "fuzzy", DeterministicFakeEmbedding(size=8)], ids=str)
def test_rows_do_not_depend_on_their_neighbours(by: Any) -> None:
    """A row has the same shortlist and answer alone, in any batch and in any order, also with nearest examples."""
    texts = [f"{name} {n}" for n, name in enumerate([*NAMES, "crunchy", "jam", "??"] * 3)]
    task = few_shot(shortlist=Shortlist(size=3, by=by), select=by).with_details()
    together = task.batch(texts)
    assert task.batch(texts[::-1], {"max_concurrency": 2})[::-1] == together
    assert [task.invoke(text) for text in texts[:4]] == together[:4]
    assert list(task.stream(texts[0])) == together[:1]


def test_rows_of_a_call_are_embedded_together() -> None:
    """An embedding model has the labels' texts in one call, and the rows of a batch in another."""
    calls: list[int] = []

    class Counting(DeterministicFakeEmbedding):
        size: int = 8

        @override
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            calls.append(len(texts))
            return super().embed_documents(texts)

    zero_shot(FakeScoringLLM(places=2), shortlist=Shortlist(size=2, by=Counting())).batch([f"t{n}" for n in range(30)])
    assert calls == [8, 30]


def test_probabilities_are_of_all_labels() -> None:
    """Labels left out have nothing where the recall is not known, else what it leaves to them, evenly."""
    row = zero_shot().with_details().invoke("a cherry or an apple")
    assert row.probabilities is not None
    assert list(row.probabilities) == NAMES
    known = hashed_scores(Prompt(text="a cherry or an apple"), [" red_apple", " sour cherry"])
    on_it = dict(zip(("red_apple", "sour cherry"), known, strict=True))
    assert row.probabilities == {name: pytest.approx(on_it.get(name, 0.0)) for name in NAMES}
    told = zero_shot(shortlist=Shortlist(size=2, recall=(0.5, 0.8))).with_details().invoke("a cherry or an apple")
    assert told.label == row.label
    assert told.probabilities is not None
    for name in NAMES:
        assert told.probabilities[name] == pytest.approx(on_it[name] * 0.8 if name in on_it else 0.2 / 4)
    assert told.confidence == pytest.approx(max(known) * 0.8)
    assert sum(told.probabilities.values()) == pytest.approx(1)


@settings(max_examples=25)
@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=6).map(sorted),
    st.lists(st.floats(0.01, 1), min_size=6, max_size=6),
)
def test_no_label_left_out_is_likelier_than_the_answer(recall: list[float], weights: list[float]) -> None:
    """Whatever was measured, the label is a most probable one, and probabilities sum to one."""

    def score(_: Prompt, answers: Sequence[str]) -> tuple[float, ...]:
        own = weights[: len(answers)]
        return tuple(weight / sum(own) for weight in own)

    llm = FakeScoringLLM(answer=lambda _: "", score=score)
    setting = Shortlist(size=len(recall), recall=tuple(recall))
    row = asyncio.run(zero_shot(llm, shortlist=setting).with_details().ainvoke("a cherry or an apple"))
    assert row.probabilities is not None
    assert row.label is not None
    assert row.probabilities[row.label] >= max(row.probabilities.values()) - 1e-9
    assert sum(row.probabilities.values()) == pytest.approx(1)


def test_demands_are_made_of_the_probabilities_that_are_told() -> None:
    """Confidence and margin count after the recall is in; a bound that it just keeps is kept, also set later."""
    llm = FakeScoringLLM(answer=lambda _: "", score=lambda _, answers: (0.9, 0.1)[: len(answers)])
    setting = Shortlist(size=2, recall=(0.5, 0.8))
    plain = zero_shot(llm, shortlist=setting)
    for demand, passes in (
        ({"min_confidence": 0.71}, True),
        ({"min_confidence": 0.73}, False),
        ({"min_margin": 0.63}, True),
        ({"min_margin": 0.65}, False),
        ({"min_covered_mass": 0.4}, True),
    ):
        for task in (zero_shot(llm, shortlist=setting, **demand), plain.bind(**demand)):
            if passes:
                assert task.invoke("x") == "red_apple"
            else:
                with pytest.warns(UserWarning, match="got no label"):
                    assert task.invoke("x") is None
    with pytest.warns(UserWarning, match="got no label"):
        row = zero_shot(llm, shortlist=setting, min_covered_mass=0.6).with_details().invoke("x")
    assert row.reason is Reason.UNMATCHED


def test_the_prior_is_learnt_once_and_restricted() -> None:
    """For a prompt that lists nothing, the answer is the one over all labels, restricted to the shortlist."""
    llm, whole = FakeScoringLLM(answer=lambda _: ""), FakeScoringLLM(answer=lambda _: "")
    arguments = {"prompt": "{text}", "prior": "words"}
    task, full = zero_shot(llm, **arguments), zero_shot(whole, shortlist=None, **arguments)
    for text in ("a cherry or an apple", "jam"):
        row, everything = task.with_details().invoke(text), full.with_details().invoke(text)
        assert row.shortlist is not None
        assert row.probabilities is not None
        assert everything.probabilities is not None
        mass = sum(everything.probabilities[name] for name in row.shortlist)
        for name in row.shortlist:
            assert row.probabilities[name] == pytest.approx(everything.probabilities[name] / mass)
    assert len(llm.asked) == 8 + 2


def limited(limit: int) -> FakeScoringLLM:
    """An LLM that takes prompts of so many characters."""

    def answer(prompt: Prompt) -> str:
        if len(str(prompt)) > limit:
            raise OverlongInputError("The prompt is too long.", tokens=len(str(prompt)), limit=limit)
        return ""

    return FakeScoringLLM(answer=answer)


def test_fewer_labels_are_listed_before_the_text_is_cut() -> None:
    """A shortlist gives way by halves to a text that is long; recall is then that of the shorter one."""
    setting = Shortlist(size=5, recall=(0.4, 0.5, 0.6, 0.7, 0.9))
    task = zero_shot(limited(90), shortlist=setting, on_overlong="truncate").with_details()
    short, long, endless = task.batch(["plum", "plum " + "x" * 40, "plum " + "y" * 500])
    sizes = [len(row.shortlist or ()) for row in (short, long, endless)]
    assert (sizes, short.truncated, long.truncated, endless.truncated) == ([5, 2, 2], False, False, True) or sizes[
        1
    ] < 5
    assert long.label is not None
    assert endless.label is not None
    assert endless.truncated
    assert not long.truncated
    assert long.probabilities is not None
    assert sum(long.probabilities[name] for name in long.shortlist or ()) == pytest.approx(0.5)
    with pytest.warns(OverlongInputWarning):
        assert zero_shot(limited(90), shortlist=5).invoke("plum " + "y" * 500) is None


def test_a_prompt_without_a_list_is_not_asked_with_fewer() -> None:
    """Where fewer labels make no shorter prompt, an overlong row is asked once."""
    llm = limited(20)
    with pytest.warns(OverlongInputWarning):
        assert zero_shot(llm, shortlist=5, prompt="{text}").invoke("plum " * 9) is None
    assert len(llm.log.prompts) == 1


@pytest.mark.parametrize("make", [FakeLLM, lambda answer: FakeListChatModel(responses=[answer(None)] * 4)])
def test_generated_text_is_matched_to_the_shortlist_alone(make: Callable[..., Any]) -> None:
    """A generated label counts if it was listed; one that was left out is no answer."""
    llm = make(answer=lambda _: "Sour cherry.")
    row = zero_shot(llm).with_details().invoke("a cherry or an apple")
    assert (row.label, row.shortlist, row.probabilities) == ("sour cherry", ("red_apple", "sour cherry"), None)
    with pytest.warns(UserWarning, match="got no label"):
        assert zero_shot(llm).invoke("melon") is None


def test_what_was_learnt_of_a_foreign_llm_holds_for_all_shortlists() -> None:
    """An LLM without an async face is tried that way once, not once for each shortlist."""
    tried: list[int] = []

    class Sync(FakeListChatModel):
        @override
        async def _agenerate(self, *args: Any, **kwargs: Any) -> Any:
            tried.append(1)
            raise NotImplementedError

    task = zero_shot(Sync(responses=["red apple"]))
    assert [task.invoke(text) for text in ("apple and pear", "apple and plum", "apple")] == ["red_apple"] * 3
    assert len(tried) == 1


def test_recall_is_measured_without_an_llm() -> None:
    """Ranks, shares and intervals are those of a count; what was measured goes back into the setting."""
    task = few_shot(shortlist=3)
    found = task.measure_shortlist(["apple", {"text": "pear"}, "it is crunchy", "?"], [*NAMES[:2], NAMES[0], NAMES[3]])
    assert found.ranks == (1, 1, 2, 4)
    assert [found.at(size) for size in (1, 2, 3, 4, 6)] == [0.5, 0.75, 0.75, 1, 1]
    # From the formula in Wilson (1927), by hand: 3 of 4.
    assert found.interval(2) == pytest.approx((0.30064, 0.95441), abs=1e-4)
    assert found.interval(4)[1] == 1
    assert found.shortlist() == Shortlist(size=3, recall=(0.5, 0.75, 0.75))
    assert task.model_copy(update={"shortlist": found.shortlist(2)}).shortlist == Shortlist(size=2, recall=(0.5, 0.75))
    assert "3 labels:  75.0%" in str(found)
    assert SECRET not in repr(task.measure_shortlist([SECRET], [NAMES[0]]))
    for mistake in (lambda: found.at(0), lambda: found.at(7), lambda: found.interval(2, 1.0)):
        with pytest.raises(ConfigurationError):
            mistake()


def test_recall_is_of_texts_that_have_a_label_and_a_text() -> None:
    """Texts that no label fits are left out and counted, rows without a text are left out with a warning."""
    task = few_shot(shortlist=3, out_of_scope="none of these").with_examples([("orbit", None)])
    labels = [None, NAMES[0], "none of these", NAMES[1]]
    found = task.measure_shortlist(["orbit", "apple", "moon", "pear"], labels)
    assert (found.ranks, found.n_out_of_scope) == ((1, 1), 2)
    assert "not counted: 2 more" in str(found)
    with pytest.warns(CalibrationWarning, match="1 of 2 rows hold no text, and are left out"):
        assert task.measure_shortlist([None, "pear"], NAMES[:2]).ranks == (1,)  # type: ignore[list-item]
    with pytest.raises(ConfigurationError, match="none of the texts has a label"):
        task.measure_shortlist(["orbit"], [None])
    with pytest.raises(PromptError):
        task.measure_shortlist([None], [NAMES[0]])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shortlist": 1}, "`size`"),
        ({"shortlist": True}, "a number of labels, or a Shortlist"),
        ({"shortlist": "bm25"}, "a number of labels, or a Shortlist .*not 'bm25'"),
        ({"shortlist": 2.5}, "a number of labels, or a Shortlist .*not 2.5"),
        ({"shortlist": {"by": "letters"}}, "`by`"),
        ({"shortlist": {"size": 2, "recall": (0.5,)}}, "says nothing of a shortlist of 2"),
        ({"shortlist": {"size": 2, "recall": (0.5, 0.4)}}, "must not fall"),
        ({"rotations": 3}, "at most 2, the size of the shortlist"),
        ({"prompt": "codes", "prior": "words"}, "set prior=None with prompt='codes'"),
        ({"llm": limited(60), "prior": "words"}, "longer than the model takes: set prior=None"),
        (
            {"llm": FakeScoringLLM(score=lambda _, a: (1.0, *(0.0,) * (len(a) - 1))), "prior": "words"},
            "all 6 labels, so that no prior",
        ),
    ],
)
def test_what_does_not_go_with_a_shortlist(arguments: dict[str, Any], message: str) -> None:
    """It is said in one sentence, before any row is answered."""
    with pytest.raises(ConfigurationError, match=message):
        zero_shot(**arguments).invoke("x")


def test_calibrations_are_of_all_labels() -> None:
    """Calibrating with a shortlist, and a shortlist on a calibrated classifier, are refused with a way out."""
    with pytest.raises(ConfigurationError, match="known: calibrate without `shortlist=`"):
        zero_shot().calibrate(["a", "b"])
    learnt = Calibration(labels=tuple(NAMES), task="0" * 64, model_id=None, kind="prior", prior=(1 / 6,) * 6)
    with pytest.raises(ConfigurationError, match="leave out `shortlist=` or `calibration=`"):
        zero_shot(calibration=learnt)


def test_recall_belongs_to_labels_and_examples() -> None:
    """With further labels or examples, a measured recall is left behind with a warning; the shortlist stays."""
    task = zero_shot(shortlist=Shortlist(size=2, recall=(0.5, 0.6)), prompt=None)
    for change in (lambda: task.with_labels(["fig"]), lambda: task.with_examples(POOL)):
        with pytest.warns(CalibrationWarning, match="recall of the shortlist was measured with other"):
            assert change().shortlist == Shortlist(size=2)


def test_settings_tell_tasks_apart_and_are_saved() -> None:
    """Another shortlist is another task for ledgers; a saved classifier has the same one, and so has a copy."""
    setups: list[Any] = [None, 2, 3, Shortlist(size=2, by="fuzzy"), Shortlist(size=2, recall=(0.5, 0.6))]
    tasks = [few_shot(shortlist=setting) for setting in setups]
    other = FewShotClassifier(FRUIT, POOL[:2], llm=FakeScoringLLM(), prior=None, shortlist=2)

    async def key(task: Any) -> str:
        return await task_key(task, await task._aarranged())

    keys = [asyncio.run(key(task)) for task in (*tasks, other)]
    assert len(set(keys)) == len(keys)
    assert asyncio.run(key(few_shot(shortlist={"size": 2}))) == keys[1]
    for task in tasks:
        assert pickle.loads(pickle.dumps(task.shortlist)) == task.shortlist  # noqa: S301  # our own
    saved = ZeroShotClassifier(FRUIT, shortlist=setups[4])
    assert load(dumps(saved)).shortlist == setups[4]
    assert few_shot(shortlist=99).with_details().invoke("x").shortlist == tuple(NAMES)
    assert SECRET not in repr(
        Shortlist(by=type("Own", (DeterministicFakeEmbedding,), {"__repr__": lambda _: SECRET})(size=2))
    )
