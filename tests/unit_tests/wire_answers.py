"""What servers say, for the tests of their protocols."""

from __future__ import annotations

import json
from typing import Any

from multidict import CIMultiDict

from langchain_stormtrooper.wire import Response


def answer(body: Any, status: int = 200, **headers: str) -> Response:
    """A JSON answer; further headers have `_` for `-`."""
    fields = {"content-type": "application/json", **{name.replace("_", "-"): text for name, text in headers.items()}}
    return Response(status, CIMultiDict(fields), json.dumps(body).encode())
