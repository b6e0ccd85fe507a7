"""What the host knows, brought to a device without waiting for it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

__all__ = ["on_device", "places", "upload"]


def on_device(values: Tensor, device: torch.device) -> Tensor:
    """Numbers that the host knows (or that are there already) on the device; a GPU's queue is not waited for."""
    if values.device == device:
        return values
    if values.device.type == "cpu" and torch.cuda.is_available():
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


def upload(values: Sequence[Any], device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """The same of plain numbers or nested lists of them."""
    return on_device(torch.tensor(values, dtype=dtype), device)


def places(count: int, device: torch.device) -> Tensor:
    """[N] long 0, 1, 2, …, made once for a device; not to be written to."""
    return _places(count, device, torch.is_inference_mode_enabled())


@lru_cache(maxsize=512)
def _places(count: int, device: torch.device, _: bool) -> Tensor:
    # What inference mode made is of no use to training, so it has its own.
    return torch.arange(count, device=device)
