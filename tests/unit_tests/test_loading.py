"""Classifiers survive LangChain's `dumps` and our `load`, and no secret is in what is saved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fakes import LABELS, FakeLLM
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.load import dumpd, dumps
from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import ConfigurableField, RunnablePassthrough

from langchain_stormtrooper import (
    ConfigurationError,
    FewShotClassifier,
    LabelError,
    LabelOutputParser,
    LabelSet,
    LlamaCpp,
    OpenAICompletions,
    TextGenerationInference,
    ZeroShotClassifier,
    load,
)
from langchain_stormtrooper.calibration import Calibration

EXAMPLES = [("A joy.", "lc"), ("A bore.", "__lc_escaped__")]
ODD = {"lc": "a name that LangChain uses", "__lc_escaped__": None}
TGI = TextGenerationInference(base_url="http://127.0.0.1:9", max_new_tokens=7, stop=["."], timeout=3, scoring="raw")
PRIOR = Calibration(labels=("lc", "__lc_escaped__"), task="0" * 64, model_id="m", kind="prior", prior=(0.25, 0.75))

THINGS: dict[str, Any] = {
    "zero shot": ZeroShotClassifier(ODD, llm=TGI, prior=None, min_confidence=0.0, on_overlong="raise", rotations=2),
    "few shot": FewShotClassifier(ODD, EXAMPLES, llm=TGI, prompt="kinds", text_kind="review", max_new_tokens=3),
    "details": ZeroShotClassifier(ODD, llm=TGI).with_details(),
    "calibrated": ZeroShotClassifier(ODD, llm=TGI, calibration=PRIOR),
    "template": ZeroShotClassifier(ODD, llm=TGI, prompt="{labels} {{lc}} {text} {extra}", name="mine"),
    "strict parser": ZeroShotClassifier(ODD, llm=TGI, parser=LabelOutputParser(ODD, fuzzy_match=False, threshold=0.5)),
    "embedded": ZeroShotClassifier(ODD, llm=LlamaCpp(model_path=Path("m.gguf"), n_ctx=128)),
    "TGI": TGI,
    "OpenAI": OpenAICompletions(base_url="http://127.0.0.1:9/v1", model="m", api="chat", scoring="raw"),
    "LlamaCpp": LlamaCpp(repo_id="r", filename="f.gguf", n_gpu_layers=0, on_overlong="raise"),
    "parser": LabelOutputParser(ODD, margin=0.0),
}


@pytest.mark.parametrize("thing", THINGS.values(), ids=THINGS)
def test_what_is_saved_comes_back_equal(thing: Any) -> None:
    """From text, bytes and dict; saved again, it is the same text."""
    text = dumps(thing)
    for dump in (text, text.encode(), dumpd(thing)):
        assert load(dump) == thing
    assert dumps(load(text)) == text


def test_equality_looks_at_every_setting() -> None:
    """Classifiers and LLMs of the same settings are equal, with one other setting they are not."""
    task = ZeroShotClassifier(LABELS, llm=TGI)
    assert task == ZeroShotClassifier(LABELS, llm=TGI.model_copy())
    others = [
        task.model_copy(update={"text_kind": "review"}),
        task.model_copy(update={"llm": TGI.model_copy(update={"timeout": 4.0})}),
        ZeroShotClassifier(dict.fromkeys(LABELS, "described"), llm=TGI),
        task.with_details(),
        FewShotClassifier(LABELS, [("x", LABELS[0])], llm=TGI),
        "a text",
    ]
    assert all(task != other for other in others)


NAMES = st.text(min_size=1).filter(lambda name: max(name) < "\ud800" or min(name) > "\udfff")


@st.composite
def label_sets(draw: st.DrawFn) -> LabelSet:
    """Labels with and without descriptions, of any characters."""
    names = draw(
        st.lists(st.sampled_from(["lc", "type", "id", "None", "1", "ß", "\U0001f389x", 'q"{', "名"]), min_size=1)
    )
    names += draw(st.lists(NAMES, min_size=1, max_size=4))
    try:
        return LabelSet.of({name: draw(st.none() | NAMES) for name in names})
    except LabelError:
        return LabelSet.of(["lc", "other"])


@given(
    label_sets(),
    st.fixed_dictionaries(
        {},
        optional={
            "min_confidence": st.none() | st.floats(0, 1),
            "min_margin": st.floats(0, 1),
            "prior": st.sampled_from(["words", "content-free", None]),
            "method": st.sampled_from(["auto", "score", "generate"]),
            "prompt": st.sampled_from(["task", "codes", "chat", None]),
            "on_overlong": st.sampled_from(["none", "truncate", "raise"]),
            "text_key": st.text(),
            "text_kind": st.text(min_size=1),
            "max_new_tokens": st.none() | st.integers(1, 10**6),
        },
    ),
)
def test_any_settings_survive(labels: LabelSet, settings: dict[str, Any]) -> None:
    """Whatever can be created can be saved and loaded."""
    task = ZeroShotClassifier(labels, llm=TGI, **settings)
    loaded = load(dumps(task))
    assert loaded == task
    assert loaded.labels.labels == labels.labels


def test_chains_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chains of the parts, with maps and bindings, are loaded; nothing is left out."""
    monkeypatch.delenv("TGI_API_KEY", raising=False)
    task = ZeroShotClassifier(ODD, llm=TGI)
    chain: Any = {"label": task.bind(text_kind="review"), "text": RunnablePassthrough()}
    for runnable in (
        PromptTemplate.from_template("{x}") | TGI | LabelOutputParser(ODD),
        RunnablePassthrough() | chain,
        task.with_config(tags=["a"], run_name="mine"),
    ):
        assert dumps(load(dumps(runnable))) == dumps(runnable)


