"""A hierarchical classifier: the chain rule, the beam, every face, each row by itself."""

from __future__ import annotations

import asyncio
import math
import pickle
import warnings
import zlib
from collections.abc import Sequence
from copy import copy, deepcopy
from pathlib import Path
from typing import Any, ClassVar

import pytest
from fakes import SECRET, FakeLLM, FakeScoringLLM, Recorder, hashed_scores, say_label
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.language_models import FakeListLLM
from langchain_core.load import dumps
from langchain_core.runnables import ConfigurableField
from typing_extensions import override

from langchain_stormtrooper import (
    Cascade,
    Classification,
    ConfigurationError,
    FailedRequestWarning,
    FewShotClassifier,
    HierarchicalClassifier,
    LabelError,
    Ledger,
    LowConfidenceWarning,
    OverlongInputError,
    OverlongInputWarning,
    PromptError,
    Reason,
    RequestFailedError,
    ServerUnreachableError,
    SettingsWarning,
    StormtrooperWarning,
    TextGenerationInference,
    UnmatchedLabelWarning,
    ZeroShotClassifier,
    create_app,
    evaluate,
    load,
)
from langchain_stormtrooper.answering import Demands
from langchain_stormtrooper.hierarchy.descent import descend
from langchain_stormtrooper.hierarchy.tree import Node, grow
from langchain_stormtrooper.labels import LabelSet
from langchain_stormtrooper.llms.base import Constrained
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.results import Method
from langchain_stormtrooper.wire import Generated

TREE = {"sport": {"football": None, "tennis": ["singles", "doubles"]}, "politics": ["home", "abroad"], "other": None}
TEXTS = [f"text {number}" for number in range(12)]
TGI = TextGenerationInference(base_url="http://127.0.0.1:9")


def scoring(**given: Any) -> FakeScoringLLM:
    """A model that decides at random, by the text and the name alone."""
    return FakeScoringLLM(**{"answer": lambda _: "", **given})


def make(labels: Any = TREE, **given: Any) -> HierarchicalClassifier:
    """A classifier whose model decides at random."""
    return HierarchicalClassifier(
        labels, **{"llm": given.pop("llm", None) or scoring(), "prior": None, "prompt": "kinds", **given}
    )


def certain(**shares: float) -> Any:
    """A score function that gives names these shares, whatever the text."""
    return lambda _, answers: tuple(shares[answer.strip()] for answer in answers)


may_be_flat = pytest.mark.filterwarnings("ignore:None of the labels holds the separator")

RAGGED = {"sport": ["football", "tennis"], "politics": ["home", "abroad"], "other": None}
SHARES = {"sport": 0.5, "politics": 0.3, "other": 0.2, "football": 0.55, "tennis": 0.45, "home": 0.95, "abroad": 0.05}


@st.composite
def random_trees(draw: st.DrawFn) -> dict[str, Any]:
    """Nested dicts whose names are all different, with at least two labels."""
    number = iter(range(1000))

    def below(depth: int) -> Any:
        children = 0 if depth == 4 else draw(st.integers(0, 3))
        return {f"n{next(number)}": below(depth + 1) for _ in range(children)} or None

    return {f"n{next(number)}": below(1) for _ in range(draw(st.integers(2, 4)))}


def table(tree: Any, text: str) -> dict[str, float]:
    """The probability of each name among its siblings."""
    names = [f" {name}" for name in tree]
    shares = (1.0,) if len(names) == 1 else hashed_scores(Prompt(text=text), names)
    return dict(zip(tree, shares, strict=True))


def exhaustive(tree: Any, text: str, path: str = "", probability: float = 1.0) -> dict[str, float]:
    """The slow reference: each label's probability, by going everywhere."""
    if tree is None:
        return {path: probability}
    found: dict[str, float] = {}
    for name, share in table(tree, text).items():
        found |= exhaustive(tree[name], text, f"{path}/{name}".lstrip("/"), probability * share)
    return found


