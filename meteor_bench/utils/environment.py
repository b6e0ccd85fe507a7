"""The environment variables that libraries read."""

from __future__ import annotations

import os

__all__ = ["quiet_libraries"]


def quiet_libraries() -> None:
    """Nothing is fetched and nobody is told, unless the user's environment says otherwise; read at import."""
    for name, value in {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "WANDB_MODE": "disabled",
        "TOKENIZERS_PARALLELISM": "false",
        "KINETO_LOG_LEVEL": "99",  # torch's profiler, which measures memory on a CPU
    }.items():
        os.environ.setdefault(name, value)