@pytest.mark.parametrize(
    ("kind", "variable"),
    [(TextGenerationInference, "TGI_API_KEY"), (OpenAICompletions, "OPENAI_COMPATIBLE_API_KEY")],
)
def test_secrets_are_never_saved(monkeypatch: pytest.MonkeyPatch, kind: Any, variable: str) -> None:
    """Neither the key nor headers are in a dump; the key comes from the map, else from the environment."""
    monkeypatch.delenv(variable, raising=False)
    llm = kind(api_key="sesame", headers={"X-Key": "sesame2"})
    text = dumps(ZeroShotClassifier(LABELS, llm=llm))
    assert "sesame" not in text
    with pytest.raises(ConfigurationError, match=f"A secret is needed: set {variable}, or pass secrets_map"):
        load(text)
    loaded = load(text, secrets_map={variable: "sesame"})
    assert loaded.llm.api_key == llm.api_key
    assert loaded.llm.headers == {}
    monkeypatch.setenv(variable, "other")
    assert load(text).llm.api_key.get_secret_value() == "other"


def test_no_other_variable_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dump cannot have a secret of the environment sent to its server."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "sesame")
    monkeypatch.setenv("TGI_API_KEY", "mine")
    dump = dumps(TextGenerationInference(base_url="http://127.0.0.1:9")).replace("TGI_API_KEY", "AWS_SECRET_ACCESS_KEY")
    with pytest.raises(ConfigurationError, match="AWS_SECRET_ACCESS_KEY") as caught:
        load(dump)
    assert "sesame" not in str(caught.value)


class ClosedParser(LabelOutputParser):
    """A parser that says of itself that it cannot be saved."""

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """No."""
        return False


def test_what_cannot_be_saved_is_named() -> None:
    """An error tells which class is in the way, and shows nothing of its content."""
    task = ZeroShotClassifier(LABELS, llm=FakeListChatModel(responses=["secret answer"]))
    with pytest.raises(
        ConfigurationError, match=r"FakeListChatModel, of which LangChain saves only the name"
    ) as caught:
        load(dumps(task))
    assert "secret answer" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="ClosedParser, of which"):
        load(dumps(ZeroShotClassifier(LABELS, llm=TGI, parser=ClosedParser(labels=LABELS))))
    with pytest.raises(ConfigurationError, match="of which LangChain saves only the name"):
        load(dumps(task.configurable_fields(labels=ConfigurableField("labels"))))


def test_other_classes_are_made_only_where_allowed() -> None:
    """A class that is not on the list is refused before anything is imported, unless the caller allows it."""
    llm = FakeLLM(places=3)
    task = ZeroShotClassifier(LABELS, llm=llm)
    # The function in its default settings is no data, so that the field has to go.
    dump = dumpd(task)
    del dump["kwargs"]["llm"]["kwargs"]["answer"]
    with pytest.raises(ConfigurationError, match=r"fakes.FakeLLM, which is not on the list: pass allowed=\[FakeLLM\]"):
        load(dump)
    assert load(dump, allowed=[FakeLLM]) == task
    dump["kwargs"]["llm"]["id"] = ["os", "system"]
    with pytest.raises(ConfigurationError, match=r"os\.system, which is not on the list"):
        load(dump)


def changed(**kwargs: Any) -> dict[str, Any]:
    """A dump with other arguments."""
    dump = dumpd(ZeroShotClassifier(LABELS, llm=TGI))
    dump["kwargs"].update(kwargs)
    return dict(dump)


@pytest.mark.parametrize(
    ("dump", "message"),
    [
        ("{", "no JSON, was cut short"),
        (b"\xff", "no JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("[]", "no dump of a Runnable"),
        ("3", "no dump of a Runnable"),
        ({}, "no dump of a Runnable"),
        ({"lc": 1}, "a part without a name"),
        ({**changed(), "lc": 2}, "in a format that this release does not read: upgrade"),
        ({**changed(), "type": "future"}, "in a format that this release does not read"),
        (changed(min_confidnce=0.5), "there is no argument `min_confidnce`; did you mean `min_confidence`"),
        (changed(min_confidence=7), "min_confidence"),
        (changed(labels=["one"]), "at least two labels"),
        (changed(prompt={**dumpd(PromptTemplate.from_template("{text}"))}, method=3), "method"),
    ],
)
def test_a_dump_that_does_not_fit_is_one_clear_sentence(dump: Any, message: str) -> None:
    """What is broken, newer or not a dump is refused with what is wrong."""
    with pytest.raises(ConfigurationError, match=message):
        load(dump)


def test_missing_and_dangerous_arguments_are_refused() -> None:
    """A dump without labels, and one with a template that could run code, end in our error."""
    dump = changed()
    del dump["kwargs"]["labels"]
    with pytest.raises(ConfigurationError, match="does not fit this release"):
        load(dump)
    template = json.loads(dumps(PromptTemplate.from_template("{text}")))
    template["kwargs"].update(template="{{ text }}", template_format="jinja2")
    with pytest.raises(ConfigurationError, match="Jinja2 template, which could run code"):
        load(changed(prompt=template))
