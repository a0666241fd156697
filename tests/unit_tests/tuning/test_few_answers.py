"""`tune` where answers are few: texts that no label fits, candidates that say nothing, few texts, small budgets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from fakes import SECRET, FakeScoringLLM
from rich.console import Console

from langchain_stormtrooper import (
    ConfigurationError,
    FewShotClassifier,
    OverlongInputError,
    RequestFailedError,
    ZeroShotClassifier,
    tune,
)
from langchain_stormtrooper.prompts import Prompt

LABELS = ["politics", "science", "sport"]
OPTION = "none"
KINDS = [*LABELS, OPTION]
TEXTS = [f"{SECRET} {kind} {number}" for number in range(15) for kind in KINDS]
RIGHT = [None if kind == OPTION else kind for _ in range(15) for kind in KINDS]


def knowing(prompt: Prompt, answers: Sequence[str]) -> tuple[float, ...]:
    """A model that reads the right answer in the text, and leans nowhere."""
    true = next((kind for kind in KINDS if f" {kind} " in prompt.text), None)
    return tuple(0.7 if answer.strip() == true else 0.1 for answer in answers)


def few_shot(prompt: Prompt) -> bool:
    """Whether a prompt has examples."""
    return str(prompt).count("Text: ") > 1


def answering(answer: Any, **settings: Any) -> FakeScoringLLM:
    """The knowing model, with something that is done before each answer."""

    def before(prompt: Prompt) -> str:
        answer(prompt)
        return ""

    return FakeScoringLLM(score=knowing, answer=before, **settings)


class TestOption:
    """Texts that no label fits."""

    def test_its_texts_become_examples_and_are_compared_on(self) -> None:
        """With the option, None is a label like others: as many examples, and right where the answer is the option."""
        llm = FakeScoringLLM(score=knowing)
        tuned = tune(TEXTS, RIGHT, llm=llm, out_of_scope=OPTION, prompts=["kinds"], n_examples=[0, 2])
        assert tuned.classifier.labels.names == tuple(LABELS)
        bare, few = tuned.evidence.candidates
        assert (bare.examples, few.examples, tuned.evidence.held) == (0, 8, 8)
        assert (bare.right, few.right, bare.unlabelled) == (bare.texts, few.texts, 0)
        named = tune(
            TEXTS,
            [label or OPTION for label in RIGHT],
            llm=FakeScoringLLM(score=knowing),
            out_of_scope=OPTION,
            prompts=["kinds"],
            n_examples=[0, 2],
        )
        assert named.evidence == tuned.evidence

    def test_an_answer_that_is_unsure_is_not_the_option(self) -> None:
        """Texts without a label are right because of the option alone, not because nothing was sure enough."""
        settings: dict[str, Any] = {"out_of_scope": OPTION, "prompts": ["kinds"], "n_examples": [0, 1]}

        def unsure(prompt: Prompt, answers: Sequence[str]) -> tuple[float, ...]:
            return knowing(prompt, answers) if f" {OPTION} " not in prompt.text else (0.25,) * len(answers)

        tuned = tune(TEXTS, RIGHT, llm=FakeScoringLLM(score=unsure), min_confidence=0.5, **settings)
        bare = tuned.evidence.candidates[0]
        assert bare.unlabelled > 0
        assert bare.right == bare.texts - bare.unlabelled

    @pytest.mark.parametrize("own", [True, False])
    def test_examples_of_ones_own_keep_it(self, own: bool) -> None:
        """A pool's examples of the option are examples of the candidates, wherever the pool comes from."""
        pool = [("ea", "sport"), ("eb", "politics"), ("ec", "science"), ("nix", None)]
        llm = FakeScoringLLM(score=knowing)
        classifier = (
            FewShotClassifier(LABELS, pool, out_of_scope=OPTION, llm=llm)
            if own
            else ZeroShotClassifier(LABELS, out_of_scope=OPTION, llm=llm)
        )
        tuned = tune(
            TEXTS,
            RIGHT,
            classifier=classifier,
            examples=None if own else pool,
            n_examples=[1],
            prompts=["kinds", "task"],
        )
        assert isinstance(tuned.classifier, FewShotClassifier)
        assert Counter(example.label for example in tuned.classifier.examples) == dict.fromkeys(KINDS, 1)

    def test_without_it_none_is_refused(self) -> None:
        """The error of a classifier without the option says what to set."""
        classifier = ZeroShotClassifier(LABELS, llm=FakeScoringLLM(score=knowing))
        with pytest.raises(ConfigurationError, match=r"labels\[3\] is None: .* set `out_of_scope=`"):
            tune(TEXTS, RIGHT, classifier=classifier)


