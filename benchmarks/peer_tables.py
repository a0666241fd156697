"""Tables of what `peers.py` measured; `render.py` puts them into the page on peers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_ARMS = {
    "ours": "`ZeroShotClassifier`, the default",
    "ours, unlabelled": "the same, `calibrate(texts)`, 8 texts for each label",
    "ours, labelled": "the same, `calibrate(texts, labels)`, the same texts",
    "original": "the original stormtrooper's TGI module",
    "endpoint": "`HuggingFaceEndpoint` and `StrOutputParser`",
    "scikit-llm": "scikit-llm's `ZeroShotGPTClassifier`",
    "dspy": "DSPy's `Predict` with a `Literal`",
    "outlines": "outlines' choice",
    "skorch": "skorch's `ZeroShotClassifier`",
    "cappr": "CAPPr",
    "cosine": "MiniLM, nearest label by cosine, no LLM",
    "regression": "MiniLM, logistic regression, 8 labelled texts a label, no LLM",
}

_CHANGES = {
    "order": "labels in reverse order",
    "blank": "a blank after the text",
    "case": "text in capitals",
}
_ATTACKS = {
    "instruction": "instruction in the text",
    "fake turn": "fake turn",
    "special tokens": "special tokens",
    "bait": "label as bait",
}


def _interval(value: Mapping[str, Any], form: str = ".2f") -> str:
    low, high = value["interval"]
    return f"{value['mean']:{form}} ({low:{form}} to {high:{form}})"


def _points(value: Mapping[str, Any]) -> str:
    low, high = (100 * end for end in value["interval"])
    return f"{100 * value['mean']:+.0f} ({low:+.0f} to {high:+.0f})"


def _table(*columns: str) -> list[str]:
    return [f"| {' | '.join(columns)} |", "| --- |" + " --- |" * (len(columns) - 1)]


def compared(f: Mapping[str, Any]) -> str:
    """How right and how quick every peer is."""
    lines = _table(
        "",
        "texts",
        "accuracy",
        "points above the original",
        "points above ours",
        "macro-F1",
        "says a label",
        "rows a second, by the original's",
        "first answer, by the original's",
        "prompt tokens a row (of these evaluated)",
        "generated a row",
    )
    for name, what in _ARMS.items():
        if (arm := f["arms"].get(name)) is None:
            continue
        cells = [
            str(arm["texts"]),
            _interval(arm["macro_accuracy"]),
            "" if name == "original" else _points(arm["above_original"]),
            "" if name == "ours" else _points(arm["above_ours"]),
            f"{arm['mean_macro_f1']:.2f}",
            f"{100 * arm['valid']['mean']:.0f} %",
            *_speed(arm.get("speed")),
        ]
        lines.append(f"| {what} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _speed(speed: Mapping[str, Any] | None) -> list[str]:
    if speed is None:
        return ["", "", "", ""]
    low, high = speed["ratio_interval"]
    tokens = speed["tokens_per_row"]
    cells = [f"{speed['ratio_to_original']:.1f} ({low:.1f} to {high:.1f})", f"{speed['first_answer_by_originals']:.3f}"]
    if not tokens["requests"]:
        return [*cells, "no server", ""]
    return [
        *cells,
        f"{tokens['evaluated'] + tokens['cached']:.0f} ({tokens['evaluated']:.0f})",
        f"{tokens['generated']:.1f}",
    ]


def sets(f: Mapping[str, Any]) -> str:
    """Accuracy in each set, and how far confidences can be believed."""
    names = [*f["arms"]["ours"]["accuracy"]]
    lines = _table("", *names, "ECE", "decided at ≤ 5 % error", "of these wrong")
    for name, what in _ARMS.items():
        if (arm := f["arms"].get(name)) is None:
            continue
        cells = [f"{arm['accuracy'][one]:.2f}" for one in names]
        if "ece" in arm:
            decided = arm["decided"]
            cells += [f"{arm['ece']:.2f}", f"{100 * decided['share']:.0f} %", f"{100 * decided['error']:.0f} %"]
        else:
            cells += ["no confidence", "", ""]
        lines.append(f"| {what} | {' | '.join(cells)} |")
    return "\n".join(lines)


def changed(f: Mapping[str, Any]) -> str:
    """What changes answers though it should not: another writing, and attacks."""
    lines = _table("", "texts", *_CHANGES.values(), *_ATTACKS.values(), "the attacker's label, all attacks")
    for name, what in _ARMS.items():
        if not (changes := f["arms"].get(name, {}).get("changed")):
            continue
        cells = [str(changes["order"]["texts"])]
        cells += [_percent(changes[one]) for one in (*_CHANGES, *_ATTACKS)]
        lines.append(f"| {what} | {' | '.join(cells)} | {_percent(changes['taken'])} |")
    return "\n".join(lines)


def _percent(value: Mapping[str, Any]) -> str:
    low, high = (100 * end for end in value["interval"])
    return f"{100 * value['mean']:.0f} % ({low:.0f} to {high:.0f})"


def in_flight(f: Mapping[str, Any]) -> str:
    """Rows a second with more and more requests in flight, and prompt tokens that were evaluated for a row."""
    levels = sorted({int(level) for rates in f["in_flight"].values() for level in rates})
    lines = _table("in flight", *map(str, levels))
    for name, rates in f["in_flight"].items():
        if rates:
            each = [rates.get(str(level)) for level in levels]
            cells = [f"{one['rate_to_one']:.1f} ({one['evaluated_per_row']:.0f})" if one else "" for one in each]
            lines.append(f"| {_ARMS[name]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def unable(f: Mapping[str, Any]) -> str:
    """What could not be measured here, and what was said when it was tried."""
    lines = _table("", "tried", "what came of it")
    for one in f["unable"]:
        lines.append(f"| {one['peer']} | {one['tried']} | {one['error'].partition(' (Caused by')[0]} |")
    return "\n".join(lines)
