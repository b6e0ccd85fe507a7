"""Which device and dtype a run computes with."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from meteor_bench.config.run_config import RunConfig
from meteor_bench.core.errors import ConfigError

if TYPE_CHECKING:
    import torch

__all__ = ["device_and_dtype", "device_name", "own_device"]


class Placement(NamedTuple):
    """Where a run computes, and in which numbers."""

    device: str
    dtype: str


def device_and_dtype(config: RunConfig) -> Placement:
    """Both with "auto" resolved."""
    from meteor_bench.engine.load_model import resolve_device, resolve_dtype

    device = resolve_device(config.device)
    return Placement(device, resolve_dtype(config.dtype, device))


def device_name(device: torch.device | str) -> str:
    """A GPU's name, or the kind of device."""
    import torch

    kind = torch.device(device).type
    return torch.cuda.get_device_name(device) if kind == "cuda" else kind


def _given_out() -> bool:
    """Whether a scheduler gave this process cards of its own."""
    return bool(os.environ.get("CUDA_VISIBLE_DEVICES")) and "SLURM_PROCID" in os.environ


def own_device(device: str, local: int) -> str:
    """The device of the process of that number on its machine.

    Raises:
        ConfigError: there are fewer GPUs than processes, or all were sent to one.
    """
    if not device.startswith("cuda"):
        return device
    import torch

    count = torch.cuda.device_count()
    if count == 1 and len(os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")) == 1 and _given_out():
        local = 0  # the scheduler shows each process its own card alone
    if device != "cuda" or local >= count:
        raise ConfigError(
            f"each process takes a GPU of its own, this one cuda:{local}, and there are {count}; start as many "
            "processes as there are GPUs, with --device cuda, or give --device cpu"
        )
    torch.cuda.set_device(local)  # where stages are timed
    return f"cuda:{local}"
