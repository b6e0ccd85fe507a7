"""A GPU that is not there: tensors that say cuda:0 and compute on the CPU, every operation looked at on its way.

Enters in a `Ledger` the kernels that a real GPU would be sent, the waits that it would cost the host, and operations
that mix devices. What composite operations are made of is counted, except where CUDA has one kernel for it. Nothing
here is exact to the kernel: it counts operations, sorts and the like weighted by what torch launches for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from meteor_bench.core.errors import ConfigError
from meteor_bench.runs.latency.cuda_operations import INDEXED, ON_CUDA_ALONE, WAITS, Operation, kernels, known
from meteor_bench.runs.latency.ledger import Ledger

__all__ = ["PretendGpu", "check_none_is_real"]

CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")


class _OnGpu(Tensor):
    """A tensor of the pretend GPU.

    Attributes:
        held: the same on the CPU.
    """

    held: Tensor

    @staticmethod
    def __new__(cls, real: Tensor) -> _OnGpu:
        made: _OnGpu = Tensor._make_wrapper_subclass(
            cls,
            real.shape,
            strides=real.stride(),
            storage_offset=real.storage_offset(),
            dtype=real.dtype,
            layout=real.layout,
            device=CUDA,
            requires_grad=False,
        )
        made.held = real
        return made

    def tolist(self) -> Any:
        """What it holds; a wait."""
        active = _Mode.active
        if active is not None and active.ledger is not None:
            active.ledger.waited(".tolist()")
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        assert _Mode.active is not None, "a pretend GPU's tensor outlived it"
        return _Mode.active.run(func, args, kwargs or {})


def _real(value: Any) -> Any:
    """What operations take or give, on the CPU: tensors, other values, and lists of both."""
    if isinstance(value, list | tuple):
        return type(value)([_real(one) for one in value])
    return value.held if isinstance(value, _OnGpu) else value


def _on_gpu(value: Any) -> Any:
    """The same on the pretend GPU."""
    if isinstance(value, list | tuple):
        return type(value)([_on_gpu(one) for one in value])
    return _OnGpu(value) if isinstance(value, Tensor) and not isinstance(value, _OnGpu) else value


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


class _Mode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operation, also those that make a tensor of nothing."""

    active: _Mode | None = None

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ledger: Ledger | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.run(func, args, kwargs or {})

    def run(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Carry out an operation on the CPU, and count it."""
        operation = known(func)
        base = operation.base
        if operation.parts:
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        flat = [*_tensors(args), *_tensors(kwargs.values())]
        ours = any(isinstance(value, _OnGpu) for value in flat)
        asked = kwargs.get("device")
        here = ours if asked is None else torch.device(asked).type == "cuda"
        if base == "lift_fresh":
            return args[0]
        if self.ledger is not None and (ours or here):
            self._note(self.ledger, func, base, args, kwargs, flat, here)
        given, named = _real(args), _on_cpu(kwargs, here)
        result = ON_CUDA_ALONE.get(base, func)(*given, **named)
        return self._wrapped(operation, args, kwargs, result, here)

    @staticmethod
    def _note(ledger: Ledger, func: Any, base: str, args: Any, kwargs: Any, flat: list[Tensor], here: bool) -> None:
        for kind in _waits(base, args, kwargs, here):
            ledger.waited(kind)
        if _moves(base, args, here) == (False, True):
            ledger.copied()
        others = [v for v in flat if not isinstance(v, _OnGpu) and v.dim() > 0]
        moved = base in ("copy", "_to_copy") or (base in INDEXED and isinstance(args[0], _OnGpu))
        if others and not moved and any(isinstance(v, _OnGpu) for v in flat):
            ledger.met(base)
        if count := kernels(base, func):
            ledger.launched(base, count)

    @staticmethod
    def _wrapped(operation: Operation, args: Any, kwargs: Any, result: Any, here: bool) -> Any:
        """The result on the pretend GPU; what was written to stays the object that it was."""
        if operation.written:
            if not operation.returns:
                return result
            given = [args[i] if i < len(args) else kwargs.get(name) for i, name in operation.written]
            return given[0] if operation.returns == 1 else tuple(given)
        return _on_gpu(result) if here else result


def _on_cpu(kwargs: dict[str, Any], here: bool) -> dict[str, Any]:
    found = {key: CPU if key == "device" and here else value for key, value in kwargs.items()}
    if "pin_memory" in found:
        found["pin_memory"] = False
    return {key: _real(value) for key, value in found.items()}


def _moves(base: str, args: Any, here: bool) -> tuple[bool, bool]:
    """Whether what an operation copies lies on the GPU before and after; nothing that is no copy does."""
    if base == "_to_copy":
        return isinstance(args[0], _OnGpu), here
    return (isinstance(args[1], _OnGpu), isinstance(args[0], _OnGpu)) if base == "copy" else (False, False)


def _waits(base: str, args: Any, kwargs: Any, here: bool) -> Iterator[str]:
    """What the host waits for in an operation."""
    if base in ("_to_copy", "copy"):
        source, to = _moves(base, args, here)
        free = bool(kwargs.get("non_blocking") or (base == "copy" and len(args) > 2 and args[2]))
        if source and not to:
            yield "copy to the host"
        elif to and not source and not free:
            yield "blocking copy to the GPU"
    elif base in WAITS or (base == "histc" and len(args) < 4):  # it waits to find the bounds
        yield {"_local_scalar_dense": ".item(), bool() or int()"}.get(base, base)
    elif base in INDEXED:
        given = [i for i in args[1] if isinstance(i, Tensor)]
        if any(i.dtype in (torch.bool, torch.uint8) for i in given):
            yield "boolean index"
        if any(not isinstance(i, _OnGpu) for i in given):
            yield "index on the host"
    elif base == "repeat_interleave" and kwargs.get("output_size") is None:
        yield base


def check_none_is_real() -> None:
    """Whether there is no GPU here.

    Raises:
        ConfigError: there is one, whose tensors would be taken for the pretended one's.
    """
    if torch.cuda.is_available():
        raise ConfigError("a GPU can be pretended only where there is none; hide the real one: CUDA_VISIBLE_DEVICES=")


# What is asked of a driver: its start, and a generation that has grouped products (transformers' experts).
DRIVER: dict[str, Any] = {"_lazy_init": lambda: None, "get_device_capability": lambda device=None: (8, 0)}


class PretendGpu:
    """A context manager within which device "cuda" is the pretend GPU.

    Raises:
        ConfigError: this machine has a real one, whose tensors would be taken for it.
    """

    def __init__(self) -> None:
        self._mode = _Mode()
        self._before: tuple[dict[str, Any], bool, bool] | None = None

    def __enter__(self) -> PretendGpu:
        check_none_is_real()
        torch._C._ensureCUDADeviceGuardSet()
        # Put back afterwards.
        flags = torch._C._only_lift_cpu_tensors(), torch.__future__.get_swap_module_params_on_conversion()
        self._before = {name: getattr(torch.cuda, name) for name in DRIVER}, *flags
        vars(torch.cuda).update(DRIVER)
        torch._C._set_only_lift_cpu_tensors(True)
        torch.__future__.set_swap_module_params_on_conversion(True)  # else Module.to() cannot move to it
        _Mode.active = self._mode
        self._mode.__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        assert self._before is not None
        self._mode.__exit__(*error)  # type: ignore[no-untyped-call]
        _Mode.active = None
        vars(torch.cuda).update(self._before[0])
        torch._C._set_only_lift_cpu_tensors(self._before[1])
        torch.__future__.set_swap_module_params_on_conversion(self._before[2])

    @staticmethod
    def move(module: nn.Module) -> nn.Module:
        """Put a module's tensors on it, in place."""
        for part in module.modules():
            for table in cast("list[dict[str, Any]]", [part._parameters, part._buffers, vars(part)]):
                for name, value in list(table.items()):
                    if isinstance(value, Tensor) and not isinstance(value, _OnGpu):
                        table[name] = _OnGpu(value.detach().clone())
        return module

    @staticmethod
    def tensor(value: Tensor) -> Tensor:
        """A tensor on it."""
        return _OnGpu(value)

    @contextmanager
    def counting(self, ledger: Ledger) -> Iterator[None]:
        """Within the block everything goes into the ledger."""
        self._mode.ledger = ledger
        try:
            yield
        finally:
            self._mode.ledger = None
