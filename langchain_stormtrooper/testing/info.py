"""What `/info` says, in the layout of each version.

Pure: settings in, dictionary out. Called by `routes`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_stormtrooper.testing.versions import Family

if TYPE_CHECKING:
    from langchain_stormtrooper.testing.config import Config


def info(config: Config) -> dict[str, Any]:
    """Write the answer of `/info`."""
    layout = config.release.info_layout
    slim = layout >= 5
    # Each line: the key, its value, and whether this version shows it. The order is TGI's.
    lines: list[tuple[str, Any, bool]] = [
        ("model_id", config.model_id, True),
        ("model_sha", None, True),
        ("model_dtype", "torch.float32" if config.family is Family.PADDED else "torch.float16", not slim),
        ("model_device_type", "cpu" if config.family is Family.PADDED else "cuda", not slim),
        ("model_pipeline_tag", config.pipeline_tag, True),
        ("max_concurrent_requests", config.max_concurrent_requests, True),
        ("max_best_of", config.max_best_of, True),
        ("max_stop_sequences", config.max_stop_sequences, True),
        ("max_input_length", config.max_input_tokens, layout <= 3),
        ("max_input_tokens", config.max_input_tokens, layout >= 4),
        ("max_total_tokens", config.max_total_tokens, True),
        ("waiting_served_ratio", 1.2, not slim),
        ("max_batch_total_tokens", 16 * config.max_total_tokens, not slim),
        ("max_waiting_tokens", 20, not slim),
        ("max_batch_size", None, 1 <= layout <= 4),
        ("validation_workers", 2, True),
        ("max_client_batch_size", config.max_client_batch_size, layout >= 2),
        ("router", "text-generation-router", layout >= 3),
        ("version", config.release.reported, True),
        ("sha", None, True),
        ("docker_label", None, True),
    ]
    return {key: value for key, value, present in lines if present}
