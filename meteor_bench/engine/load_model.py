"""From names to a model: a row of the table or a checkpoint, its device, its weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch

from meteor_bench.core.errors import ConfigError, UnsupportedError
from meteor_bench.core.model import VLM, ModelCard
from meteor_bench.core.pruner import Pruner
from meteor_bench.core.registry import FAMILIES, MODELS
from meteor_bench.models.composed.recipe import is_recipe
from meteor_bench.models.composed.recipe import read as read_recipe
from meteor_bench.models.locate import family_of, is_location, locate, read_config, short_name
from meteor_bench.utils.progress import say

__all__ = ["DTYPES", "Loader", "load_model", "random_model", "resolve_device", "resolve_dtype", "resolve_model"]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
Loader = Callable[[ModelCard, str, str, str | None], VLM]


def resolve_model(model: str, pruner: Pruner, source: str | None = None) -> ModelCard:
    """The model, or its variant with the fusion that the method was made for, where the model offers one.

    Args:
        model: row of the model table, a composition's file, or a checkpoint's folder or hub id, whose config.json names
            its family.

    Raises:
        UnknownNameError, ModelError, ConfigError: there is no such model here.
    """
    if model not in MODELS.names() and is_recipe(model):
        from meteor_bench.models.composed.model import card_of

        return card_of(read_recipe(Path(model)), model)
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


def resolve_dtype(name: str, device: str) -> str:
    """The dtype that a name means on a device; "auto" is float32 on a CPU and bfloat16 elsewhere."""
    return ("float32" if device == "cpu" else "bfloat16") if name == "auto" else name


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


def random_model(card: ModelCard, device: str, dtype: str, source: str | None, layers: int | None = None) -> VLM:
    """A model at its real size with random weights; arguments as for `load_model`.

    Args:
        layers: no more of its language model than the first ones; None: all.

    Raises:
        UnsupportedError: the model cannot be built so.
        ConfigError: a source of weights was named.
    """
    if source is not None:
        raise ConfigError(f"random weights take no --source; '{source}' was given")
    if card.random is None:
        raise UnsupportedError(f"model '{card.name}' cannot be built with random weights")
    if layers is not None and card.shallow is None:
        raise UnsupportedError(f"model '{card.name}' is built with all of its layers; leave out --limit-layers")
    if layers is not None and card.shallow is not None:
        return random_model(card.shallow(layers), device, dtype, source)
    return card.random(device, DTYPES[dtype])