def greedy(tree: Any, text: str) -> str:
    """The slow reference for one that never looks back: the best name at each level."""
    path: list[str] = []
    while tree is not None:
        shares = table(tree, text)
        path.append(max(shares, key=shares.__getitem__))
        tree = tree[path[-1]]
    return "/".join(path)


@may_be_flat
@given(random_trees(), st.text(alphabet="abc", max_size=5))
@settings(max_examples=80)
def test_with_a_wide_beam_it_is_exact(tree: dict[str, Any], text: str) -> None:
    """The answer and all probabilities are those of going everywhere."""
    reference = exhaustive(tree, text)
    row = make(tree, beam=len(reference)).with_details().invoke(text)
    assert row.probabilities == pytest.approx(reference)
    assert list(row.probabilities or ()) == list(reference)
    assert math.fsum((row.probabilities or {}).values()) == pytest.approx(1)
    assert row.label is not None
    assert row.confidence == pytest.approx(max(reference.values())) == pytest.approx(reference[row.label])
    assert row.path == tuple(row.label.split("/"))


@may_be_flat
@given(random_trees(), st.text(alphabet="abc", max_size=5), st.integers(1, 4))
@settings(max_examples=80)
def test_with_any_beam_it_is_honest(tree: dict[str, Any], text: str, beam: int) -> None:
    """What is told is exact for the labels that were reached, of which the answer is the best; a node is asked once."""
    reference = exhaustive(tree, text)
    llm = scoring()
    row = make(tree, beam=beam, llm=llm).with_details().invoke(text)
    told = row.probabilities or {}
    assert told == pytest.approx({label: reference[label] for label in told})
    assert row.confidence == max(told.values()) == told[row.label or ""]
    assert len(set(llm.asked)) == len(llm.asked)
    assert row.prompt_tokens == 7 * len(llm.asked)
    # Never more questions a level than the beam is wide.
    assert len(llm.asked) <= 1 + 4 * beam


@may_be_flat
@given(st.lists(st.integers(2, 3), min_size=1, max_size=4), st.text(alphabet="abc", max_size=5))
@settings(max_examples=50)
def test_a_beam_of_one_is_greedy(widths: list[int], text: str) -> None:
    """Where all labels are equally deep, it takes the best child at each level, with one question for each."""

    def tree(depth: int, name: str) -> Any:
        if depth == len(widths):
            return None
        return {f"{name}{number}": tree(depth + 1, f"{name}{number}") for number in range(widths[depth])}

    labels = tree(0, "n")
    llm = scoring()
    assert make(labels, llm=llm).invoke(text) == greedy(labels, text)
    assert len(llm.asked) == len(widths)


@pytest.mark.parametrize(
    ("beam", "label", "told"),
    [(1, "sport/football", 3), (2, "politics/home", 5), (3, "politics/home", 5)],
)
def test_a_beam_sees_what_greed_misses(beam: int, label: str, told: int) -> None:
    """The second best of the first level has the best label below it."""
    row = make(RAGGED, beam=beam, llm=scoring(score=certain(**SHARES))).with_details().invoke("x")
    assert (row.label, len(row.probabilities or ())) == (label, told)


def test_a_label_that_was_reached_stays_in_the_competition() -> None:
    """Greed goes on below the best node, and finds nothing there that is better than a label beside it."""
    shares = {"sport": 0.6, "other": 0.4, "football": 0.5, "tennis": 0.5}
    classifier = make({"sport": ["football", "tennis"], "other": None}, llm=scoring(score=certain(**shares)))
    row = classifier.with_details().invoke("x")
    assert (row.label, row.path, row.confidence) == ("other", ("other",), 0.4)
    assert row.probabilities == {"sport/football": 0.3, "sport/tennis": 0.3, "other": 0.4}


def test_a_label_takes_a_place_in_the_beam() -> None:
    """Where a label is better than all inner nodes, nothing below them could be better: nothing more is asked."""
    shares = {"sport": 0.4, "other": 0.6, "football": 0.5, "tennis": 0.5}
    for beam, asked in ((1, 1), (2, 2)):
        llm = scoring(score=certain(**shares))
        tree = {"sport": ["football", "tennis"], "other": None}
        assert make(tree, llm=llm, beam=beam).invoke("x") == "other"
        assert len(llm.asked) == asked


