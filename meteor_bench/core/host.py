"""What the host knows, brought to a device without waiting for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["on_device", "upload"]


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
