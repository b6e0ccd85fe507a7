"""What the jobs of one process share: models in memory, the requests of their latency runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from meteor_bench import suites
from meteor_bench.config import RunConfig
from meteor_bench.errors import ConfigError
from meteor_bench.lmms.inputs import HERE, Inputs

if TYPE_CHECKING:
    from meteor_bench.core.build import Blueprint
    from meteor_bench.core.session import Request, Session
    from meteor_bench.models.base import VLM, ModelCard

__all__ = ["Shared", "calibration", "device_and_dtype", "quiet_libraries"]

# A model and its variant with the other fusion, which some methods prefer.
_MODELS = 2


class Shared:
    """Models that were loaded, the latest ones kept, and the requests that latency runs were made of.

    Args:
        random_weights: build rows of the model table at their real size without any file.
        local: this process's number on its machine, where several are at one run: each takes a GPU of its own.
    """

    def __init__(self, *, random_weights: bool = False, local: int | None = None) -> None:
        self._random_weights = random_weights
        self._local = local
        self._models: dict[tuple[str | None, ...], VLM] = {}
        self._requests: dict[tuple[tuple[str, ...], int, Inputs, int], list[Request]] = {}

    def blueprint(self, config: RunConfig) -> Blueprint:
        """A model under a method, its weights loaded.

        Raises:
            MeteorBenchError: the checkpoint is broken, or a name is unknown.
        """
        from meteor_bench.core.build import arrange

        device, dtype = device_and_dtype(config)
        if self._local is not None:
            device = _own_device(device, self._local)
        return arrange(
            config.model,
            config.method,
            ratio=config.ratio,
            parameters=config.parameters,
            stages=config.stages,
            positions=config.positions,
            device=device,
            dtype=dtype,
            seed=config.seed,
            source=config.source,
            load=self._model,
        )

    def requests(self, session: Session, tasks: tuple[str, ...], count: int, inputs: Inputs = HERE) -> list[Request]:
        """A few requests from each benchmark (`lmms.requests.spread`)."""
        from meteor_bench.lmms.requests import spread

        # How many frames a video has may be up to the model.
        key = (tasks, count, inputs, session.frames)
        if key not in self._requests:
            self._requests[key] = spread(session, tasks, count, inputs)
        return self._requests[key]

    def _model(self, card: ModelCard, device: str, dtype: str, source: str | None) -> VLM:
        from meteor_bench.core.load import load_model, random_model

        key = (card.name, card.weights, device, dtype, source)
        vlm = self._models.pop(key, None)
        if vlm is None:
            while len(self._models) >= _MODELS:
                del self._models[next(iter(self._models))]
            make = random_model if self._random_weights else load_model
            vlm = make(card, device, dtype, source)
        self._models[key] = vlm  # last: used last
        return vlm


def calibration() -> Sequence[Request]:
    """The samples on which methods measure their constants."""
    from meteor_bench.core.session import Request

    return [
        Request(item.key, item.media_key, item.media, item.question, max_new_tokens=1)
        for item in suites.calibration_requests()
    ]


def device_and_dtype(config: RunConfig) -> tuple[str, str]:
    """Both with "auto" resolved."""
    from meteor_bench.core.load import resolve_device

    device = resolve_device(config.device)
    return device, ("float32" if device == "cpu" else "bfloat16") if config.dtype == "auto" else config.dtype


def _own_device(device: str, local: int) -> str:
    """The device of the process of that number on its machine.

    Raises:
        ConfigError: there are fewer GPUs than processes, or all were sent to one.
    """
    if not device.startswith("cuda"):
        return device
    import torch

    count = torch.cuda.device_count()
    if device != "cuda" or local >= count:
        raise ConfigError(
            f"each process takes a GPU of its own, this one cuda:{local}, and there are {count}; start as many "
            "processes as there are GPUs, with --device cuda, or give --device cpu"
        )
    torch.cuda.set_device(local)  # where stages are timed
    return f"cuda:{local}"


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
