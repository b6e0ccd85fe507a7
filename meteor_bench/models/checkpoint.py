"""Reading checkpoints: safetensors shards behind an index, every key accounted for, nothing executed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from meteor_bench.errors import ModelError

__all__ = ["digest", "load_weights", "shards"]

INDEX = "model.safetensors.index.json"


def shards(folder: Path) -> list[Path]:
    """The shard files of a checkpoint, as its index names them (stale files beside them are ignored).

    Raises:
        ModelError: no checkpoint there, or an index that cannot be read.
    """
    index = folder / INDEX
    single = folder / "model.safetensors"
    if not index.exists():
        if single.exists():
            return [single]
        raise ModelError(f"{folder} holds no checkpoint; expected {INDEX} or model.safetensors")
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (ValueError, KeyError, AttributeError) as error:
        raise ModelError(f"{index} is not a safetensors index: {error}") from error
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        raise ModelError(f"{folder} lacks {', '.join(missing)}, which {INDEX} names")
    return [folder / name for name in names]


def digest(folder: Path) -> str:
    """SHA-256 over the configuration and all shards, for records."""
    total = hashlib.sha256()
    for path in [folder / "config.json", *shards(folder)]:
        total.update(path.name.encode())
        total.update(path.read_bytes())
    return total.hexdigest()


def load_weights(module: nn.Module, folder: Path, ties: frozenset[str] = frozenset()) -> None:
    """Copy a checkpoint into ``module``, casting to its dtype; missing and unexpected keys are errors.

    Args:
        ties: keys that a checkpoint may leave out because they share memory with another.

    Raises:
        ModelError: a corrupted shard, a missing or unexpected key, a wrong shape, a value that is not finite.
    """
    own = module.state_dict()
    seen: set[str] = set()
    for path in shards(folder):
        try:
            with safe_open(path, framework="pt") as shard, torch.no_grad():
                for key in shard.keys():
                    if key not in own:
                        raise ModelError(f"{path}: unexpected weight '{key}'")
                    _copy(own[key], shard.get_tensor(key), key, path)
                    seen.add(key)
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{path} is corrupted or not a safetensors file: {error}") from error
    missing = sorted(set(own) - seen - ties)
    if missing:
        raise ModelError(f"{folder}: {len(missing)} weights are missing, the first is '{missing[0]}'")


def _copy(target: Tensor, value: Tensor, key: str, path: Path) -> None:
    if target.shape != value.shape:
        raise ModelError(f"{path}: '{key}' has shape {list(value.shape)}, the model wants {list(target.shape)}")
    if not bool(torch.isfinite(value).all()):
        raise ModelError(f"{path}: '{key}' holds values that are not finite")
    target.copy_(value)
