"""The figures of the documentation, as SVG: `python docs/figures.py` writes them beside the pages that show them.

Those with measured or computed numbers take these from `benchmarks/results/` and from the package's own code; the trie
and the prior are examples. No figure needs anything but a browser: no scripts, no fonts, a background of its own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from langchain_stormtrooper.calibration import divide_by_prior
from langchain_stormtrooper.limits import AdaptiveLimiter

HERE = Path(__file__).parent
INK, SOFT, BLUE, AMBER, GREEN = "#263238", "#90a4ae", "#1c5d99", "#c77700", "#2e7d32"


def _svg(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="14" fill="{INK}">\n<title>{escape(title)}</title>\n'
        f'<rect width="{width}" height="{height}" fill="#fff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _text(x: float, y: float, text: str, *, anchor: str = "start", color: str = INK, size: int = 14) -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{color}" font-size="{size}">{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, *, color: str = SOFT, width: float = 1.5) -> str:
    return f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="{color}" stroke-width="{width:g}"/>'


def _bar(x: float, y: float, width: float, height: float, color: str) -> str:
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="2" fill="{color}"/>'


def _box(x: float, y: float, width: float, lines: Sequence[str], color: str = BLUE) -> str:
    height = 18 * len(lines) + 18
    rect = f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height}" rx="6" fill="#fff" stroke="{color}"/>'
    texts = [
        _text(x + width / 2, y + 24 + 18 * n, line, anchor="middle", size=14 if n == 0 else 12, color=INK)
        for n, line in enumerate(lines)
    ]
    return "\n".join([rect, *texts])


def trie() -> str:
    """Three labels as a trie of tokens, with the probability of every branch and of every label."""
    play, get, music, game = 0.9, 0.1, 0.8, 0.2
    return _svg(
        760,
        230,
        "A trie of three labels",
        [
            _text(20, 30, "Command: put on some jazz", color=SOFT),
            _text(20, 140, "Intent:"),
            _line(75, 135, 235, 85),
            _line(75, 135, 235, 190),
            _text(145, 95, f"{play:.1f}", color=BLUE),
            _text(145, 185, f"{get:.1f}", color=BLUE),
            _text(242, 90, "play"),
            _text(242, 195, "get"),
            _line(280, 85, 390, 45),
            _line(280, 85, 390, 125),
            _text(325, 55, f"{music:.1f}", color=BLUE),
            _text(325, 122, f"{game:.1f}", color=BLUE),
            _text(397, 50, "music"),
            _text(397, 130, "a"),
            _line(415, 125, 450, 125),
            _text(457, 130, "game"),
            _line(275, 190, 390, 190),
            _text(397, 195, "weather"),
            _text(325, 183, "1", color=SOFT),
            _text(425, 118, "1", color=SOFT),
            _text(520, 50, f"play music   {play:.1f} × {music:.1f} = {play * music:.2f}"),
            _text(520, 130, f"play a game   {play:.1f} × {game:.1f} × 1 = {play * game:.2f}"),
            _text(520, 195, f"get weather   {get:.1f} × 1 = {get:.2f}"),
            _text(
                20,
                222,
                "Asked are the two branches in blue; where labels do not part there is nothing to ask.",
                size=12,
            ),
        ],
    )


def prior() -> str:
    """What a model says of a text, what of texts without content, and the one divided by the other."""
    labels, said, lean = ("sport", "politics", "science"), (0.5, 0.3, 0.2), (0.6, 0.2, 0.2)
    parts = []
    panels = (("of the text", said, BLUE), ("of texts without content", lean, AMBER))
    for column, (title, values, color) in enumerate((*panels, ("divided", divide_by_prior(said, lean), GREEN))):
        x = 90 + 225 * column
        parts.append(_text(x, 28, title, color=color))
        for row, value in enumerate(values):
            y = 50 + 34 * row
            parts += [_bar(x, y, 150 * value, 20, color), _text(x + 150 * value + 6, y + 15, f"{value:.2f}", size=12)]
            if column == 0:
                parts.append(_text(x - 8, y + 15, labels[row], anchor="end"))
    parts += [_text(285, 92, "÷", size=22), _text(510, 92, "=", size=22)]
    return _svg(700, 165, "Dividing by a prior", parts)


def figures(name: str) -> Any:
    """The figures of one result file."""
    path = HERE.parent / "benchmarks" / "results" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))["figures"]


def steps() -> str:
    """Mean accuracy of the embedded model on six sets, way by way, with intervals."""
    arms = figures("six_sets")["summary"]["arms"]
    names = {
        "original": "generate and match",
        "no prior": "scores, no prior",
        "score": "the words prior",
        "unlabelled": "calibrated on texts",
        "labelled": "calibrated on 8 labelled texts a label",
    }
    left, scale = 270, 380
    parts = [_text(left + scale * tick / 10, 20, f".{tick}", anchor="middle", size=12) for tick in range(0, 10, 2)]
    parts += [_line(left + scale * tick / 10, 26, left + scale * tick / 10, 206, width=0.5) for tick in range(0, 10, 2)]
    for row, (name, what) in enumerate(names.items()):
        y, arm = 36 + 34 * row, arms[name]
        low, high = (left + scale * end for end in arm["interval"])
        parts += [
            _text(left - 8, y + 15, what, anchor="end"),
            _bar(left, y, scale * arm["macro_accuracy"], 20, SOFT if name == "original" else BLUE),
            _line(low, y + 10, high, y + 10, color=INK, width=2),
            _text(high + 8, y + 15, f"{arm['macro_accuracy']:.2f}", size=12),
        ]
    return _svg(700, 216, "Mean accuracy on six sets", parts)


def peers() -> str:
    """Accuracy and rows a second of every peer, with intervals; the original's speed is 1."""
    names = {
        "ours": "ours",
        "original": "the original",
        "endpoint": "HuggingFaceEndpoint",
        "scikit-llm": "scikit-llm",
        "dspy": "DSPy",
        "outlines": "outlines",
        "skorch": "skorch",
        "cappr": "CAPPr",
        "cosine": "MiniLM, cosine",
        "regression": "MiniLM, regression",
    }
    left, bottom, width, height, decades = 50, 330, 600, 300, (-2, 3)

    def x_of(ratio: float) -> float:
        return left + width * (math.log10(ratio) - decades[0]) / (decades[1] - decades[0])

    def y_of(accuracy: float) -> float:
        return bottom - height * accuracy

    parts = [_line(left, y_of(n / 10), left + width, y_of(n / 10), width=0.5) for n in range(0, 11, 2)]
    parts += [_text(left - 8, y_of(n / 10) + 4, f"{n / 10:g}", anchor="end", size=12) for n in range(0, 11, 2)]
    for power in range(decades[0], decades[1] + 1):
        parts.append(_line(x_of(10**power), bottom, x_of(10**power), bottom - height, width=0.5))
        parts.append(_text(x_of(10**power), bottom + 18, f"{10**power:g}", anchor="middle", size=12))
    for name, arm in figures("peers")["arms"].items():
        if name not in names:
            continue
        x, y = x_of(arm["speed"]["ratio_to_original"]), y_of(arm["macro_accuracy"]["mean"])
        low, high = (y_of(end) for end in arm["macro_accuracy"]["interval"])
        slow, quick = (x_of(end) for end in arm["speed"]["ratio_interval"])
        color = BLUE if name == "ours" else AMBER if "cosine" in name or "regression" in name else SOFT
        parts += [
            _line(x, low, x, high, color=color),
            _line(slow, y, quick, y, color=color),
            f'<circle cx="{x:g}" cy="{y:g}" r="5" fill="{color}"/>',
            _text(x + 8, y - 7, names[name], size=12),
        ]
    parts.append(_text(left + width, bottom + 38, "rows a second, the original's being 1 →", anchor="end", size=12))
    parts.append(_text(left - 40, 18, "accuracy, mean of six sets", size=12))
    return _svg(760, 380, "Accuracy and speed of peers", parts)


