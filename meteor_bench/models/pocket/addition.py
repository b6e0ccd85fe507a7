"""A checkpoint that is another one and a little more: low-rank additions to its matrices, and small tensors whole.

It may also say which channels and heads of the other one stay; what is added is then added to what stays.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from meteor_bench.core.errors import ModelError
from meteor_bench.models.checkpoint import read_shard, shards

__all__ = ["add_to", "kept_units"]

_LEAVES = {"b", "a", "whole"}
_KEEP = "keep"


def kept_units(folder: Path) -> dict[str, Tensor]:
    """Name of a layer -> [units] bool, which of the units that leave by it stay; see `models.pocket.narrow`.

    Raises:
        ModelError: no checkpoint there or a corrupted one, or a list of something else.
    """
    found = {}
    for file in shards(folder):
        for key, value in read_shard(file):
            name, _, leaf = key.rpartition(".")
            if leaf != _KEEP:
                continue
            if value.dtype != torch.bool or value.ndim != 1:
                said = f"{str(value.dtype).removeprefix('torch.')} of {list(value.shape)}"
                raise ModelError(f"{file} has '{key}', {said}; expected a list of bool")
            found[name] = value
    return found


def add_to(module: nn.Module, folder: Path) -> None:
    """Add what a folder holds to weights that are there already.

    For a parameter NAME [out, in] its shards have NAME.b [out, rank] and NAME.a [rank, in], whose product is added, or
    NAME.whole, which is added as it is.

    Raises:
        ModelError: no checkpoint there or a corrupted one, a key that is no parameter's or is there twice, a shape
            that does not fit, a value that is not finite.
    """
    parts: dict[str, dict[str, Tensor]] = {}
    for file in shards(folder):
        for key, value in read_shard(file):
            name, _, leaf = key.rpartition(".")
            if leaf == _KEEP:
                continue
            if leaf not in _LEAVES:
                raise ModelError(f"{file} has '{key}'; expected the name of a weight and .b, .a or .whole")
            if leaf in parts.setdefault(name, {}):
                raise ModelError(f"{file}: '{key}' is there twice")
            parts[name][leaf] = value.float()
    own = dict(module.named_parameters())
    with torch.no_grad():
        for name, part in parts.items():
            if name not in own:
                raise ModelError(f"{folder} adds to '{name}', which the model does not have")
            own[name].add_(_sum(part, name, own[name], folder).to(own[name].dtype))


def _sum(part: dict[str, Tensor], name: str, weight: Tensor, folder: Path) -> Tensor:
    if set(part) == {"whole"}:
        added = part["whole"]
    elif set(part) == {"b", "a"} and all(t.ndim == 2 for t in part.values()) and part["b"].shape[1] == len(part["a"]):
        added = part["b"] @ part["a"]
    else:
        shapes = {leaf: list(t.shape) for leaf, t in part.items()}
        raise ModelError(f"{folder} has {shapes} for '{name}'; expected .b [out, rank] and .a [rank, in], or .whole")
    if added.shape != weight.shape:
        raise ModelError(f"{folder} adds {list(added.shape)} to '{name}', which is {list(weight.shape)}")
    if not bool(added.isfinite().all()):
        raise ModelError(f"{folder} adds values to '{name}' that are not finite")
    return added