def test_where_all_is_alike_the_model_s_own_preference_decides() -> None:
    """A prior levels a model that says the same of every text: at each level its own first choice is followed."""
    shares = {"sport": 0.2, "politics": 0.7, "other": 0.1, "home": 0.3, "abroad": 0.7, "football": 0.5, "tennis": 0.5}
    tree = {**RAGGED, "other": ["football", "tennis"]}
    row = make(tree, llm=scoring(score=certain(**shares)), prior="words").with_details().invoke("x")
    assert row.label == "politics/abroad"
    assert row.confidence == pytest.approx(1 / 6)


@may_be_flat
def test_a_flat_tree_is_a_flat_classifier() -> None:
    """The same answers, but for the path; with the model's lean divided out, too."""
    for prior in (None, "words"):
        flat = ZeroShotClassifier(list(TREE), llm=scoring(), prior=prior, prompt="kinds").with_details().batch(TEXTS)
        rows = make(list(TREE), prior=prior).with_details().batch(TEXTS)
        for row, known in zip(rows, flat, strict=True):
            assert row.path == (known.label,)
            assert row.model_copy(update={"path": None}) == known.model_copy(update={"covered_mass": None})


@given(
    st.lists(st.sampled_from([*TEXTS, "FAIL 1", "FAIL 2", "OVERLONG"]), min_size=1, max_size=20),
    st.sampled_from(["batch", "completed", "stream", "invoke"]),
    st.booleans(),
    st.integers(1, 3),
)
@settings(max_examples=40)
def test_every_face_says_the_same(rows: list[str], face: str, traced: bool, beam: int) -> None:
    """Whatever the rows and the face: each row is answered as it is by itself."""
    classifier = make(llm=FakeScoringLLM(delay=0.0005, places=3, answer=say_label), beam=beam)
    detailed = classifier.with_details()
    config: Any = {"callbacks": [Recorder()]} if traced else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StormtrooperWarning)
        expected = [make(llm=FakeScoringLLM(), beam=beam).with_details().invoke(text) for text in rows]
        if face == "batch":
            found = detailed.batch(rows, config)
        elif face == "completed":
            found = [row for _, row in sorted(detailed.batch_as_completed(rows, config), key=lambda row: row[0])]
        elif face == "invoke":
            found = [detailed.invoke({"text": text}, config) for text in rows]
        else:
            streamed = classifier.stream_rows(rows, config, in_order=True)
            found = [Classification(**row.model_dump(exclude={"index", "row"})) for row in streamed]
    assert found == expected
    assert classifier.llm.log.peak <= 3  # type: ignore[attr-defined]


async def test_labels_of_all_faces_agree() -> None:
    """One text, many, sync and async: the same paths, which are the type of what comes out."""
    classifier = make()
    expected = [make().invoke(text) for text in TEXTS]
    assert classifier.batch(TEXTS) == await classifier.abatch(TEXTS) == expected
    assert [classifier.invoke(text) for text in TEXTS] == [await classifier.ainvoke(text) for text in TEXTS] == expected
    paths = (
        "sport/football",
        "sport/tennis/singles",
        "sport/tennis/doubles",
        "politics/home",
        "politics/abroad",
        "other",
    )
    assert classifier.labels.names == paths
    assert classifier.OutputType == classifier.labels.answer_type


def mishap_at(name: str, error: Exception) -> Any:
    """A score function that fails where a name is among the answers."""

    def score(prompt: Prompt, answers: Sequence[str]) -> tuple[float, ...]:
        if f" {name}" in answers and "bad" in prompt.text:
            raise error
        return certain(**SHARES)(prompt, answers)  # type: ignore[no-any-return]

    return score


