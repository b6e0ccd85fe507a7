"""Whether a model's weights fit, said before any of them is read."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import nn

from meteor_bench.core.errors import ModelError

__all__ = ["check_room", "free_bytes", "weight_bytes"]

_GIB = 2**30


def weight_bytes(module: nn.Module, dtype: torch.dtype) -> int:
    """Bytes that the weights of a module (also of one without storage) take in a dtype; shared ones count once."""
    return sum(p.numel() for p in module.parameters()) * dtype.itemsize


def free_bytes(device: str) -> int | None:
    """Bytes that can be allocated on a device, None where that cannot be told."""
    kind = torch.device(device).type
    if kind == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if kind != "cpu":
        return None
    limits = [size for size in (_available(), _control_group()) if size is not None]
    return min(limits, default=None)


def _available() -> int | None:
    """What Linux could hand out without swapping, else the free pages."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # not Linux
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    except (OSError, ValueError):
        return None


def _control_group() -> int | None:
    """What a container's limit leaves, None where there is none."""
    root = Path("/sys/fs/cgroup")
    try:
        limit = (root / "memory.max").read_text(encoding="utf-8").strip()
        used = (root / "memory.current").read_text(encoding="utf-8").strip()
    except OSError:
        return None
    return int(limit) - int(used) if limit.isdecimal() else None


def check_room(what: str, module: nn.Module, device: str, dtype: torch.dtype) -> None:
    """Refuse weights that cannot fit.

    Args:
        what: the model, for the message.

    Raises:
        ModelError: says how much is needed and how much there is.
    """
    needed, free = weight_bytes(module, dtype), free_bytes(device)
    if free is not None and needed > free:
        raise ModelError(
            f"{what} needs {needed / _GIB:.1f} GiB for its weights in {str(dtype).removeprefix('torch.')}, "
            f"{device} has {free / _GIB:.1f} GiB free"
        )
