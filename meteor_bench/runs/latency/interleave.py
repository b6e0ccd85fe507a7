"""Latency: several sessions interleaved in one process, batch by batch, nothing shared between samples.

A pass is one batch from its pictures to its last token. Each batch is run by every session in turn, first without
instrumentation (end to end), then with the stage clock; the answers' length is fixed. The order of the sessions
rotates, so that none always comes first.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch

from meteor_bench.core.attention_probe import plainly
from meteor_bench.core.clock import Clock
from meteor_bench.core.errors import MeteorBenchError
from meteor_bench.core.graphs import Graphs, graphs_for
from meteor_bench.core.points import Points
from meteor_bench.core.request import Request
from meteor_bench.engine.flop_counter import FlopMeter
from meteor_bench.engine.session import Session
from meteor_bench.engine.static_first import FIRST, met
from meteor_bench.runs.latency.passes import prepare, run
from meteor_bench.utils.hardware import WorkingMemory
from meteor_bench.utils.plain_text import one_line

__all__ = ["Timing", "measure"]


@dataclass
class Timing:
    """What was measured of one session.

    Attributes:
        samples: one per pass, as plain data: request (the keys of its batch), preprocess_ms, encode_ms {tower},
            fuse_ms, prune_ms, prefill_ms, ttft_ms (encode + fuse + prune + prefill; where all of it is captured as one,
            it alone, and {} or None for those), decode_ms_per_token, end_to_end_ms, instrumented_ms (the second pass,
            without preprocessing), flops {stage} of the whole batch (closed forms on the samples' own counts; those of
            "prune" as torch's counter sees them on the first request), tokens (of each sample: kept, after the last
            pruning point, and means over the layers and over their KV caches; reference, target and text of the first).
        memory_bytes: most that a pass allocated beyond what was there before it; None where that cannot be told.
        failure: why there are no samples, or no more, "" where there are all.
        broken: whether that was an error of the program or the machine, not of what was asked for.
        uncaptured: why its passes to the first token were not captured, "" where they were or nobody wanted that.
    """

    samples: list[dict[str, Any]] = field(default_factory=list)
    memory_bytes: int | None = None
    failure: str = ""
    broken: bool = False
    uncaptured: str = ""


@torch.inference_mode()
def measure(
    sessions: Mapping[str, Session],
    requests: Sequence[Request],
    *,
    batch_size: int = 1,
    new_tokens: int = 4,
    warmup: int = 2,
    passes: int | None = None,
    seconds: float | None = None,
    eager: Collection[str] = (),
    graphed: Collection[str] = (),
    tolerant: bool = False,
    on_step: Callable[[], None] = lambda: None,
    on_sample: Callable[[str, Mapping[str, Any]], None] = lambda _name, _sample: None,
) -> dict[str, Timing]:
    """Time sessions on the same batches.

    Args:
        requests: taken ``batch_size`` at a time in this order; what is left over is not run.
        new_tokens: tokens to generate, at least 2 so that a time per token exists.
        warmup: passes of each session that are thrown away, at least 1: the memory is measured in the first. No new
            one is begun after ``seconds``.
        passes: of each session; the batches are run again where there are fewer. None: each batch once.
        seconds: no new batch is begun after that time; the first is always run.
        eager: names of the sessions whose attention is the library's eager one.
        graphed: names of those that run by `core.graphs`; what is captured in a warm-up pass is replayed later.
        tolerant: a session that cannot run is left out, with the reason, instead of ending everything. One that breaks
            (out of memory, an operation that its dtype has not, an error of CUDA) always is; the others go on.
        on_step: called after each batch.
        on_sample: called with each sample as soon as it exists, and the name of its session.

    Raises:
        MeteorBenchError: samples of a batch differ in shape, or a session cannot run.
    """
    batches = [requests[i : i + batch_size] for i in range(0, len(requests) - batch_size + 1, batch_size)]
    rounds = len(batches) if passes is None else passes
    contenders = [
        _Contender(name, session, name in eager, graphs_for(session.device) if name in graphed else None)
        for name, session in sessions.items()
    ]
    for one in contenders:
        with one.running(tolerant):
            _warm_up(one, batches[:rounds], new_tokens, warmup, seconds)
        one.let_go()
    able = [one for one in contenders if not one.timing.failure]
    with _uncollected():
        for step in _begun(rounds, seconds):
            turn = step % max(1, len(able))
            for one in able[turn:] + able[:turn]:
                if one.timing.failure:
                    continue
                with one.running(tolerant):
                    sample = _sample(one, batches[step % len(batches)], new_tokens)
                    one.timing.samples.append(sample)
                    on_sample(one.name, sample)
                one.let_go()
            on_step()
    return {one.name: one.timing for one in contenders}


@dataclass
class _Contender:
    """A session and how it runs.

    Attributes:
        eager: whether its attention is the library's eager one.
        graphs: what it runs by; None: operation by operation.
        prune_flops: of a batch.
    """

    name: str
    session: Session
    eager: bool
    graphs: Graphs | None
    timing: Timing = field(default_factory=Timing)
    prune_flops: int = 0

    @contextmanager
    def running(self, tolerant: bool) -> Iterator[None]:
        """It runs in the block.

        Raises:
            MeteorBenchError: as for `_excused`.
        """
        way = self.session.engine.instrumented(graphs=self.graphs)
        with plainly() if self.eager else nullcontext(), way, _excused(self.timing, tolerant):
            yield

    def let_go(self) -> None:
        """After a failure, give back what its exception held; outside of `running`, which holds the exception."""
        if self.timing.failure:
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


@contextmanager
def _excused(timing: Timing, tolerant: bool) -> Iterator[None]:
    """What goes wrong in the block is noted as the contender's failure.

    Raises:
        MeteorBenchError: what was asked for cannot be had, and that is not to be tolerated.
    """
    try:
        yield
    except MeteorBenchError as error:
        if not tolerant:
            raise
        timing.failure = str(error)
    except torch.OutOfMemoryError:
        timing.failure, timing.broken = "out of memory", True
    except Exception as error:  # told in the contender's row and by the exit status; the others are still timed
        said = one_line(error)
        timing.failure, timing.broken = f"{type(error).__name__}: {said}", True


def _begun(rounds: int, seconds: float | None) -> Iterator[int]:
    """The rounds that are begun in the time, the first in any case; garbage is collected before each."""
    end = None if seconds is None else time.perf_counter() + seconds
    for step in range(rounds):
        if step > 0 and end is not None and time.perf_counter() > end:
            return
        gc.collect()  # cheap: only what the round before left
        yield step


@contextmanager
def _uncollected() -> Iterator[None]:
    """Python's garbage collector stays out of the block; what exists before it is not looked at again."""
    gc.collect()
    before = gc.get_freeze_count()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        if not before:  # else what somebody froze would have to be looked at again, and cannot be told from the rest
            gc.unfreeze()


