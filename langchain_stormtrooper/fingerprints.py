"""`task_fingerprint`: which prompts, labels and method a number or an answer belongs to.

Pure. What is learnt or written down about a task is bound to it by this one fingerprint, so that it is never used for
another. It is the same in every process and on every machine, and it does not tell what it was made of.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence

from langchain_stormtrooper.prompts import TaskPrompt
from langchain_stormtrooper.results import Method

_FORMAT = 1
_DATE = re.compile(r"\b\d{1,2} [A-Z][a-z]{2,8} \d{4}\b|\b\d{4}-\d{2}-\d{2}\b")


def task_fingerprint(
    prompt: TaskPrompt, labels: Sequence[str], method: Method, **details: str | float | Sequence[str] | None
) -> str:
    """The SHA-256 of everything that rows of a task have in common, as 64 hexadecimal digits.

    That is the prompt with all but the text: instruction, kinds, listed labels and descriptions, examples, the model's
    chat template, each in all orders in which the labels are listed. The model is not part of it.

    Args:
        prompt: The prompt.
        labels: The labels, in order.
        method: How rows are answered.
        **details: Whatever else changes answers.
    """
    rendered = prompt.render("", {name: f"{{{name}}}" for name in prompt.input_variables})
    content = {
        "format": _FORMAT,
        # Some chat templates write today's date: the task is the same tomorrow.
        "chat": [_DATE.sub("date", part) for part in (rendered.before, rendered.after)],
        "prompts": [[one.head, one.tail] for one in rendered.in_all_orders()],
        "labels": list(labels),
        "method": method.value,
        "details": details,
    }
    # ASCII: labels may hold what UTF-8 cannot say.
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=True).encode("ascii")).hexdigest()
