"""`HierarchicalClassifier`: labels in a tree, each level decided among what is below the last.

A Runnable like the classifiers, on the same machinery (`row_classifier`, `rows`), with a zero- or few-shot classifier
at each node. What the labels are is `tree`'s business, a row's way down is `descent`'s.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NoReturn, Self

from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseLanguageModel
from langchain_core.prompts import StringPromptTemplate
from langchain_core.runnables import RunnableConfig
from pydantic import ConfigDict, Field, InstanceOf, PrivateAttr
from typing_extensions import override

from langchain_stormtrooper import answering
from langchain_stormtrooper.answering import Demands
from langchain_stormtrooper.answering.settings import MethodName, PresetName
from langchain_stormtrooper.arguments import checked
from langchain_stormtrooper.calibration import PriorName
from langchain_stormtrooper.classifiers import FewShotClassifier, ZeroShotClassifier
from langchain_stormtrooper.drawing import Graph, hierarchy_graph
from langchain_stormtrooper.errors import ConfigurationError, SettingsWarning
from langchain_stormtrooper.examples import Example, read_examples
from langchain_stormtrooper.hierarchy.descent import UNTOLD, HierarchyAnswering, HierarchyPrompt
from langchain_stormtrooper.hierarchy.tree import Node, TreeSpec, grow, read_paths, respell, respelled
from langchain_stormtrooper.labels import LabelSet
from langchain_stormtrooper.llms.tgi import TextGenerationInference
from langchain_stormtrooper.parts import check_llm, read_prompt
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.results import Method
from langchain_stormtrooper.row_classifier import Keys, RowClassifier
from langchain_stormtrooper.row_warnings import warn_caller
from langchain_stormtrooper.rows import RowAnswering, RowRunnable
from langchain_stormtrooper.selecting import SelectName
from langchain_stormtrooper.tasks import run_all
from langchain_stormtrooper.text_classifier import TextClassifier

_OF_NODES = ("llm", "prompt", "method", "prior", "on_overlong", "text_key", "text_kind", "label_kind", "max_new_tokens")
_OF_EXAMPLES = ("select", "n_examples", "max_per_label")


class HierarchicalClassifier(RowClassifier):
    """Classifies texts into labels that form a tree, level by level.

    A Runnable from a text (or a dict that holds it) to the path of one of the labels, like `"sport/tennis"`, or to None
    with a warning. First the names at the root are chosen from, then those below the chosen one, and so on, each time
    with the prompt and the method of a `ZeroShotClassifier` (or a `FewShotClassifier`, where there are examples). The
    probability of a label is the product of those along its path. A node with one child is not asked about.

    With `with_details()`, `path` has the names and `confidence` the product. Tokens and `n_examples` are those of all
    questions together, so that an example counts once for each question that it was in. `probabilities` has the labels
    that were reached, that is, all children of nodes that were asked which are labels. What is missing from 1 is what
    lies below the nodes that were not asked. A row is None if one of its questions is not answered (failed, overlong,
    unmatched), with that question's reason.

    Args:
        labels: A nested dict, such as `{"sport": {"football": None, "tennis": ["singles", "doubles"]}, "other": None}`:
            a value is None or a description for a label, a list of names, or another dict. Or paths, such as
            `["sport/football", "sport/tennis/singles", "other"]`, in whatever else `ZeroShotClassifier` takes; a dict
            without other dicts or lists in it has paths and their descriptions.
        beam: How many nodes stay on each level. Labels that were reached stay in the competition; the answer is the
            most probable of them. 1 goes on with the most probable node alone; with as many as there are labels, all
            are asked, and the probabilities are complete. Above 1, the method must give probabilities.
        separator: What stands between the names of a path. Another one in a call, `bind` or a config writes the paths
            of the same tree with that. A `SettingsWarning` says so if none of the labels holds it.
        examples: Pairs `(text, path)`. Each node has those of the labels below it; one that has none goes without.
        select: As in `FewShotClassifier`, at each node; no example selectors.
        n_examples: As in `FewShotClassifier`, at each node, so that a row may have been shown more in all.
        max_per_label: As in `FewShotClassifier`, at each node.
        llm: As in `ZeroShotClassifier`.
        prompt: As in `ZeroShotClassifier`; `{labels}` are the names at the node.
        method: As in `ZeroShotClassifier`; "auto" is settled at each node.
        prior: As in `ZeroShotClassifier`; measured at each node, when the first row gets there.
        min_confidence: The probability that the whole path must have, else the row is None with a
            `LowConfidenceWarning`.
        on_overlong: As in `ZeroShotClassifier`.
        text_key: As in `ZeroShotClassifier`.
        text_kind: As in `ZeroShotClassifier`.
        label_kind: As in `ZeroShotClassifier`, on all levels.
        max_new_tokens: As in `ZeroShotClassifier`.

    Raises:
        LabelError: The labels do not make a tree, two at one node cannot be told apart, or an example's label is none.
        PromptError: The template has no `{text}`.
        ConfigurationError: The arguments contradict each other.

    Examples:
        >>> from langchain_stormtrooper import HierarchicalClassifier, LlamaCpp
        >>> tree = {"sport": ["football", "tennis"], "politics": {"elections": None, "diplomacy": None}}
        >>> classifier = HierarchicalClassifier(tree, llm=LlamaCpp(), beam=2)
        >>> answer = classifier.with_details().invoke("The goalkeeper saved a penalty in the football match.")
        >>> answer.label, answer.path
        ('sport/football', ('sport', 'football'))
    """

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True, hide_input_in_errors=True)

    labels: LabelSet
    beam: int = Field(default=1, ge=1)
    separator: str = Field(default="/", min_length=1)
    examples: tuple[Example, ...] = Field(default=(), repr=False)
    select: SelectName | InstanceOf[Embeddings] = Field(default="balanced", repr=False)
    n_examples: int | None = Field(default=None, ge=1)
    max_per_label: int | None = Field(default=None, ge=1)
    llm: InstanceOf[BaseLanguageModel[Any]] = Field(default_factory=TextGenerationInference)
    prompt: StringPromptTemplate | PresetName | None = None
    method: MethodName = "auto"
    prior: PriorName | None = "words"
    min_confidence: float | None = Field(default=None, ge=0, le=1)
    on_overlong: Literal["none", "truncate", "raise"] = "none"
    text_key: str = "text"
    text_kind: str = Field(default="text", min_length=1)
    label_kind: str = Field(default="label", min_length=1)
    max_new_tokens: int | None = Field(default=None, ge=1)

    _top: Node = PrivateAttr(default_factory=Node)
    # Classifiers by the path of their node; shared by copies that ask the same.
    _deciding: ClassVar[frozenset[str]] = frozenset({"beam", "min_confidence"})
    _nodes: dict[tuple[str, ...], TextClassifier] = PrivateAttr(default_factory=dict)

    def __init__(self, labels: TreeSpec, **kwargs: Any) -> None:
        name, fields = type(self).__name__, type(self).model_fields
        separator = kwargs.get("separator", fields["separator"].default)
        if not isinstance(separator, str) or not separator:
            raise ConfigurationError("`separator=` must be a text, such as '/'.")
        labels = read_paths(labels, separator)
        top = grow(labels, separator).settled()
        if not any(separator in label for label in labels):
            warn_caller(
                SettingsWarning,
                f"None of the labels holds the separator {separator!r}, so that the tree has one level only: set "
                "`separator=` to what stands between the names of a path, or use a ZeroShotClassifier.",
            )
        examples = kwargs.pop("examples", ())
        if not isinstance(examples, tuple | list) or examples:
            kwargs["examples"] = read_examples(examples, labels.names)
        if "prompt" in kwargs:
            kwargs["prompt"] = read_prompt(kwargs["prompt"])
        check_llm(kwargs.get("llm"))
        with checked(name, fields):
            super().__init__(labels=labels, **kwargs)
        self._top = top
        self._check()

    def _check(self) -> None:
        fields = type(self).model_fields
        given = [name for name in _OF_EXAMPLES if getattr(self, name) != fields[name].default]
        if given and not self.examples:
            raise ConfigurationError(f"`{given[0]}=` is about examples, and there are none: give `examples=` too.")
        if isinstance(self.prompt, StringPromptTemplate):
            # What is wrong with a template at any node is known now: do not wait for the first row.
            for node in self._top.deciding():
                if self.examples and not self._examples_below(node):
                    raise ConfigurationError(
                        f"A template of your own has a place for examples, and there are none below "
                        f"{self.separator.join(node.path)!r}: give some."
                    )
                self._classifier(node)
        self._classifier(self._top)

    @override
    def _following(self, update: Mapping[str, Any]) -> Mapping[str, Any]:
        """Labels and examples as they are with the separator of an update; nothing where that stays."""
        old, new = self.separator, update.get("separator", self.separator)
        if new == old or not isinstance(new, str) or not new:
            return {}
        examples = [(one.text, respell(one.label, old, new)) for one in self.examples]
        labels = {} if "labels" in update else {"labels": respelled(self.labels, old, new)}
        return {**labels, **({"examples": examples} if examples else {})}

    def __copy__(self) -> Self:
        copied = super().__copy__()
        copied._nodes = {}
        return copied

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        copied = super().__deepcopy__(memo)
        copied._nodes = {}
        return copied

    def as_estimator(self) -> NoReturn:
        """Not there: the estimators fit one prompt's classifier, and know no paths.

        Raises:
            ConfigurationError: Always.
        """
        raise ConfigurationError(
            "A HierarchicalClassifier is no estimator, whose `fit` is about one prompt: use a ZeroShotClassifier or a "
            "FewShotClassifier of the same paths for that, or this one as a Runnable."
        )

    @override
    def _read(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        if "labels" not in settings:
            return settings
        return {**settings, "labels": read_paths(settings["labels"], settings.get("separator", self.separator))}

    @override
    def _learn_with(self, other: Self) -> None:
        self._nodes = other._nodes

    @property
    @override
    def lc_attributes(self) -> dict[str, Any]:
        """Labels and examples as plain data, since LangChain serialises no other."""
        examples = {"examples": [[example.text, example.label] for example in self.examples]} if self.examples else {}
        return {"labels": self.labels.to_list(), **examples}

    def _examples_below(self, node: Node) -> list[tuple[str, str]]:
        """The examples of a node, each with the name of one of its children."""
        names = {leaf.label: leaf.path[len(node.path)] for leaf in node.leaves()}
        return [(example.text, names[example.label]) for example in self.examples if example.label in names]

    def _classifier(self, node: Node) -> TextClassifier:
        """What answers at a node; made when it is first needed, and kept."""
        known = self._nodes.get(node.path)
        if known is not None:
            return known
        settings = {name: getattr(self, name) for name in _OF_NODES}
        examples = self._examples_below(node)
        made: TextClassifier
        if examples:
            settings |= {name: getattr(self, name) for name in _OF_EXAMPLES}
            made = FewShotClassifier(node.labels, examples, **settings)
        else:
            made = ZeroShotClassifier(node.labels, **settings)
        return self._nodes.setdefault(node.path, made)

    @override
    async def _aprepare(self) -> RowAnswering:
        demands = Demands(self.min_confidence)
        first = self._classifier(self._top)
        if self.beam > 1 and await first.aget_method() is Method.GENERATE:
            raise ConfigurationError(UNTOLD)
        if not await self._atells_confidence():
            # Raises if there is one that could not be met.
            demands.refusal(None, None, None)

        async def prepare(node: Node) -> RowAnswering:
            return await self._classifier(node)._aprepare()

        whole = HierarchyAnswering(self._top, await first._aprepare(), prepare, self.beam, demands)
        return RowAnswering(whole.render, whole.answer, whole.announce)

    @override
    async def _atells_confidence(self) -> bool:
        return await self._classifier(self._top)._atells_confidence()

    @override
    async def _akeys(self) -> Keys:
        nodes = list(self._top.deciding())
        keys = await run_all(lambda node: self._classifier(node)._akeys(), nodes, self._concurrency)
        told = [key for key in keys if key is not None]
        assert len(told) == len(nodes)  # noqa: S101  # a single model's always can be told
        content = ["hierarchy", self.labels.to_list(), self.separator, self.beam, self.min_confidence]
        task = hashlib.sha256(json.dumps([*content, [task for task, _ in told]]).encode("ascii")).hexdigest()
        top_key = told[0][1]

        def row_key(prompt: Prompt) -> bytes:
            assert isinstance(prompt, HierarchyPrompt)  # noqa: S101  # from this classifier's own `render`
            return top_key(prompt.top)

        return task, row_key

    @override
    def _graph_of(self, runnable: RowRunnable[Any], config: RunnableConfig | None) -> Graph:
        return hierarchy_graph(runnable, self._top, self.separator, config)

    @property
    @override
    def _concurrency(self) -> int:
        return answering.concurrency(self.llm)
