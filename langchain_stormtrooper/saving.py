"""`Saved`: what was measured, as an object that is kept in a JSON file, and `Frozen`, a part of such an object.

Pure but for the file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from langchain_stormtrooper.arguments import explain
from langchain_stormtrooper.errors import ConfigurationError
from langchain_stormtrooper.whole_files import write_whole


class Frozen(BaseModel):
    """A part of a report. Not for use by itself."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Saved(Frozen):
    """A report that can be saved and loaded. Not for use by itself."""

    def to_json(self) -> str:
        """All of it as JSON."""
        return self.model_dump_json(indent=2) + "\n"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `to_json()` to a file, whole or not at all.

        Args:
            path: The file.

        Raises:
            OSError: It cannot be written.
        """
        write_whole(path, self.to_json())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote.

        Args:
            path: The file.

        Raises:
            ConfigurationError: It holds something else.
            OSError: It cannot be read.
        """
        try:
            return cls.model_validate_json(Path(path).read_bytes())
        except ValidationError as error:
            raise ConfigurationError(
                f"{path} holds no {cls.__name__} ({explain(error)}): pass a file written by `{cls.__name__}.save`."
            ) from None