def row() -> str:
    """The way of a row."""
    boxes = [
        (10, 20, 120, ("source", "a list, a file, …")),
        (150, 20, 120, ("window", "of rows in work")),
        (290, 20, 130, ("place", "adaptive limit")),
        (440, 20, 110, ("server", "or in process")),
        (570, 20, 120, ("scores", "or the matcher")),
        (570, 130, 120, ("calibration", "and thresholds")),
        (440, 130, 110, ("ledger", "on disk first")),
        (150, 130, 270, ("label, or None with a reason", "order and length are the source's")),
    ]
    parts = [_box(*box) for box in boxes]
    parts += [_line(x, 47, x + 20, 47, color=INK) for x in (130, 270, 420, 550)]
    parts += [_line(630, 74, 630, 130, color=INK), _line(550, 157, 570, 157, color=INK)]
    parts += [
        _line(420, 157, 440, 157, color=INK),
        f'<path d="M 495 74 C 495 105, 355 105, 355 76" fill="none" stroke="{AMBER}" stroke-width="1.5"/>',
        _text(425, 113, "refused, dropped: again", anchor="middle", size=12, color=AMBER),
    ]
    return _svg(700, 200, "The way of a row", parts)


def limits(rounds: int = 80, ceiling: int = 64) -> list[tuple[int, int]]:
    """The server's permits and the requests in flight, round by round, as the package's limiter has them.

    A round takes all places that there are; the server answers as many as it has permits and refuses the rest.
    """
    limiter, seen = AdaptiveLimiter(), []
    for number in range(rounds):
        permits = 8 if number < rounds // 4 else 16
        while limiter.take(ceiling):
            pass
        sent = limiter.in_flight
        seen.append((permits, sent))
        for _ in range(max(0, sent - permits)):
            limiter.overloaded()
            limiter.release()
        for _ in range(min(sent, permits)):
            limiter.succeeded()
            limiter.release()
    return seen


