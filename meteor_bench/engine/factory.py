"""From names to a `Session`: a model under a method (a `Blueprint`), then calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from meteor_bench.config.run_config import RunConfig
from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.errors import UnknownNameError
from meteor_bench.core.match import Measure
from meteor_bench.core.method_file import digests, shown
from meteor_bench.core.model import VLM, ModelCard
from meteor_bench.core.pruner import Pruner
from meteor_bench.engine.engine import default_positions
from meteor_bench.engine.load_model import (
    DTYPES,
    Loader,
    load_model,
    random_model,
    resolve_device,
    resolve_dtype,
    resolve_model,
)
from meteor_bench.engine.make_method import make_pruner
from meteor_bench.engine.ready import Calibration, ready
from meteor_bench.engine.session import Session

__all__ = ["Blueprint", "arrange", "blueprint", "build"]


@dataclass(frozen=True)
class Blueprint:
    """A model under a method, not calibrated yet: enough to tell whether its run exists.

    Attributes:
        provenance: what records say about a session of it, but for the facts.
        modules: dotted names of the Python modules that the model's parts live in.
        budget: of ``match``, what the ratio is of; where that is not the tokens, where the search for theirs starts.
    """

    vlm: VLM
    pruner: Pruner
    budget: TokenBudget
    positions: str | None
    seed: int
    provenance: Mapping[str, Any]
    modules: tuple[str, ...]
    match: Measure = "tokens"

    def session(self, calibration: Calibration | None = None, *, measured: bool = False) -> Session:
        """Measure the method's constants, if it has any, and make it ready to answer.

        Args:
            calibration: gives the samples for a method that must be calibrated.
            measured: as for `Session`.

        Raises:
            BudgetError, UnsupportedError, ConfigError: the method cannot run on this model at this budget.
        """
        return ready(
            self.vlm,
            self.pruner,
            self.provenance["ratio"],
            self.match,
            method=self.provenance["method"],
            positions=self.positions,
            seed=self.seed,
            calibration=calibration,
            measured=measured,
            provenance=self.provenance,
        )


def arrange(
    model: str,
    method: str,
    *,
    ratio: float = 0.0,
    match: Measure = "tokens",
    parameters: Mapping[str, Any] | None = None,
    stages: Sequence[str] | None = None,
    positions: str | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    seed: int = 0,
    source: str | None = None,
    random_weights: bool = False,
    load: Loader | None = None,
) -> Blueprint:
    """A model under a method, the model's weights loaded.

    Args:
        model: row of the model table, or a checkpoint's folder or hub id.
        match: what the ratio is of.
        source: folder or hub id of other weights than the row's own.
        random_weights: build a row of the table at its real size without any file, for counting and timing.
        load: gives the model, say one that was loaded before; None: `random_model` or `load_model`.

    Raises:
        MeteorBenchError: anything that does not exist.
    """
    pruner = make_pruner(method, parameters, stages)
    budget = TokenBudget.from_ratio(ratio)
    if dtype not in DTYPES:
        raise UnknownNameError("dtype", dtype, DTYPES)
    card = resolve_model(model, pruner, source)
    where = resolve_device(device)
    load = load or (random_model if random_weights else load_model)
    vlm = load(card, where, dtype, source)
    provenance = {
        "model": model,
        "variant": card.name,
        "fusion": card.fusion,
        "checkpoint": vlm.digest,
        "method": shown(method),
        "method_files": digests(method),
        "parameters": pruner.bind(vlm, budget).parameters(),
        "positions": positions or default_positions(vlm, pruner),
        "ratio": ratio,
        "match": match,
        "exact": pruner.exact,
        "device": device,
        "dtype": dtype,
        "seed": seed,
    }
    return Blueprint(vlm, pruner, budget, positions, seed, provenance, _modules(card, vlm), match)


def blueprint(config: RunConfig, load: Loader | None = None) -> Blueprint:
    """`arrange` for a run, with "auto" resolved.

    Raises:
        MeteorBenchError: anything that does not exist.
    """
    device = resolve_device(config.device)
    return arrange(
        config.model,
        config.method,
        ratio=config.ratio,
        match=config.match,
        parameters=config.parameters,
        stages=config.stages,
        positions=config.positions,
        device=device,
        dtype=resolve_dtype(config.dtype, device),
        seed=config.seed,
        source=config.source,
        load=load,
    )


def build(model: str, method: str, *, calibration: Calibration | None = None, **more: Any) -> Session:
    """A session for a model under a method.

    Args:
        calibration: as for `Blueprint.session`.
        more: as for `arrange`.

    Raises:
        MeteorBenchError: anything that does not exist or does not fit together.
    """
    return arrange(model, method, **more).session(calibration)


def _modules(card: ModelCard, vlm: VLM) -> tuple[str, ...]:
    parts = [vlm.fusion, vlm.decoder, vlm.processor, *vlm.towers.values()]
    builder = card.build.func if isinstance(card.build, partial) else card.build
    return tuple(sorted({builder.__module__, *(type(part).__module__ for part in parts)}))