@pytest.mark.parametrize(
    ("error", "reason", "warning"),
    [
        (RequestFailedError("The model failed (424).", status=424), Reason.FAILED, FailedRequestWarning),
        (OverlongInputError("Too long.", tokens=9, limit=5), Reason.OVERLONG, OverlongInputWarning),
    ],
)
@pytest.mark.parametrize("beam", [1, 2])
def test_a_question_that_is_not_answered_is_the_row_s(error: Any, reason: Any, warning: Any, beam: int) -> None:
    """The row has its reason, and its neighbours have labels."""
    classifier = make(RAGGED, beam=beam, llm=scoring(score=mishap_at("football", error)))
    with pytest.warns(warning, match="1 of 2 texts"):
        bad, good = classifier.with_details().batch(["bad", "good"])
    assert (bad.label, bad.path, bad.reason, bad.error) == (None, None, reason, str(error))
    assert bad.probabilities is None
    assert good.label is not None


def test_a_server_that_is_down_is_told() -> None:
    """At whatever level: it is every row's."""
    down = ServerUnreachableError("The server at http://127.0.0.1:9 refused the connection: start it.")
    with pytest.raises(ServerUnreachableError):
        make(RAGGED, llm=scoring(score=mishap_at("football", down))).batch(["bad", "worse"])
    error = OverlongInputError("Too long.", tokens=9, limit=5)
    raising = make(RAGGED, on_overlong="raise", llm=scoring(score=mishap_at("football", error)))
    with pytest.raises(OverlongInputError):
        raising.invoke("bad")


def test_an_input_without_a_text_is_a_prompt_error() -> None:
    """As with any classifier; and the text may have another key, at every level."""
    with pytest.raises(PromptError, match="'text'"):
        make().invoke({"body": "x"})
    assert make(text_key="body").invoke({"body": "text 1"}) == make().invoke("text 1")


def test_further_variables_reach_every_level() -> None:
    """A template's own variables are filled in at each node; rows that differ in them share no answer."""
    llm = scoring(score=certain(**SHARES))
    classifier = make(RAGGED, llm=llm, prompt="{labels}, {hint}: {text} ->")
    classifier.batch([{"text": "x", "hint": "one"}, {"text": "x", "hint": "two"}, {"text": "x", "hint": "one"}])
    assert sum(", one: x" in str(prompt) for prompt in llm.log.prompts) == 2
    assert sum(", two: x" in str(prompt) for prompt in llm.log.prompts) == 2


def test_min_confidence_is_about_the_whole_path() -> None:
    """Each level is sure enough, and both together are not."""
    classifier = make(RAGGED, min_confidence=0.4, llm=scoring(score=certain(**SHARES)))
    with pytest.warns(LowConfidenceWarning):
        row = classifier.with_details().invoke("x")
    assert (row.label, row.path, row.reason, row.confidence) == (None, None, Reason.LOW_CONFIDENCE, 0.275)
    assert classifier.invoke("x", min_confidence=0.2) == "sport/football"


def test_where_nothing_is_asked_nothing_is_sent() -> None:
    """A node with one child is not asked about, at the root, in the middle or at the end."""
    llm = scoring(score=certain(b=0.75, e=0.25, x=0.5, y=0.5))
    row = make(["a/b/c/d", "a/e/f/x", "a/e/f/y"], llm=llm).with_details().invoke("x")
    assert (row.label, row.path, row.confidence) == ("a/b/c/d", ("a", "b", "c", "d"), 0.75)
    assert llm.asked == [(" b", " e")]


def saying(prompt: Prompt) -> str:
    """Generates names that are in the prompt: sport, then tennis."""
    return next(name for name in ("sport", "tennis", "singles") if name in prompt.head)


def test_generated_text_is_followed() -> None:
    """Without probabilities there is a path, the weakest match and all that was said, and no confidence."""
    row = make(llm=FakeLLM(answer=saying), method="generate", prompt="task").with_details().invoke("x")
    assert (row.label, row.path) == ("sport/tennis/singles", ("sport", "tennis", "singles"))
    assert (row.confidence, row.probabilities, row.generation) == (None, None, "sport\ntennis\nsingles")
    assert (row.match, row.generated_tokens) == ("exact", 6)
    foreign = make(["a/b", "a/c", "d"], llm=FakeListLLM(responses=["A", "It is b."]), prompt="task")
    row = foreign.with_details().invoke("x")
    assert (row.label, row.match) == ("a/b", "named")


