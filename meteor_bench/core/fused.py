"""Operations that are many small kernels in torch and few of Triton's on a GPU.

A `Fused` is called like the function it is made of. On a CPU, and where Triton is missing, that function runs. On CUDA
Triton's kernels do; before their first use in a process they are held against the function on a small input, and where
they fail or differ one line says so and the function runs instead.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Generic, ParamSpec, TypeVar, cast

import torch
from torch import Tensor

__all__ = ["Fused", "agrees", "has_triton"]

P = ParamSpec("P")
T = TypeVar("T")
TOLERANCE = 1e-5  # of a kernel beside the function, relative to the largest value


class Fused(Generic[P, T]):
    """A function of tensors, and Triton's kernels that do the same.

    Args:
        plain: the function; its first argument is a tensor, and nothing that it gives shares memory with an argument.
        schema: its types, as torch writes them.
        kernels: the module whose function of the same name (but for a leading _) launches the kernels.
        trial: arguments on the CPU to try the kernels with.
    """

    def __init__(self, plain: Callable[P, T], schema: str, kernels: str, trial: Callable[[], tuple[Any, ...]]) -> None:
        self.plain, self.kernels, self.trial = plain, kernels, trial
        self._name = plain.__name__.lstrip("_")
        define: Any = torch.library.custom_op
        self._operation: Any = define(f"meteor_bench::{self._name}", mutates_args=(), schema=schema)(plain)
        self._operation.register_kernel("cuda")(self._on_a_gpu)
        self.proven = lru_cache(maxsize=8)(self._prove)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """What the function gives; arguments by their places."""
        return cast("T", (self._operation if self.here(args[0]) else self.plain)(*args, **kwargs))

    @staticmethod
    def here(tensor: Any) -> bool:
        """Whether kernels are tried on what lies where this tensor does; not in training, they have no gradient."""
        return bool(tensor.is_cuda) and not (torch.is_grad_enabled() and tensor.requires_grad) and has_triton()

    def _on_a_gpu(self, *args: Any) -> Any:
        if not self.proven(args[0].device):
            return cast("Any", self.plain)(*args)
        return getattr(import_module(self.kernels), self._name)(*args)

    def _prove(self, device: torch.device) -> bool:
        """Whether the kernels can be built here and say the same as the function; told in one line if not."""
        given = self.trial()
        there = [value.to(device) if isinstance(value, Tensor) else value for value in given]
        wanted = cast("Any", self.plain)(*given)
        told = f"'{self._name}' is left to torch"
        return agrees(told, lambda: getattr(import_module(self.kernels), self._name)(*there), wanted, TOLERANCE)


def agrees(told: str, kernel: Callable[[], Any], wanted: Any, tolerance: float) -> bool:
    """Whether a kernel can be built here and gives what is wanted; where not, one line that begins with ``told``.

    Args:
        wanted: one tensor or several, as the kernel gives them.
        tolerance: of the largest difference, relative to the largest value.
    """
    try:
        found = kernel()
    except Exception as error:  # a missing compiler, a card that Triton does not know
        warnings.warn(f"{told}: Triton's kernel failed ({error})", stacklevel=1)
        return False
    apart = max(_apart(*pair) for pair in zip(_tensors(found), _tensors(wanted), strict=True))
    if not apart <= tolerance:
        warnings.warn(f"{told}: Triton's kernel is {apart:.1e} off", stacklevel=1)
    return apart <= tolerance


def _tensors(values: Any) -> tuple[Tensor, ...]:
    return (values,) if isinstance(values, Tensor) else tuple(values)


def _apart(found: Tensor, wanted: Tensor) -> float:
    """Largest difference beside the largest value; infinite where shapes or kinds differ."""
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        return float("inf")
    wanted = wanted.cpu().double()
    return float((found.cpu().double() - wanted).abs().max() / wanted.abs().max().clamp(min=1e-12))


@lru_cache(maxsize=1)
def has_triton() -> bool:
    """Whether the package is installed."""
    return find_spec("triton") is not None