def in_scope() -> tuple[list[str], list[str]]:
    """Texts and labels without those that no label fits."""
    pairs = [(text, label) for text, label in zip(TEXTS, RIGHT, strict=True) if label is not None]
    return [text for text, _ in pairs], [label for _, label in pairs]


class TestSilence:
    """Candidates that label nothing."""

    @pytest.mark.parametrize(
        ("reason", "said"), [("overlong", "too long for the model"), ("unsure", "not sure enough")]
    )
    def test_nothing_can_be_chosen_where_none_labels(self, reason: str, said: str) -> None:
        """If no candidate labelled any text, that is an error with the reasons and their counts, not a choice."""

        def refuse(prompt: Prompt) -> None:
            if reason == "overlong":
                raise OverlongInputError("The prompt has 99 tokens, the server takes at most 9.", tokens=99, limit=9)

        demand = 0.99 if reason == "unsure" else None
        with pytest.raises(
            ConfigurationError, match=rf"No candidate labelled any text.* of \d+ answers, \d+ {said}\."
        ) as e:
            tune(*in_scope(), llm=answering(refuse), min_confidence=demand, prompts=["kinds", "task"])
        assert SECRET not in str(e.value)

    def test_one_that_labels_none_is_told(self) -> None:
        """A remark names it and says why, and the table counts texts without a label."""

        def unsure(prompt: Prompt, answers: Sequence[str]) -> tuple[float, ...]:
            return (0.25,) * len(answers) if few_shot(prompt) else knowing(prompt, answers)

        llm = FakeScoringLLM(score=unsure)
        tuned = tune(*in_scope(), llm=llm, min_confidence=0.5, prompts=["kinds"], n_examples=[0, 1])
        few = tuned.evidence.candidates[1]
        assert few.unlabelled == few.texts
        said = f"Number 1, with the prompt 'kinds' and 3 examples, labelled none of {few.texts} texts: {few.texts} not"
        assert [remark[: len(said)] for remark in tuned.evidence.remarks if remark.startswith("Number")] == [said]
        console = Console(width=150)
        with console.capture() as capture:
            console.print(tuned)
        head, bare, silent = capture.get().splitlines()[:3]
        assert head.split()[-1] == "unlabelled"
        assert str(few.texts) in silent.split("dropped")[0].split()[-1]
        assert bare.split()[-2] != "0"
        with console.capture() as capture:
            console.print(tune(*in_scope(), llm=FakeScoringLLM(score=knowing), prompts=["kinds"], n_examples=[0, 1]))
        assert "unlabelled" not in capture.get()

    def test_a_lean_that_cannot_be_had_names_the_candidate(self) -> None:
        """If the questions before the first row fail, the error says for which prompt and examples."""

        def refuse(prompt: Prompt) -> None:
            if few_shot(prompt):
                raise RequestFailedError("The model failed (424).", status=424)

        llm = answering(refuse)
        with pytest.raises(RequestFailedError, match=r"prompt 'kinds' and 3 examples .*424.*`prior=None`") as caught:
            tune(*in_scope(), llm=llm, prompts=["kinds"], n_examples=[0, 1])
        assert caught.value.status == 424
        assert not [prompt for prompt in llm.log.prompts if SECRET in prompt.text]