@pytest.mark.parametrize("given", [{"beam": 2}, {"min_confidence": 0.5}])
def test_what_needs_probabilities_is_refused_without_them(given: dict[str, Any]) -> None:
    """Before the first row, naming the setting."""
    llm = FakeLLM(answer=saying)
    with pytest.raises(ConfigurationError, match=f"`{next(iter(given))}="):
        make(llm=llm, method="generate", **given).invoke("x")
    assert llm.log.prompts == []


class Constraining(FakeLLM):
    """Constrains its answer to the first name, and tells how sure it is of that alone, or nothing."""

    methods: ClassVar[tuple[Method, ...]] = (Method.CONSTRAIN, Method.GENERATE)
    confidence: float | None = 0.5

    @override
    async def aconstrain_row(self, prompt: Prompt, answers: tuple[str, ...]) -> Constrained:
        await self.log.run(prompt, 0)
        return Constrained(Generated(answers[0]), self.confidence, None)


@pytest.mark.parametrize(("confidence", "product"), [(0.5, 0.125), (None, None)])
def test_one_probability_a_level_is_enough_for_a_path(confidence: float | None, product: float | None) -> None:
    """The answers are followed, and the product is told where each is known; a wider beam has nothing to compare."""
    llm = Constraining(confidence=confidence)
    classifier = make({"sport": {"tennis": ["singles", "doubles"], "golf": None}, "other": None}, llm=llm)
    row = classifier.with_details().invoke("x")
    assert (row.label, row.method) == ("sport/tennis/singles", "constrain")
    assert (row.confidence, row.probabilities) == (product, None)
    with pytest.raises(ConfigurationError, match="`beam=`"):
        classifier.invoke("x", beam=2)
    if product is None:
        with pytest.raises(ConfigurationError, match="`min_confidence=`"):
            classifier.invoke("x", min_confidence=0.1)


def test_a_node_that_tells_nothing_is_followed_from_there_on() -> None:
    """What was reached before has probabilities, and is no longer compared with what has none."""

    async def ask(node: Node) -> Classification:
        names = [child.path[-1] for child in node.children]
        told = None if node.path == ("a",) else dict(zip(names, (0.6, 0.4), strict=True))
        return Classification(label=names[0], confidence=None if told is None else 0.6, probabilities=told)

    top = grow(LabelSet.of(["a/b/c", "a/b/d", "a/e", "f"]), "/")
    row = asyncio.run(descend(top, 1, Demands(), ask))
    assert (row.label, row.confidence, row.probabilities) == ("a/b/c", None, None)


def test_generated_text_that_is_no_name_is_the_row_s() -> None:
    """At whatever level it is muttered."""

    def mutter(prompt: Prompt) -> str:
        return "sport" if "sport" in prompt.head else "hard to tell"

    with pytest.warns(UnmatchedLabelWarning):
        row = make(llm=FakeLLM(answer=mutter), method="generate", prompt="task").with_details().invoke("x")
    assert (row.label, row.reason, row.generation) == (None, Reason.UNMATCHED, "sport\nhard to tell")


def test_a_node_that_cannot_be_made_ready_is_a_row_s_trouble() -> None:
    """A prior that cannot be had is asked for again by the next row; rows that go elsewhere do not notice."""
    fails = iter([True] * 3)
    levels = {"row a": (0.8, 0.1, 0.1), "row b": (0.1, 0.1, 0.8)}

    def score(prompt: Prompt, answers: Sequence[str]) -> tuple[float, ...]:
        if " football" in answers and prompt.text not in levels and next(fails, False):
            raise RequestFailedError("The model failed (424).", status=424)
        even = tuple(1 / len(answers) for _ in answers)
        return levels.get(prompt.text, even) if len(answers) == 3 else even

    classifier = make(RAGGED, llm=scoring(score=score), prior="words")
    with pytest.warns(FailedRequestWarning):
        assert classifier.batch(["row a", "row b"], {"max_concurrency": 1}) == [None, "other"]
    assert (classifier.invoke("row a") or "").startswith("sport/")


