"""One pass of a batch, from its pictures to its last token."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import torch

from meteor_bench.core.errors import UnsupportedError
from meteor_bench.core.request import Request
from meteor_bench.core.trace import SampleTrace
from meteor_bench.engine.engine import Engine
from meteor_bench.engine.generate import finish
from meteor_bench.engine.session import Session
from meteor_bench.engine.static_first import Batch, captured, first

__all__ = ["Inputs", "Pass", "prepare", "run"]


class Inputs(NamedTuple):
    """A batch as the model takes it."""

    batch: Batch
    engine: Engine


class Pass(NamedTuple):
    """What a pass gave, and how long preparing the inputs and the rest of it took."""

    inputs: Inputs
    preprocess_ms: float
    model_ms: float
    traces: list[SampleTrace]


def prepare(session: Session, batch: Sequence[Request]) -> Inputs:
    """Decode, scale, tokenise and move a batch to the device; its budget is that of its first sample."""
    vlm = session.vlm
    looks = [vlm.processor.look(request.media()) for request in batch]
    one = looks[0]
    for request, look in zip(batch, looks, strict=True):
        if look.pixels.shape != one.pixels.shape or look.scene != one.scene:
            raise UnsupportedError(
                f"{batch[0].key} and {request.key} are no batch: their pixels are {tuple(one.pixels.shape)} and "
                f"{tuple(look.pixels.shape)}"
            )
    pixels = torch.stack([look.pixels for look in looks]).to(vlm.device, vlm.dtype)
    prompts = [vlm.processor.prompt(request.question) for request in batch]
    made = Batch(pixels, tuple(request.media_key for request in batch), prompts, one.scene)
    return Inputs(made, session.engine_for(one, prompts[0]))


def run(session: Session, batch: Sequence[Request], new_tokens: int, inputs: Inputs | None = None) -> Pass:
    """One pass; with ``inputs`` given nothing is prepared."""
    device = session.vlm.device
    _wait(device)
    start = time.perf_counter()
    inputs = inputs or prepare(session, batch)
    engine = inputs.engine
    _wait(device)
    ready = time.perf_counter()
    if engine.graphs is None:
        started = first(engine, inputs.batch, new_tokens)
    else:
        started = captured(engine.graphs, engine, inputs.batch, new_tokens)
    generations = finish(engine, started, new_tokens)
    _wait(device)
    end = time.perf_counter()
    return Pass(inputs, (ready - start) * 1e3, (end - ready) * 1e3, [g.trace for g in generations])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
