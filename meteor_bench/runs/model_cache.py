"""What the jobs of one process share: models in memory, the requests of their latency runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from meteor_bench.config.run_config import RunConfig
from meteor_bench.lmms.inputs import HERE, Inputs
from meteor_bench.runs.backend import Backend
from meteor_bench.runs.device import device_and_dtype, own_device

if TYPE_CHECKING:
    from meteor_bench.core.model import VLM, ModelCard
    from meteor_bench.core.request import Request
    from meteor_bench.engine.factory import Blueprint
    from meteor_bench.engine.session import Session

__all__ = ["ModelCache"]

# A model and its variant with the other fusion, which some methods prefer.
_MODELS = 2

default: Callable[[], Backend] = Backend
"""Makes the backend of jobs that are given none."""


class ModelCache:
    """Models that were loaded, the latest ones kept, and the requests that latency runs were made of.

    Args:
        random_weights: build rows of the model table at their real size without any file.
        layers: so built, no more of a language model than its first layers; None: all.
        local: this process's number on its machine, where several are at one run: each takes a GPU of its own.
        backend: what builds models, answers and times; None for `default`.
    """

    def __init__(
        self,
        *,
        random_weights: bool = False,
        layers: int | None = None,
        local: int | None = None,
        backend: Backend | None = None,
    ) -> None:
        self.backend = backend or default()
        self._random_weights, self._layers = random_weights, layers
        self._local = local
        self._models: dict[tuple[str | None, ...], VLM] = {}
        self._requests: dict[tuple[tuple[str, ...], int, Inputs, int], list[Request]] = {}

    def blueprint(self, config: RunConfig) -> Blueprint:
        """A model under a method, its weights loaded.

        Raises:
            MeteorBenchError: the checkpoint is broken, or a name is unknown.
        """
        device, _ = device_and_dtype(config)
        if self._local is not None:
            device = own_device(device, self._local)
        return self.backend.blueprint(replace(config, device=device), self._model)

    def requests(self, session: Session, tasks: tuple[str, ...], count: int, inputs: Inputs = HERE) -> list[Request]:
        """A few requests from each benchmark (`lmms.requests.spread`)."""
        # How many frames a video has may be up to the model.
        key = (tasks, count, inputs, session.frames)
        if key not in self._requests:
            self._requests[key] = self.backend.requests(session, tasks, count, inputs)
        return self._requests[key]

    def _model(self, card: ModelCard, device: str, dtype: str, source: str | None) -> VLM:
        from meteor_bench.engine.load_model import load_model, random_model

        key = (card.name, card.weights, device, dtype, source)
        vlm = self._models.pop(key, None)
        if vlm is None:
            while len(self._models) >= _MODELS:
                del self._models[next(iter(self._models))]
            make = partial(random_model, layers=self._layers) if self._random_weights else load_model
            vlm = make(card, device, dtype, source)
        self._models[key] = vlm  # last: used last
        return vlm