class TestCounts:
    """Few texts and small budgets."""

    def test_the_budget_is_spent_where_nobody_is_dropped(self) -> None:
        """Four candidates and thirty texts: 100 rows pay for 25 texts each, and so many are answered."""

        # Each is right where the others are not, so that nobody leads and much can still be shown.
        def score(prompt: Prompt, answers: Sequence[str]) -> tuple[float, ...]:
            true = prompt.text.split(" ")[-2] if SECRET in prompt.text else None
            turn = (few_shot(prompt) * 2 + ("Classify" in str(prompt))) % 4
            number = int(prompt.text.split(" ")[-1]) if true else 0
            is_right = number % 4 != turn
            return tuple((0.9 if (answer.strip() == true) == is_right else 0.1) if true else 0.5 for answer in answers)

        names = ["negative", "positive"]
        texts = [f"{SECRET} {name} {number}" for number in range(15) for name in names]
        right = names * 15
        llm = FakeScoringLLM(score=score)
        tuned = tune(
            texts, right, llm=llm, prompts=["kinds", "task"], n_examples=[0, 1], budget=100, confidence=0.6
        ).evidence
        assert [one.texts for one in tuned.candidates] == [25] * 4
        assert (tuned.answered, tuned.stopped) == (100, "budget")

    def test_candidates_are_counted_after_merging(self) -> None:
        """A template that shows no descriptions is one candidate, so that a budget for what is left is enough."""
        prompts = ["{text}\nLabel:", "Text: {text}\nLabel:"]
        described = [None, {"sport": "games"}, {"sport": "all games"}, {"science": "research"}]
        llm = FakeScoringLLM(score=knowing)
        tuned = tune(*in_scope(), llm=llm, prompts=prompts, descriptions=described, n_examples=[0], budget=20)
        assert len(tuned.evidence.candidates) == 2
        assert any(remark.startswith("6 of the candidates ask in the same way") for remark in tuned.evidence.remarks)
        # Not even the model's lean is asked for twice.
        assert len(llm.log.prompts) == tuned.evidence.answered + 8 * 2
        with pytest.raises(ConfigurationError, match="There is one candidate"):
            tune(*in_scope(), llm=llm, prompts=prompts[:1], descriptions=described, n_examples=[0])

    def test_what_may_be_the_same_is_not_counted_before_it_is_known(self) -> None:
        """A default that is one of the presets does not make a budget too small."""
        llm = FakeScoringLLM(score=knowing, model_id="Some-135M")
        tuned = tune(*in_scope(), llm=llm, prompts=[None, "task", "kinds"], n_examples=[0], budget=12)
        assert len(tuned.evidence.candidates) == 2

    def test_contradictions_are_told(self) -> None:
        """Equal texts with different labels are counted; those with the same label are not among them."""
        texts, labels = in_scope()
        again = [texts[0].upper(), texts[0], texts[1], texts[2]]
        tuned = tune(
            [*texts, *again],
            [*labels, "sport", "science", "politics", labels[2]],
            llm=FakeScoringLLM(score=knowing),
            prompts=["kinds"],
        )
        assert any(one.startswith("2 of the texts occur with different labels") for one in tuned.evidence.remarks)
        assert any(one.startswith("4 of the texts repeat others") for one in tuned.evidence.remarks)

    def test_too_few_examples_are_told(self) -> None:
        """Also if all labels have too few for the number that was to be tried, or there are none at all."""
        llm = FakeScoringLLM(score=knowing)
        tuned = tune(*in_scope(), llm=llm, prompts=["kinds"], n_examples=[0, 100]).evidence
        assert tuned.candidates[1].examples == 15
        assert "No label has 100 examples, the most that was to be tried: none has more than 5." in tuned.remarks
        names = [f"{letter}{letter}" for letter in "abcdefgh"]
        texts, labels = [f"{name} {number}" for number in range(2) for name in names], names * 2

        def read(prompt: Prompt, answers: Sequence[str]) -> tuple[float, ...]:
            return tuple(0.9 if prompt.text.startswith(answer.strip()) else 0.1 for answer in answers)

        bare = tune(texts, labels, llm=FakeScoringLLM(score=read), prompts=["kinds", "task"]).evidence
        assert {one.examples for one in bare.candidates} == {0}
        assert any("only prompts without any were tried" in remark for remark in bare.remarks)
