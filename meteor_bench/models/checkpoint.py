"""Reading checkpoints: shards behind an index, every key accounted for, nothing executed, nothing held twice.

A model is built as a `skeleton` (its parameters have no storage) and each weight of a memory-mapped shard goes
straight to its device and dtype.
"""

from __future__ import annotations

import hashlib
import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from meteor_bench.core.errors import ModelError
from meteor_bench.models.locate import indexed
from meteor_bench.models.memory import check_room
from meteor_bench.utils.progress import track

__all__ = [
    "Fit",
    "Rename",
    "digest",
    "digest_over",
    "load_weights",
    "place_buffers",
    "randomise",
    "read_shard",
    "shards",
    "skeleton",
]

# Preferred first: the safer format.
_FORMATS = {
    "model.safetensors": "model.safetensors.index.json",
    "pytorch_model.bin": "pytorch_model.bin.index.json",
}
_SEED = 20251120
_CHUNK = 1 << 24

_FILLS = {Tensor.fill_, Tensor.zero_, Tensor.normal_, Tensor.uniform_}

Rename = Callable[[str], str | None]
Fit = Callable[[str, Tensor, tuple[int, ...]], Tensor]


class _NoStorage(TorchFunctionMode):
    """`torch.empty`, which modules make their weights with, gives tensors on "meta"; those are given no values.

    On "meta" each draw of weights would be traced in Python, which takes most of the time of building a small model.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == nn.init.__name__ or func in _FILLS:
            tensor = args[0] if args else kwargs.get("tensor")
            if isinstance(tensor, Tensor) and tensor.is_meta:
                return tensor
        if func is torch.empty and kwargs.get("device") is None:
            kwargs = {**kwargs, "device": "meta"}
        return func(*args, **kwargs)


@contextmanager
def skeleton() -> Iterator[None]:
    """Modules built inside have no storage for their weights; what a constructor computes (RoPE's tables) is real."""
    with _NoStorage():
        yield


def shards(folder: Path) -> list[Path]:
    """The shard files of a checkpoint, as its index names them (stale files beside them are ignored).

    Raises:
        ModelError: no checkpoint there, or an index that cannot be read.
    """
    for single, listing in _FORMATS.items():
        if (folder / listing).exists():
            return _indexed(folder, listing)
        if (folder / single).exists():
            return [folder / single]
    raise ModelError(f"{folder} holds no checkpoint; expected one of {', '.join([*_FORMATS, *_FORMATS.values()])}")


def _indexed(folder: Path, listing: str) -> list[Path]:
    names = indexed(folder / listing)
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        raise ModelError(f"{folder} lacks {', '.join(missing)}, which {listing} names")
    return [folder / name for name in names]


def digest(folder: Path, *, described: bool = True) -> str:
    """SHA-256 over the configuration and all shards, for records.

    Args:
        described: whether the folder has a configuration.
    """
    total = hashlib.sha256()
    for path in [*([folder / "config.json"] if described else []), *shards(folder)]:
        total.update(path.name.encode())
        with path.open("rb") as stream:
            while part := stream.read(_CHUNK):
                total.update(part)
    return total.hexdigest()


def digest_over(base: Path, folder: Path) -> str:
    """SHA-256 of a checkpoint that needs another one."""
    return hashlib.sha256(f"{digest(base)} {digest(folder)}".encode()).hexdigest()


def load_weights(
    module: nn.Module,
    folder: Path,
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    rename: Rename = lambda key: key,
    fit: Fit = lambda key, value, shape: value,
    ties: Mapping[str, str] | None = None,
    called: Callable[[str], str] = lambda key: key,
) -> None:
    """Put a checkpoint into a `skeleton`; every missing, unexpected or misfitting key is an error that names it.

    Args:
        device, dtype: where and as what the weights end; buffers that no checkpoint holds are moved, not cast.
        rename: key of the file -> key of ``module``, None for one that the format carries and nothing uses.
        fit: key of ``module``, value of the file, shape of the module's weight -> the value as the module holds it.
        ties: key that a checkpoint may leave out -> key whose weight it shares.
        called: key of ``module`` -> key of the file, for the message about missing ones.

    Raises:
        ModelError: a corrupted shard, a missing or unexpected key, a wrong shape, a value that is not finite, too
            little memory (before anything is read).
    """
    check_room(str(folder), module, device, dtype)
    wanted = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    seen: set[str] = set()
    files = shards(folder)
    with _progress(f"weights of {folder.name}", len(files)) as update:
        for done, path in enumerate(files, 1):
            part: dict[str, Tensor] = {}
            for key, value in read_shard(path, device):
                name = rename(key)
                if name is None:
                    continue
                if name in wanted:
                    value = fit(name, value, wanted[name])
                _check(name, key, value, wanted, seen, path)
                part[name] = value.to(device=device, dtype=dtype if value.is_floating_point() else None)
                seen.add(name)
            module.load_state_dict(part, strict=False, assign=True)
            update(done)
    for key, source in (ties or {}).items():
        if key not in seen and source in seen:
            module.load_state_dict({key: module.state_dict()[source]}, strict=False, assign=True)
            seen.add(key)
    missing = sorted(set(wanted) - seen)
    if missing:
        raise ModelError(f"{folder}: {len(missing)} weights are missing, the first is '{called(missing[0])}'")
    place_buffers(module, device)


@contextmanager
def _progress(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Nothing is shown for a checkpoint of one file."""
    if total == 1:
        yield lambda done: None
        return
    with track(title, total) as update:
        yield update


def read_shard(path: Path, device: str = "cpu") -> Iterator[tuple[str, Tensor]]:
    """Key and value of a shard, one after another; a safetensors file is mapped and read on the device.

    Raises:
        ModelError: it is corrupted, or holds more than tensors.
    """
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt", device=device) as shard:
                for key in shard.keys():
                    yield key, shard.get_tensor(key)
        else:
            mapped = zipfile.is_zipfile(path)  # what older versions of torch wrote cannot be mapped
            for key, value in torch.load(path, map_location="cpu", weights_only=True, mmap=mapped).items():
                if not isinstance(value, Tensor):
                    raise ModelError(f"{path} is corrupted or holds more than weights: '{key}' is no tensor")
                yield key, value
    except (SafetensorError, OSError, RuntimeError, EOFError, AttributeError, pickle.UnpicklingError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(f"{path} is corrupted or holds more than weights: {reason[0]}") from error


def _check(
    name: str, key: str, value: Tensor, wanted: Mapping[str, tuple[int, ...]], seen: set[str], path: Path
) -> None:
    if name not in wanted:
        raise ModelError(f"{path}: unexpected weight '{key}'")
    if name in seen:
        raise ModelError(f"{path}: weight '{key}' is there twice")
    if tuple(value.shape) != wanted[name]:
        raise ModelError(f"{path}: '{key}' has shape {list(value.shape)}, the model wants {list(wanted[name])}")
    if value.is_floating_point() and not bool(torch.isfinite(value).all()):
        raise ModelError(f"{path}: '{key}' holds values that are not finite")


def randomise(module: nn.Module, device: str, dtype: torch.dtype) -> None:
    """Give a `skeleton` random weights that keep activations finite: normal matrices, neutral norms and biases.

    Args:
        device: "meta" leaves it without storage, its buffers too.
    """
    if device != "meta":
        check_room("the model", module, device, dtype)
    generator = None if device == "meta" else torch.Generator(device).manual_seed(_SEED)
    made: dict[str, Tensor] = {}
    for key, value in module.state_dict(keep_vars=True).items():
        if not value.is_floating_point():
            continue
        fresh = torch.empty(value.shape, device=device, dtype=dtype)
        if generator is not None:
            _fill(fresh, key, generator)
        made[key] = fresh
    module.load_state_dict(made, strict=False, assign=True)
    place_buffers(module, device)


def _fill(value: Tensor, key: str, generator: torch.Generator) -> None:
    if value.ndim > 1:
        value.normal_(std=0.02, generator=generator)
    else:
        value.fill_(0.0 if key.endswith("bias") else 1.0)


def place_buffers(module: nn.Module, device: str) -> None:
    """Move what no checkpoint holds. It is not cast: rounded RoPE frequencies would move every rotation."""
    for owner in module.modules():
        for name, buffer in list(owner.named_buffers(recurse=False)):
            setattr(owner, name, buffer.to(device))
