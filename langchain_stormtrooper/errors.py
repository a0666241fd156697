"""What can go wrong, and what each thing is called.

    StormtrooperError
    ├── ConfigurationError (ValueError)            the arguments do not make a task: fix them
    │   ├── LabelError                             empty, duplicate or undecidable labels
    │   ├── PromptError                            a template lacks a variable, or an input its text
    │   ├── CalibrationError                       a calibration is broken, or was made for another task
    │   ├── LedgerError                            a ledger is broken, another's, or cannot be written
    │   └── MissingExtraError (ImportError)        an optional package is not installed
    ├── ServerError (ModelError)                   wrong for every row: raised at once
    │   ├── ServerUnreachableError (ModelConnectionError, ConnectionError)
    │   ├── AuthenticationError (ModelAuthenticationError)
    │   ├── EndpointNotFoundError (ModelNotFoundError)
    │   └── ModelFileError                         the model file cannot be fetched, verified or loaded
    └── RowError (ModelError)                      concerns one row; its neighbours go on
        ├── OverlongInputError (ContextOverflowError, ValueError)
        └── RequestFailedError (ModelAPIError)
            └── ResponseFormatError                the server's answer is not what its protocol says

    StormtrooperWarning (UserWarning)
    ├── OverlongInputWarning                       rows have no label; once per batch and kind
    ├── UnmatchedLabelWarning
    ├── LowConfidenceWarning
    ├── OutOfScopeWarning
    ├── FailedRequestWarning
    ├── CalibrationWarning                         texts may not have taught what they were meant to
    ├── ServerWarning                              one of several servers is left out
    └── SettingsWarning                            settings were dropped, could not be changed, or do nothing

Every error inherits our root and the LangChain or built-in error that a caller would look for. Messages never hold
a text, a prompt or a secret. This module does nothing; every other room may import it.
"""

from __future__ import annotations

from langchain_core.exceptions import (
    ContextOverflowError,
    ModelAPIError,
    ModelAuthenticationError,
    ModelConnectionError,
    ModelError,
    ModelNotFoundError,
)


class StormtrooperError(Exception):
    """Root of all errors raised by this package."""


class ConfigurationError(StormtrooperError, ValueError):
    """The arguments do not describe a task that can be run."""


class LabelError(ConfigurationError):
    """The labels are empty, repeated, or cannot be told apart."""


class PromptError(ConfigurationError):
    """A prompt template lacks a variable, or an input lacks its text."""


class CalibrationError(ConfigurationError):
    """A calibration is broken or foreign, or was made for other labels, another prompt or another model."""


class LedgerError(ConfigurationError):
    """A ledger is broken or foreign, or cannot be read or written.

    Args:
        message: What to tell the user.
        is_of_disk: Whether the disk is full or fails, so that nothing about the call is wrong.
    """

    def __init__(self, message: str, *, is_of_disk: bool = False) -> None:
        super().__init__(message)
        self.is_of_disk = is_of_disk


class MissingExtraError(ConfigurationError, ImportError):
    """An optional dependency is not installed.

    Args:
        what: The feature that needs it, as the subject of the sentence.
        extra: Name of the extra that installs it.
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs packages that are not installed: run `pip install 'langchain-stormtrooper[{extra}]'`."
        )


class ServerError(StormtrooperError, ModelError):
    """Something that is wrong for every row, so that going on makes no sense."""


class ServerUnreachableError(ServerError, ModelConnectionError, ConnectionError):
    """No server answers at the base URL.

    Args:
        message: What to tell the user.
        problem: What is wrong, as the end of "The server at ..."; None where several servers are meant.
    """

    def __init__(self, message: str, *, problem: str | None = None) -> None:
        super().__init__(message)
        self.problem = problem


class AuthenticationError(ServerError, ModelAuthenticationError):
    """The server refused the credentials (401 or 403)."""


class EndpointNotFoundError(ServerError, ModelNotFoundError):
    """The server does not have the endpoint (404 or 405)."""


class ModelFileError(ServerError):
    """The file of an embedded model cannot be fetched, verified or loaded."""


class RowError(StormtrooperError, ModelError):
    """Concerns one row only."""


class OverlongInputError(RowError, ContextOverflowError, ValueError):
    """The prompt does not fit the server's limits.

    Args:
        message: What to tell the user.
        tokens: Tokens in the prompt as the server counted them, if it said so.
        limit: Largest number of prompt tokens that the server would take, if known.
    """

    def __init__(self, message: str, *, tokens: int | None = None, limit: int | None = None) -> None:
        super().__init__(message)
        self.tokens = tokens
        self.limit = limit


class RequestFailedError(RowError, ModelAPIError):
    """The server could not answer this row, also after retries.

    Args:
        message: What to tell the user.
        status: HTTP status of the last answer, None if there was none.
        retryable: Whether the same request may succeed later.
    """

    def __init__(self, message: str, *, status: int | None = None, retryable: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.is_retryable = retryable


class ResponseFormatError(RequestFailedError):
    """The server answered, but not in the form its protocol promises."""


class StormtrooperWarning(UserWarning):
    """Root of all warnings of this package."""


class OverlongInputWarning(StormtrooperWarning):
    """Rows were too long for the server and have no label."""


class UnmatchedLabelWarning(StormtrooperWarning):
    """Rows were answered with something that names no label."""


class LowConfidenceWarning(StormtrooperWarning):
    """Rows were answered with too little confidence for a label."""


class OutOfScopeWarning(StormtrooperWarning):
    """Rows have no label because the model found none of the labels to fit."""


class FailedRequestWarning(StormtrooperWarning):
    """Rows could not be answered by the server."""


class CalibrationWarning(StormtrooperWarning):
    """Texts to calibrate with were left out, look one-sided, or do not suffice for what was asked."""


class ServerWarning(StormtrooperWarning):
    """One of several servers is left out: it never answered, or serves something else or less than the others."""


class SettingsWarning(StormtrooperWarning):
    """Settings of an LLM that is not ours were dropped or could not be changed; or a classifier's do nothing."""