EXAMPLES = [("a goal", "sport/football"), ("match point", "sport/tennis/singles"), ("a vote", "politics/home")]


def test_examples_stand_where_they_belong() -> None:
    """Each node has those below it, by the names of its children; a node without any goes without."""
    llm = scoring(score=certain(**SHARES, singles=0.5, doubles=0.5))
    classifier = make(examples=EXAMPLES, beam=6, llm=llm)
    rows = classifier.with_details().batch(["x"])
    heads = {answers: prompt.head for answers, prompt in zip(llm.asked, llm.log.prompts, strict=True)}
    assert rows[0].n_examples == 3 + 2 + 1 + 1
    football, tennis = heads[" football", " tennis"], heads[" singles", " doubles"]
    assert "a goal\nLabel: football" in football
    assert "match point\nLabel: tennis" in football
    assert "a vote" not in football
    assert "match point\nLabel: singles" in tennis
    assert "a goal\nLabel: sport" in heads[" sport", " politics", " other"]
    few = make(examples=EXAMPLES[:1], n_examples=1, select="fuzzy")
    assert [type(few._classifier(node)) for node in few._top.deciding()] == [
        FewShotClassifier,
        FewShotClassifier,
        ZeroShotClassifier,
        ZeroShotClassifier,
    ]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"beam": 0}, ConfigurationError, "`beam`"),
        ({"separator": ""}, ConfigurationError, "`separator=`"),
        ({"separator": 7}, ConfigurationError, "`separator=`"),
        ({"baem": 2}, ConfigurationError, "did you mean `beam`"),
        ({"calibration": None}, ConfigurationError, "calibration"),
        ({"examples": [("x", "sport")]}, LabelError, "'sport'"),
        ({"examples": ["x"]}, ConfigurationError, "no pair"),
        ({"n_examples": 2}, ConfigurationError, "`n_examples="),
        ({"examples": EXAMPLES, "max_per_label": 1}, ConfigurationError, "`max_per_label="),
        ({"prompt": "nothing"}, PromptError, "neither a preset"),
        ({"prompt": "{labels}"}, PromptError, "text"),
        ({"prompt": "{text} {examples}", "examples": EXAMPLES[:1]}, ConfigurationError, "'sport/tennis'"),
        ({"llm": scoring().with_retry()}, ConfigurationError, "`with_fallbacks`"),
        ({"labels": ["sport", "sport/golf"]}, LabelError, "others below it"),
    ],
)
def test_wrong_arguments_are_told(given: dict[str, Any], error: type[Exception], message: str) -> None:
    """One sentence that names the argument, when the classifier is made."""
    with pytest.raises(error, match=message):
        make(**given)


def test_settings_of_one_call() -> None:
    """Another beam, other labels in any form; copies are kept, and share what was learnt where it is the same."""
    llm = scoring(score=certain(**SHARES))
    classifier = make(RAGGED, llm=llm, prior="words")
    assert classifier.invoke("x") == make(RAGGED, prior="words", llm=scoring(score=certain(**SHARES))).invoke("x")
    asked = len(llm.asked)
    classifier.invoke("x", min_confidence=0.01)
    assert len(llm.asked) == asked + 2
    assert classifier.bind(beam=2) is classifier.bind(beam=2)
    nested = {"home": {"abroad": None, "sport": ["tennis", "football"]}, "other": "none of these"}
    for one in (classifier, classifier.with_details()):
        given: Any = one
        bound = given.bind(labels=nested)
        assert bound is given.bind(labels=nested)
        assert bound._settable.labels.names == ("home/abroad", "home/sport/tennis", "home/sport/football", "other")
    configurable = classifier.configurable_fields(beam=ConfigurableField("beam"), labels=ConfigurableField("labels"))
    config: Any = {"configurable": {"labels": ["sport/tennis", "sport/football"], "beam": 2}}
    assert configurable.invoke("x", config) == "sport/football"
    with pytest.raises(ConfigurationError, match="llm"):
        classifier.bind(llm=llm)


