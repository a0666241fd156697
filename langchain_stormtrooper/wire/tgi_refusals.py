"""What TGI's validation says, as far as it can be shown: sentences made of fixed words and numbers only.

Sans-IO, see the package docstring. The sentences have been the same from 1.0.3 to 3.3.7. Any other message stays
unshown, since it may quote the request. Used by `tgi`.
"""

from __future__ import annotations

import re

from langchain_stormtrooper.errors import ConfigurationError, RequestFailedError

_PREFIX = "Input validation error: "
_N = r"-?\d{1,12}"

_SETTINGS = [
    (rf"`stop` supports up to {_N} stop sequences\. Given: {_N}", "give fewer, or start it with --max-stop-sequences"),
    (r"`max_new_tokens` must be strictly positive", "set `max_new_tokens=` to 1 or more"),
    (rf"`max_new_tokens` must be <= {_N}\. Given: {_N}", "lower `max_new_tokens=`"),
    (
        r"one of `max_new_tokens` or `truncate` must be set if a fast tokenizer is not in use",
        "set `max_new_tokens=`",
    ),
    (
        rf"`top_n_tokens` must be >= 0 and <= (?P<allowed>{_N})\. Given: {_N}",
        "start it with a larger --max-top-n-tokens, or use method='generate'",
    ),
    (r"grammar is not supported", "start it without --disable-grammar-support, or use method='generate'"),
    (
        r"`decoder_input_details` == true is not supported when streaming tokens"
        r"|`(?:temperature|repetition_penalty|top_k)` must be strictly positive"
        r"|`frequency_penalty` must be >= -2\.0 and <= 2\.0"
        r"|`(?:top_p|typical_p)` must be > 0\.0 and < 1\.0"
        rf"|`truncate` must be strictly positive and less than {_N}\. Given: {_N}"
        rf"|`best_of` must be > 0 and <= {_N}\. Given: {_N}"
        r"|`best_of` != 1 is not (?:allowed for this endpoint|supported when streaming tokens)"
        r"|you must use sampling when `best_of` is > 1"
        r"|`seed` must not be set when `best_of` > 1",
        "what is in front of the server adds a parameter that we do not send",
    ),
]
_ROW = rf"`inputs` cannot be empty|Image size {_N} bytes exceeds maximum allowed size of {_N} bytes"

_SETTINGS_FOUND = [(re.compile(pattern, re.ASCII), advice) for pattern, advice in _SETTINGS]
_ROW_FOUND = re.compile(_ROW, re.ASCII)


class TopTokensError(ConfigurationError):
    """More alternatives per step were asked for than the server gives.

    Args:
        message: What to tell the user.
        allowed: How many it gives.
    """

    def __init__(self, message: str, allowed: int) -> None:
        super().__init__(message)
        self.allowed = allowed


def explain(message: str) -> ConfigurationError | RequestFailedError | None:
    """The error for a validation message that is known: about the settings of every row, or about this one.

    The whole message must be known: one that quotes a text could hold any sentence.

    Args:
        message: What the server said.

    Returns:
        None if it is not known.
    """
    said = message.removeprefix(_PREFIX)
    for pattern, advice in _SETTINGS_FOUND:
        if found := pattern.fullmatch(said):
            sentence = f"The server refuses the settings (422): {said}: {advice}."
            allowed = found.groupdict().get("allowed")
            return ConfigurationError(sentence) if allowed is None else TopTokensError(sentence, int(allowed))
    if _ROW_FOUND.fullmatch(said):
        return RequestFailedError(f"The server refused the request (422): {said}.", status=422)
    return None
