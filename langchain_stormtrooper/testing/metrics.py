"""The Prometheus page: TGI's main metrics, from the server's counters.

Histograms have their sum, their count and the one bucket that holds everything. Pure: counters in, text out. Called by
`routes`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from langchain_stormtrooper.testing.config import Config
    from langchain_stormtrooper.testing.ledger import Counters

_FAILURES = {
    "validation": "validation",
    "overloaded": "overloaded",
    "generation": "generation",
    "incomplete_generation": "incomplete",
    "incomplete_generation_stream": "incomplete",
    "template_error": "template",
}


def metrics(counters: Counters, config: Config, in_use: int) -> str:
    """Write the page.

    Args:
        counters: What was counted.
        config: The server's settings.
        in_use: How many requests are running.
    """
    lines: list[str] = []

    def simple(kind: str, name: str, value: float, label: str = "") -> None:
        header = f"# TYPE {name} {kind}"
        if header not in lines:
            lines.append(header)
        lines.append(f"{name}{label} {value:g}")

    failures: dict[str, int] = {}
    for error_type, count in list(counters.by_error.items()):
        reason = _FAILURES.get(error_type)
        if reason is not None:
            failures[reason] = failures.get(reason, 0) + count
    simple("counter", "tgi_request_count", counters.generations + sum(failures.values()))
    simple("counter", "tgi_request_success", counters.generations)
    for reason, count in failures.items():
        simple("counter", "tgi_request_failure", count, f'{{err="{reason}"}}')
    for method in ("prefill", "decode"):
        simple("counter", "tgi_batch_inference_count", counters.generations, f'{{method="{method}"}}')
        simple("counter", "tgi_batch_inference_success", counters.generations, f'{{method="{method}"}}')
    simple("gauge", "tgi_queue_size", 0)
    simple("gauge", "tgi_batch_current_size", in_use)
    if config.release.since("2.3.1"):
        simple("gauge", "tgi_batch_max_total_tokens", 16 * config.max_total_tokens)
    count = counters.generations
    for name, total in (
        ("tgi_request_duration", counters.seconds_queued + counters.seconds_inference),
        ("tgi_request_queue_duration", counters.seconds_queued),
        ("tgi_request_inference_duration", counters.seconds_inference),
        ("tgi_request_input_length", counters.prompt_tokens),
        ("tgi_request_generated_tokens", counters.generated_tokens),
    ):
        lines.append(f"# TYPE {name} histogram")
        lines.append(f'{name}_bucket{{le="+Inf"}} {count}')
        lines.append(f"{name}_sum {total:g}")
        lines.append(f"{name}_count {count}")
    return "\n".join(lines) + "\n"