def test_another_separator_is_another_way_to_write_the_same_tree() -> None:
    """Through a copy, a call, `bind` and a config; examples go along, and a name that holds it is refused."""
    classifier: Any = make(RAGGED, llm=scoring(score=certain(**SHARES)), beam=2)
    arrows = classifier.bind(separator=" > ")
    for one in (arrows, classifier.model_copy(update={"separator": " > "})):
        assert one == make(RAGGED, llm=classifier.llm, beam=2, separator=" > ")
        row = one.with_details().invoke("x")
        assert (row.label, row.path) == ("politics > home", ("politics", "home"))
    assert classifier.invoke("x", separator=" > ") == "politics > home"
    assert classifier.with_details().bind(separator="::").invoke("x").label == "politics::home"
    configurable = classifier.configurable_fields(separator=ConfigurableField("separator"))
    assert configurable.invoke("x", {"configurable": {"separator": "::"}}) == "politics::home"
    assert classifier.bind(separator="::", labels=["a::b", "a::c"])._top.path == ("a",)
    written = [(text, path.replace("/", " > ")) for text, path in EXAMPLES]
    shown: Any = make(examples=EXAMPLES).bind(separator=" > ")
    assert shown == make(llm=shown.llm, examples=written, separator=" > ")
    with pytest.raises(LabelError, match="'a:b' holds ':'"):
        make({"a:b": ["x", "y"]}).bind(separator=":")
    for wrong in ("", 7):
        with pytest.raises(ConfigurationError, match="`separator=` must be a text"):
            classifier.bind(separator=wrong)


def test_what_there_is_not() -> None:
    """What is about one prompt refuses a tree in one sentence."""
    tree: Any = make()
    with pytest.raises(ConfigurationError, match="HierarchicalClassifier is no estimator"):
        tree.as_estimator()
    with pytest.raises(ConfigurationError, match="not a HierarchicalClassifier"):
        create_app(tree)


@pytest.mark.parametrize("labels", [["a > x", "a > y", "b"], {"a": None, "b": "bees"}])
def test_a_tree_of_one_level_is_warned_of(labels: Any) -> None:
    """Once for the place, since the names may be written with another separator."""
    with pytest.warns(SettingsWarning, match=r"None of the labels holds the separator '/'.*one level") as told:
        classifier = make(labels)
    assert told[0].filename == __file__
    assert len(told) == 1
    assert classifier._top.labels == classifier.labels


def test_each_row_is_a_run_with_the_levels_below_it() -> None:
    """Whoever watches sees one run a row, and below it a run of the LLM for each question."""
    recorder = Recorder()
    classifier = make(RAGGED, beam=2, llm=scoring(score=certain(**SHARES)))
    assert classifier.batch(["x", "y"], {"callbacks": [recorder]}) == ["politics/home"] * 2
    assert [run["outputs"] for run in recorder.chains.values()] == ["politics/home"] * 2
    parents = [run["parent"] for run in recorder.llms.values()]
    assert sorted(map(str, parents)) == sorted(str(run) for run in [*recorder.chains] * 3)


@pytest.mark.parametrize("details", [False, True])
@pytest.mark.parametrize("given", [{"beam": 3}, {"examples": EXAMPLES, "select": "bm25"}, {"separator": " > "}])
def test_what_is_saved_comes_back_equal(given: dict[str, Any], details: bool) -> None:
    """Through LangChain's `dumps` and our `load`, pickle and copies."""
    whole: Any = HierarchicalClassifier(TREE, llm=TGI, text_kind="review", **given)
    whole = whole.with_details() if details else whole
    assert load(dumps(whole)) == whole
    for again in (pickle.loads(pickle.dumps(whole)), copy(whole), deepcopy(whole)):  # noqa: S301  # our own
        assert again == whole
        assert again._settable._top == whole._settable._top


