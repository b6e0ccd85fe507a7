"""Latency of single requests: batch 1, nothing shared between samples, several sessions interleaved in one process."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from meteor_bench.core.clock import Clock
from meteor_bench.core.count import FlopMeter
from meteor_bench.core.encode import encode
from meteor_bench.core.fuse import embed_questions, fuse
from meteor_bench.core.generate import answer
from meteor_bench.core.session import Request, Session

__all__ = ["measure"]


@torch.inference_mode()
def measure(
    sessions: Mapping[str, Session],
    requests: Sequence[Request],
    *,
    new_tokens: int = 4,
    warmup: int = 2,
    repeats: int = 1,
    on_step: Callable[[], None] | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """Raw samples per session, one dict per request and repeat.

    Each request is run by every session in turn, first without instrumentation (end to end), then with the stage
    clock. The answer's length is fixed and end tokens are ignored.

    Args:
        new_tokens: tokens to generate, at least 2 so that a time per token exists.

    Returns:
        session -> [{request, preprocess_ms, encode_ms {tower}, fuse_ms, prune_ms, prefill_ms, ttft_ms,
        decode_ms_per_token, end_to_end_ms, instrumented_ms, flops {stage}}]. ttft_ms is encode + fuse + prune +
        prefill; FLOPs are closed forms on the sample's own counts, those of "prune" as torch's counter sees them
        on the first request.
    """
    out: dict[str, list[dict[str, Any]]] = {name: [] for name in sessions}
    pruning = {name: _pruning_flops(session, requests[0], new_tokens) for name, session in sessions.items()}
    for _ in range(warmup):
        for session in sessions.values():
            _once(session, requests[0], new_tokens)
    for _ in range(repeats):
        for request in requests:
            for name, session in sessions.items():
                sample = _sample(session, request, new_tokens)
                sample["flops"]["prune"] = pruning[name]
                out[name].append(sample)
            if on_step is not None:
                on_step()
    return out


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _once(session: Session, request: Request, new_tokens: int) -> tuple[float, float, dict[str, int]]:
    """One pass; (preprocess ms, model ms, FLOPs)."""
    vlm, engine = session.vlm, session.engine
    start = time.perf_counter()
    look = vlm.processor.look(request.media())
    pixels = look.pixels[None].to(vlm.device, vlm.dtype)
    prompt = vlm.processor.prompt(request.question)
    _wait(vlm.device)
    ready = time.perf_counter()
    towered = encode(engine, pixels, [request.media_key], look.scene)
    visual = fuse(engine, towered, text=embed_questions(engine, [prompt]))
    (generation,) = answer(engine, visual, [0], [prompt], new_tokens, ignore_eos=True)
    _wait(vlm.device)
    return (ready - start) * 1e3, (time.perf_counter() - ready) * 1e3, generation.trace.flops


def _sample(session: Session, request: Request, new_tokens: int) -> dict[str, Any]:
    clock = session.engine.clock
    session.engine.clock = Clock(session.device, enabled=False)
    try:
        preprocess, end_to_end, flops = _once(session, request, new_tokens)
        session.engine.clock = timed = Clock(session.device)
        _, instrumented, _ = _once(session, request, new_tokens)
        stages = timed.read_ms()
    finally:
        session.engine.clock = clock
    encode = {name.split(".", 1)[1]: ms for name, ms in stages.items() if name.startswith("encode.")}
    first = sum(encode.values()) + sum(stages.get(name, 0.0) for name in ("fuse", "prune", "prefill"))
    return {
        "request": request.key,
        "preprocess_ms": preprocess,
        "encode_ms": encode,
        "fuse_ms": stages.get("fuse", 0.0),
        "prune_ms": stages.get("prune", 0.0),
        "prefill_ms": stages.get("prefill", 0.0),
        "ttft_ms": first,
        "decode_ms_per_token": stages.get("decode", 0.0) / (new_tokens - 1),
        "end_to_end_ms": preprocess + end_to_end,
        "instrumented_ms": instrumented,
        "flops": dict(flops),
    }


def _pruning_flops(session: Session, request: Request, new_tokens: int) -> int:
    clock = session.engine.clock
    with FlopMeter(session.device) as meter:
        session.engine.clock = meter
        try:
            _once(session, request, new_tokens)
        finally:
            session.engine.clock = clock
    return meter.read_flops().get("prune", 0)
