"""What one TGI server has told, as long as it is taken to be the same server. No I/O; `tgi` asks."""

from __future__ import annotations

from typing_extensions import override

from langchain_stormtrooper.llms import remote
from langchain_stormtrooper.llms.abilities import Abilities
from langchain_stormtrooper.llms.task_labels import TaskLabels
from langchain_stormtrooper.llms.tgi_lengths import Lengths
from langchain_stormtrooper.tasks import Once, OnceEach
from langchain_stormtrooper.wire import tgi as wire

_TASKS_KEPT = 64
_IDS_KEPT = 4096


class Known(remote.Known):
    """The way to the server and what it has told.

    Attributes:
        info: What `/info` tells.
        lengths: How long prompts may be.
        abilities: What the server was seen to do.
        tasks: How the labels of a task are scored, by the end of the prompt and the labels.
        ids: How the ends of prompts are cut, with labels after them.
        tokenizes: Whether `/tokenize` is worth asking: False once the server said that it has none.
    """

    __slots__ = ("abilities", "ids", "info", "lengths", "tasks", "tokenizes")

    @override
    def forget(self) -> None:
        self.info: Once[wire.ServerInfo] = Once()
        self.lengths = Lengths()
        self.ids: OnceEach[str, tuple[int, ...] | None] = OnceEach(_IDS_KEPT)
        self.abilities: Once[Abilities] = Once()
        self.tasks: OnceEach[tuple[str, tuple[str, ...]], TaskLabels] = OnceEach(_TASKS_KEPT)
        self.tokenizes = True
