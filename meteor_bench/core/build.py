"""From names to a `Session`: model variant, method parameters (a `Blueprint`), then calibration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache, partial
from typing import Any

import torch

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.calibrate import calibrate
from meteor_bench.core.engine import default_positions
from meteor_bench.core.pruner import Pruner
from meteor_bench.core.session import Request, Session
from meteor_bench.errors import ConfigError, UnknownNameError, UnsupportedError
from meteor_bench.locate import family_of, is_location, locate, read_config, short_name
from meteor_bench.models.base import VLM, ModelCard
from meteor_bench.progress import say
from meteor_bench.registry import FAMILIES, METHODS, MODELS, parts_of

__all__ = [
    "DTYPES",
    "Blueprint",
    "arrange",
    "build",
    "load_model",
    "make_pruner",
    "random_model",
    "resolve_device",
    "resolve_model",
]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
STAGES = ("encode", "fuse", "decode")


def make_pruner(
    method: str, parameters: Mapping[str, Any] | None = None, stages: Sequence[str] | None = None
) -> Pruner:
    """The method with its published defaults, or with the given hyperparameters.

    Args:
        method: a name of the table, or a composition "evoprune+fastv".
        parameters: name -> value; checked against the method's fields and their types. Those of a composition's part
            are called "part.name" or stand in a table of their own {part: {name: value}}; "share" is the part's share
            of the reduction.
        stages: the stages to run, for a method that has a ``stages`` field.

    Raises:
        UnknownNameError, ConfigError: a method, parameter or stage that does not exist, a value of a wrong type.
    """
    parts = parts_of(method)
    if len(parts) > 1:
        return _make_composed(method, parts, parameters or {}, stages)
    pruner: Pruner = METHODS.load(method)()
    given = dict(parameters or {})
    if stages is not None:
        if not hasattr(pruner, "stages"):
            raise ConfigError(f"method '{method}' has no stages to choose from; leave --stages out")
        for stage in stages:
            if stage not in STAGES:
                raise UnknownNameError("stage", stage, STAGES)
        given["stages"] = tuple(stage for stage in STAGES if stage in stages)
    known = [f.name for f in fields(pruner)]
    for name, value in given.items():
        if name not in known:
            if not known:
                raise ConfigError(f"method '{method}' has no parameters; '{name}' was given")
            raise UnknownNameError(f"parameter of method '{method}'", name, known)
        default = getattr(pruner, name)
        if not _fits(value, default):
            raise ConfigError(
                f"parameter '{name}' of method '{method}' is {value!r}; "
                f"expected {type(default).__name__}, say {default!r}"
            )
        if isinstance(default, tuple) and isinstance(value, list):
            given[name] = tuple(value)
    return replace(pruner, **given)


def _make_composed(
    method: str, parts: Sequence[str], parameters: Mapping[str, Any], stages: Sequence[str] | None
) -> Pruner:
    """A composition, each part with its parameters."""
    from meteor_bench.methods.compose import Part, compose  # the core stands below the methods

    if stages is not None:
        raise ConfigError(f"'{method}' is a composition; say --param <part>.stages=... instead of --stages")
    own: dict[str, dict[str, Any]] = {part: {} for part in parts}
    if len(own) < len(parts):
        raise ConfigError(f"'{method}' names a method twice")
    dotted = {name: value for name, value in parameters.items() if name not in own}
    for name in own:
        table = parameters.get(name, {})
        if not isinstance(table, Mapping):
            raise ConfigError(f"parameter '{name}' of '{method}' is {table!r}; expected a table of {name}'s parameters")
        own[name].update(table)
    for name, value in dotted.items():
        part, _, key = name.partition(".")
        if part not in own or not key:
            wanted = " or ".join(f"'{p}.{key or name}'" for p in own)
            raise ConfigError(f"parameter '{name}' of '{method}' names no part; say {wanted}")
        own[part][key] = value
    made = []
    for name, given in own.items():
        share = given.pop("share", 1.0)
        if isinstance(share, bool) or not isinstance(share, (int, float)):
            raise ConfigError(f"parameter '{name}.share' is {share!r}; expected a positive number")
        made.append(Part(name, make_pruner(name, given), float(share)))
    return compose(made)


def _fits(value: Any, default: Any) -> bool:
    """Whether a value has the type of the default; an int serves as a float, and None says nothing."""
    if default is None or value is None:
        return True
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, float):
        return isinstance(value, (int, float))
    if isinstance(default, tuple):
        return isinstance(value, (tuple, list))
    return isinstance(value, type(default))


def resolve_model(model: str, pruner: Pruner, source: str | None = None) -> ModelCard:
    """The model, or its variant with the fusion that the method was made for, where the model offers one.

    Args:
        model: row of the model table, or a checkpoint's folder or hub id, whose config.json names its family.

    Raises:
        UnknownNameError, ModelError, ConfigError: there is no such model here.
    """
    if model not in MODELS.names() and is_location(model):
        if source is not None:
            raise ConfigError(f"model '{model}' is itself a checkpoint; leave --source out")
        config = read_config(locate(model))
        found: ModelCard = FAMILIES.load(family_of(config, model))(config, short_name(model))
        return replace(found, weights=model)
    card: ModelCard = MODELS.load(model)
    wanted = pruner.prefers
    if source is None and wanted is not None and wanted != card.fusion and wanted in card.variants:
        card = MODELS.load(card.variants[wanted])
    return card


Calibration = Callable[[], Sequence[Request]]
Loader = Callable[[ModelCard, str, str, str | None], VLM]


@cache
def _tell_licence(weights: str, licence: str) -> None:
    """Once for each checkpoint, however many sessions take it."""
    say(f"{weights}: weights under {licence}")


def load_model(card: ModelCard, device: str, dtype: str, source: str | None) -> VLM:
    """A model with its weights.

    Args:
        device: as `resolve_device` gives it.
        dtype: a name in `DTYPES`.
        source: folder or hub id of other weights than the card's own.

    Raises:
        ModelError: the weights are not there or broken.
    """
    weights = source or card.weights
    folder = None if weights is None else locate(weights)
    if weights is not None:
        _tell_licence(weights, card.licence)
    vlm = card.build(device, DTYPES[dtype], folder)
    vlm.folder = vlm.folder or folder
    return vlm


def random_model(card: ModelCard, device: str, dtype: str, source: str | None) -> VLM:
    """A model at its real size with random weights; arguments as for `load_model`.

    Raises:
        UnsupportedError: the model cannot be built so.
        ConfigError: a source of weights was named.
    """
    if source is not None:
        raise ConfigError(f"random weights take no --source; '{source}' was given")
    if card.random is None:
        raise UnsupportedError(f"model '{card.name}' cannot be built with random weights")
    return card.random(device, DTYPES[dtype])


@dataclass(frozen=True)
class Blueprint:
    """A model under a method, not calibrated yet: enough to tell whether its run exists.

    Attributes:
        provenance: what records say about a session of it, but for the facts.
        modules: dotted names of the Python modules that the model's parts live in.
    """

    vlm: VLM
    pruner: Pruner
    budget: TokenBudget
    positions: str | None
    seed: int
    provenance: Mapping[str, Any]
    modules: tuple[str, ...]

    def session(self, calibration: Calibration | None = None) -> Session:
        """Measure the method's constants, if it has any, and make it ready to answer.

        Args:
            calibration: gives the samples for a method that must be calibrated.

        Raises:
            BudgetError, UnsupportedError, ConfigError: the method cannot run on this model at this budget.
        """
        facts: Mapping[str, Any] = {}
        if self.pruner.needs_calibration:
            if calibration is None:
                raise UnsupportedError(
                    f"method '{self.provenance['method']}' needs calibration and model "
                    f"'{self.provenance['variant']}' has no samples for it"
                )
            facts = calibrate(
                self.vlm, self.pruner, self.budget, calibration(), positions=self.positions, seed=self.seed
            )
        return Session(
            self.vlm,
            self.pruner,
            self.budget,
            positions=self.positions,
            seed=self.seed,
            facts=facts,
            provenance={**self.provenance, "facts": dict(facts)},
        )


def arrange(
    model: str,
    method: str,
    *,
    ratio: float = 0.0,
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
        "method": method,
        "parameters": pruner.bind(vlm, budget).parameters(),
        "positions": positions or default_positions(vlm, pruner),
        "ratio": ratio,
        "exact": pruner.exact,
        "device": device,
        "dtype": dtype,
        "seed": seed,
    }
    return Blueprint(vlm, pruner, budget, positions, seed, provenance, _modules(card, vlm))


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


def resolve_device(name: str) -> str:
    """The device that a name means here; "auto" is CUDA where there is one.

    Raises:
        ConfigError: no such device, or not on this machine.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"unknown device '{name}'; known: auto, cpu, cuda, cuda:0, mps") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device '{name}': this machine has {torch.cuda.device_count()} CUDA devices; use --device cpu"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError(f"device '{name}' is not on this machine; use --device cpu")
    return name