def _warm_up(
    one: _Contender, batches: Sequence[Sequence[Request]], new_tokens: int, passes: int, seconds: float | None
) -> None:
    """The passes that are thrown away; the first measures memory, and is tried once more where that ran out.

    The FLOPs of pruning are counted in one more.
    """
    session, timing, batch = one.session, one.timing, batches[0]
    end = None if seconds is None else time.perf_counter() + seconds
    with session.engine.instrumented(clock=Clock(session.device, enabled=False)):
        if session.device.type == "cuda":
            torch.cuda.empty_cache()  # what the contender before left is not this one's
        short = False
        try:
            timing.memory_bytes = _first(session, batch, new_tokens)
        except torch.OutOfMemoryError:
            short = True
        if short:  # outside the handler, whose exception still holds the tensors
            gc.collect()
            if session.device.type == "cuda":
                torch.cuda.empty_cache()
            timing.memory_bytes = _first(session, batch, new_tokens)
        for _ in range(passes - 1):
            if end is not None and time.perf_counter() > end:
                break
            run(session, batch, new_tokens)
        _meet_shapes(one, batches, new_tokens)
    with session.engine.uncaptured():
        one.prune_flops = _pruning_flops(session, batch[0], new_tokens) * len(batch)


def _meet_shapes(one: _Contender, batches: Sequence[Sequence[Request]], new_tokens: int) -> None:
    """What is done once for a shape is done now: budgets are searched, passes and decoding are captured."""
    if one.graphs is None and not one.session.searches:
        return
    for batch in batches:
        inputs = prepare(one.session, batch)
        if one.graphs is not None and not met(one.graphs, inputs.engine, inputs.batch, new_tokens):
            run(one.session, batch, new_tokens, inputs)
    if one.graphs is not None:
        one.timing.uncaptured = one.graphs.refused


def _first(session: Session, batch: Sequence[Request], new_tokens: int) -> int | None:
    """A pass, and the most memory that it took beyond what was there."""
    memory = WorkingMemory(session.device)
    with memory:
        run(session, batch, new_tokens)
    return memory.peak_bytes


def _sample(one: _Contender, batch: Sequence[Request], new_tokens: int) -> dict[str, Any]:
    session = one.session
    with session.engine.instrumented(clock=Clock(session.device, enabled=False)):
        plain = run(session, batch, new_tokens)
    timed = Clock(session.device)
    with session.engine.instrumented(clock=timed):
        second = run(session, batch, new_tokens, plain.inputs)
        stages = timed.read_ms()
    encoding = {name.split(".", 1)[1]: ms for name, ms in stages.items() if name.startswith("encode.")}
    names, whole = ("fuse", "prune", "prefill"), stages.get(FIRST)
    parts = {name: stages.get(name, 0.0) if whole is None else None for name in names}
    to_first = sum(encoding.values()) + sum(stages.get(name, 0.0) for name in names) if whole is None else whole
    trace = plain.traces[0]
    return {
        "request": ",".join(request.key for request in batch),
        "preprocess_ms": plain.preprocess_ms,
        "encode_ms": encoding,
        **{f"{name}_ms": ms for name, ms in parts.items()},
        "ttft_ms": to_first,
        "decode_ms_per_token": stages.get("decode", 0.0) / (new_tokens - 1),
        "end_to_end_ms": plain.preprocess_ms + plain.model_ms,
        "instrumented_ms": second.model_ms,
        "flops": {
            **{stage: sum(trace.flops[stage] for trace in plain.traces) for stage in trace.flops},
            "prune": one.prune_flops,
        },
        "tokens": {
            "kept": [trace.final for trace in plain.traces],
            "layer_mean": [sum(trace.llm) / len(trace.llm) for trace in plain.traces],
            "kv_mean": [sum(trace.cache) / len(trace.cache) for trace in plain.traces],
            "reference": trace.reference,
            "target": trace.target,
            "text": trace.text,
        },
    }


def _pruning_flops(session: Session, request: Request, new_tokens: int) -> int:
    """Of one request; each sequence of a batch costs the same again."""
    if session.engine.points == Points():
        return 0
    with FlopMeter(session.device) as meter, session.engine.instrumented(clock=meter):
        run(session, [request], new_tokens)
    return meter.read_flops().get("prune", 0)
