"""How a server cuts labels into tokens: what is learnt of that, and when it cannot be used."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from langchain_stormtrooper.llms.label_tokens import LabelTokens, learn_tokens
from langchain_stormtrooper.scoring import END


async def learn(vocabulary: Sequence[str], answers: Sequence[str], *, seq2seq: bool = False) -> LabelTokens | None:
    """What is learnt where the longest piece of a vocabulary is cut off first."""

    async def ids_of(text: str) -> tuple[int, ...] | None:
        ids: list[int] = []
        while text:
            piece = max((piece for piece in vocabulary if text.startswith(piece)), key=len)
            ids.append(vocabulary.index(piece))
            text = text.removeprefix(piece)
        return (*ids, *([99] if seq2seq else []))

    return await learn_tokens(ids_of, "is:", answers, seq2seq=seq2seq)


async def test_labels_are_cut_after_the_prompt() -> None:
    """Tokens are those that follow the prompt, with an end where a label starts another, and other spellings known."""
    found = await learn(["is:", " yes", "yes", " no", "no", " sir"], [" yes", " no", " yes sir"])
    assert found is not None
    assert found.sequences == ((1, END), (3,), (1, 5))
    assert found.lengths == (1, 1, 2)
    assert found.aliases == {2: 1, 4: 3}
    assert found.appendable[1,] == " yes"


@pytest.mark.parametrize("answers", [["yes", "no"], [" yes", "yes!"]])
async def test_a_label_that_joins_the_prompt_is_of_no_use(answers: list[str]) -> None:
    """Where the end of the prompt and the label are one token, nothing is known of how the label begins."""
    assert await learn(["is:", "is:yes", "yes", " ", "no", "!"], answers) is None


async def test_a_label_without_a_token_is_of_no_use() -> None:
    """A label that a server with an encoder and a decoder cuts into nothing but the end cannot be scored."""
    assert await learn(["yes", "no", " "], ["yes", "no"], seq2seq=True) is not None
    assert await learn(["yes", "no", " "], ["yes", ""], seq2seq=True) is None


async def test_a_spelling_that_another_label_begins_with_is_none() -> None:
    """The first token of a label means that label, and not another one that is written without its space."""
    found = await learn(["is:", " a", "a", " b", "b"], [" a", "b"])
    assert found is not None
    assert found.aliases == {2: 1, 3: 4}
    spaced = await learn(["is:", " ", "a", "b"], [" a", "b"])
    assert spaced is not None
    assert spaced.aliases == {2: 1}


@pytest.mark.parametrize(("vocabulary", "appendable"), [([" New"], {(1,): " New"}), ([" New", " New "], {})])
async def test_a_shared_start_stands_alone_only_where_it_is_cut_alike(
    vocabulary: list[str], appendable: dict[tuple[int, ...], str]
) -> None:
    """A prompt may go on with what labels share if the server cuts that as it cuts the labels."""
    found = await learn(
        ["is:", *vocabulary, " York", "York", " Jersey", "Jersey", "N", "e", "w", " "], [" New York", " New Jersey"]
    )
    assert found is not None
    assert found.appendable == appendable