def limit() -> str:
    """Requests in flight over rounds, by the limiter that the transport uses."""
    seen = limits()
    left, bottom, width, height = 50, 190, 620, 160

    def height_of(places: int) -> float:
        return bottom - height * math.log2(places / 4) / 4

    def points(column: int) -> str:
        return " ".join(
            f"{left + width * n / (len(seen) - 1):.1f},{height_of(values[column]):.1f}" for n, values in enumerate(seen)
        )

    parts = [_text(left - 8, height_of(n) + 4, str(n), anchor="end", size=12) for n in (4, 8, 16, 32, 64)]
    parts += [
        _line(left, bottom, left + width, bottom),
        _line(left, bottom, left, bottom - height),
        f'<polyline points="{points(0)}" fill="none" stroke="{AMBER}" stroke-width="2" stroke-dasharray="5 4"/>',
        f'<polyline points="{points(1)}" fill="none" stroke="{BLUE}" stroke-width="2"/>',
        _text(300, 60, "requests in flight", color=BLUE),
        _text(300, 82, "permits of the server", color=AMBER),
        _text(left + width, bottom + 22, "rounds of answers →", anchor="end", size=12),
    ]
    return _svg(700, 220, "The adaptive limit", parts)


FIGURES: dict[str, Callable[[], str]] = {
    "explanation/trie": trie,
    "explanation/prior": prior,
    "explanation/steps": steps,
    "explanation/row": row,
    "explanation/limit": limit,
    "peers": peers,
}
"""What draws each figure, by its path among the pages."""


def main() -> None:
    """Write all figures."""
    for name, make in FIGURES.items():
        (HERE / f"{name}.svg").write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    main()
