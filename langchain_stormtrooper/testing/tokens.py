"""The answer of `/tokenize`, version by version, cut marks included.

Pure: text in, list out. Called by `routes` and `chat`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_stormtrooper.testing.config import Config


def tokenized(text: str, truncate: int | None, config: Config, *, special_tokens: bool = True) -> list[dict[str, Any]]:
    """List a text's tokens with their places in its UTF-8 bytes.

    Args:
        text: The text.
        truncate: The request's `truncate`, which only some versions look at.
        config: The server's settings.
        special_tokens: Whether to include those that the tokenizer adds itself.
    """
    engine, release = config.engine, config.release
    ids = engine.encode(text)
    if special_tokens:
        ids = config.with_special(ids)
    if truncate is not None and release.sizes_truncate:
        ids = ids[-truncate:] if truncate else ids
    if not config.has_tokenizer:
        # A tokenizer that runs in Python gives no places, and so no text.
        return [{"id": token, "text": "", "start": 0, "stop": 0} for token in ids]
    data = text.encode()
    result: list[dict[str, Any]] = []
    start = 0
    for token in ids:
        piece = engine.vocabulary[token]
        stop = start + len(piece)
        if not piece:
            shown, places = "", (0, 0)
        elif release.tokenize_text_by_bytes:
            shown, places = data[start:stop].decode("utf-8", "replace"), (start, stop)
        else:
            # These versions count characters with byte offsets, which goes wrong after the first non-ASCII one.
            shown, places = text[start:stop], (start, stop)
        result.append({"id": token, "text": shown, "start": places[0], "stop": places[1]})
        start = stop
    return result
