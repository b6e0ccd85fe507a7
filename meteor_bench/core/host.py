"""What the host knows, brought to a device without waiting for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial, wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from meteor_bench.core.sent import made, sent

__all__ = ["made_once", "on_device", "places", "trues", "upload"]

P = ParamSpec("P")
T = TypeVar("T")


def on_device(values: Tensor, device: torch.device) -> Tensor:
    """Numbers that the host knows (or that are there already) on the device; a GPU's queue is not waited for.

    What comes back is not to be written to: a pass that is replayed finds the same tensor again (`core.sent`).
    """
    return values if values.device == device else sent(values, partial(_send, device=device))


def upload(values: Sequence[Any], device: torch.device, dtype: torch.dtype | None = None, own: str = "") -> Tensor:
    """The same of plain numbers or nested lists of them.

    Args:
        own: what of a batch's own they are, where batches of one shape differ in them.
    """
    return sent(torch.tensor(values, dtype=dtype), partial(_send, device=device), own)


def _send(values: Tensor, device: torch.device) -> Tensor:
    if values.device == device:
        return values
    if values.device.type == "cpu" and torch.cuda.is_available():
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


def made_once(most: int) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Keep what a function makes of its arguments, the last ``most`` of it: constants on a device, not written to."""

    def around(make: Callable[P, T]) -> Callable[P, T]:
        cached: Any = lru_cache(maxsize=most)(make)

        @wraps(make)
        def get(*args: P.args, **kwargs: P.kwargs) -> T:
            found: T = cached(*args, **kwargs)
            made(found)
            return found

        return get

    return around


def places(count: int, device: torch.device) -> Tensor:
    """[N] long 0, 1, 2, …, made once for a device; not to be written to."""
    return _places(count, device, torch.is_inference_mode_enabled())


@made_once(512)
def _places(count: int, device: torch.device, _: bool) -> Tensor:
    # What inference mode made is of no use to training, so it has its own.
    return torch.arange(count, device=device)


def trues(rows: int, count: int, device: torch.device) -> Tensor:
    """[B, N] bool, True everywhere, made once for a device; not to be written to."""
    return _trues(rows, count, device, torch.is_inference_mode_enabled())


@made_once(512)
def _trues(rows: int, count: int, device: torch.device, _: bool) -> Tensor:
    return torch.ones(rows, count, dtype=torch.bool, device=device)
