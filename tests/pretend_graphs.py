"""CUDA graphs of the pretended GPU: what a pass does there is taped, and a replay does that again, without the host.

As with real ones, a replay runs none of the pass's Python: what the host worked out is what it was, results land in
the same memory, and memory that the pass reads and did not make must still be there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple, TypeVar

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from meteor_bench.core.graphs import Graphs
from meteor_bench.core.sent import Sent
from meteor_bench.core.tokens import Later
from meteor_bench.runs.latency.ledger import Ledger
from meteor_bench.runs.latency.pretend_device import PretendGpu

T = TypeVar("T")


class _Done(NamedTuple):
    operation: Any
    args: Any
    kwargs: Any
    out: list[Any]


class Tape(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes every operation on the pretended GPU.

    Attributes:
        outside: memory that was read and not made on the way.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._done: list[_Done] = []
        self._made: set[int] = set()
        self.outside: set[int] = set()

    def __len__(self) -> int:
        return len(self._done)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        read = {memory(tensor) for tensor in _on_gpu((args, kwargs))}
        out = func(*args, **kwargs)
        found = _on_gpu(out)
        if read or found:
            self.outside |= read - self._made
            self._made |= {memory(tensor) for tensor in found} - read
            self._done.append(_Done(func, args, kwargs, found))
        return out

    def forget(self) -> None:
        """A capture runs nothing, so that where results will be there is anything."""
        for tensor in (tensor for done in self._done for tensor in done.out):
            if memory(tensor) in self._made:
                tensor.held.fill_(1)

    def replay(self) -> None:
        """All of it again, every result where it was."""
        for done in self._done:
            again = _on_gpu(done.operation(*done.args, **done.kwargs))
            for old, new in zip(done.out, again, strict=True):
                if old.held.data_ptr() != new.held.data_ptr():  # else a view, or written in place
                    old.held.copy_(new.held)


def _on_gpu(value: Any) -> list[Any]:
    if isinstance(value, Tensor):
        return [value] if hasattr(value, "held") and value.numel() else []
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [found for part in parts for found in _on_gpu(part)]


def memory(tensor: Any) -> int:
    """What tells one piece of the pretended GPU's memory from others."""
    return int(tensor.held.untyped_storage().data_ptr())


def pieces(value: Any) -> Iterator[int]:
    """The memory of whatever holds tensors."""
    if isinstance(value, nn.Module):
        for part in value.modules():
            yield from pieces([part._parameters, part._buffers, [v for v in vars(part).values() if _on_gpu(v)]])
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from pieces(getattr(value, field.name))
    elif isinstance(value, Later):
        yield from pieces(value.get())
    elif isinstance(value, dict):
        yield from pieces(list(value.values()))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from pieces(part)
    else:
        yield from map(memory, _on_gpu(value))


class PretendGraphs(Graphs):
    """Captures on the pretended GPU.

    Attributes:
        ledger: of what is done while capturing.
        tapes: of every pass, with what it was sent.
    """

    def __init__(self, gpu: PretendGpu) -> None:
        super().__init__()
        self.gpu, self.ledger = gpu, Ledger()
        self.tapes: list[tuple[Tape, Sent]] = []

    def result(self, sent: Sent, make: Callable[[], T]) -> Callable[[], T]:
        checked = super().result(sent, make)
        with self.gpu.counting(self.ledger):
            checked()
        if self.ledger.waits:
            raise RuntimeError("called a synchronizing CUDA operation")  # as torch says
        tape = Tape()
        with sent.repeating(), tape:
            out = make()
        tape.forget()
        self.tapes.append((tape, sent))

        def run() -> T:
            tape.replay()
            return out

        return run