def test_a_ledger_keeps_answers(tmp_path: Path) -> None:
    """A run that goes on asks nothing again and knows the paths; another beam is another task."""
    with Ledger(tmp_path / "run.sqlite") as ledger:
        first = [(row.label, row.path) for row in make().stream_rows(TEXTS, ledger=ledger, in_order=True)]
        llm = scoring()
        again = make(llm=llm)
        assert [(row.label, row.path) for row in again.stream_rows(TEXTS, ledger=ledger, in_order=True)] == first
        assert llm.asked == []
        list(make(llm=llm, beam=2).stream_rows(TEXTS, ledger=ledger))
        assert len(llm.asked) > len(TEXTS)


@pytest.mark.parametrize(
    "given",
    [
        {"beam": 2},
        {"min_confidence": 0.1},
        {"separator": "|"},
        {"labels": {**TREE, "politics": ["home", "foreign"]}},
        {"labels": {**TREE, "politics": {"home": "ours", "abroad": None}}},
        {"examples": EXAMPLES},
        {"examples": [*EXAMPLES[:2], ("an election", "politics/home")]},
        {"llm": scoring(model_id="another")},
        {"on_overlong": "truncate"},
        {"label_kind": "topic"},
    ],
)
def test_the_key_of_a_task_has_all_its_nodes(given: dict[str, Any]) -> None:
    """What changes answers at any node makes another task; the same settings make the same."""
    ours = asyncio.run(make()._akeys())[0]
    assert asyncio.run(make()._akeys())[0] == ours != asyncio.run(make(**given)._akeys())[0]


def test_it_may_be_a_stage_of_a_cascade() -> None:
    """Either one, or both; one that tells no confidence cannot be the cheap one."""
    flat = ZeroShotClassifier(make().labels, llm=scoring(), prior=None, prompt="kinds")
    for cheap, strong in ((make(), flat), (flat, make()), (make(), make(beam=6))):
        rows = Cascade(cheap, strong, threshold=0.3).with_details().batch(TEXTS)
        first, second = cheap.with_details().batch(TEXTS), strong.with_details().batch(TEXTS)
        for row, one, other in zip(rows, first, second, strict=True):
            assert row.label == (one if (one.confidence or 0) >= 0.3 else other).label
    generating = make(llm=FakeLLM(answer=saying), method="generate", prompt="task")
    with pytest.raises(ConfigurationError, match="method='score'"):
        Cascade(generating, flat, threshold=0.3).invoke("x")


def test_it_is_a_tool_and_can_be_measured() -> None:
    """An agent gets the path; `evaluate` asks it as any classifier, and has no Brier score of half a distribution."""
    tool = make(text_kind="ticket").as_tool()
    message = tool.invoke({"type": "tool_call", "name": tool.name, "id": "1", "args": {"text": TEXTS[1]}})
    assert message.content == make().invoke(TEXTS[1]) == "/".join(message.artifact.path)
    truths = [make().labels[zlib.crc32(text.encode()) % 6] for text in TEXTS]
    right = [label == truth for label, truth in zip(make().batch(TEXTS), truths, strict=True)]
    measured = evaluate(make(), TEXTS, truths, bootstrap=0)
    assert measured.accuracy == pytest.approx(sum(right) / len(right))
    assert measured.brier is None
    assert evaluate(make(beam=6), TEXTS, truths, bootstrap=0).brier is not None


def test_the_graph_shows_the_tree() -> None:
    """Every node that is asked about, with what leads on from it."""
    drawn = make().get_graph().draw_mermaid()
    assert "sport/tennis" in drawn
    assert drawn.count(" -.") == 3 + 2 + 2 + 2
    assert "sport/tennis" in make().with_details().get_graph().draw_mermaid()


def test_nothing_shows_a_text() -> None:
    """Not what nodes are asked, nor the classifier with examples."""
    answering = asyncio.run(make()._aprepare())
    assert SECRET not in repr(answering.render(SECRET))
    assert SECRET not in repr(make(examples=[(SECRET, "other"), ("x", "sport/football")]))
