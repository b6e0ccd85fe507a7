"""A question without a picture: the language model reads its text alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from meteor_bench.core.tokens import Grid, Tokens
from meteor_bench.core.trace import SampleTrace
from meteor_bench.engine.engine import Engine
from meteor_bench.engine.fuse import Visual

__all__ = ["blank"]

NOTE = "no picture: answered from the text alone"


def blank(engine: Engine, keys: Sequence[str]) -> Visual:
    """A visual block of no tokens for each sample; nothing is asked of a method, nothing counts against its budget.

    Args:
        keys: of the samples.
    """
    vlm, rows = engine.vlm, len(keys)
    x = torch.zeros(rows, 0, vlm.decoder.dim, device=vlm.device, dtype=vlm.dtype)
    axes = vlm.decoder.axes
    none = dict.fromkeys(vlm.towers, 0)
    stages = {**{f"encode.{name}": 0 for name in none}, "fuse": 0}
    return Visual(
        tokens=Tokens.dense(x, Grid(0, 0, 0)),
        layout=0,
        shape=engine.layout({}),
        target=torch.zeros(rows, dtype=torch.long),
        keys=tuple(keys),
        traces=[SampleTrace(towers=dict(none), flops=dict(stages), notes=(NOTE,)) for _ in keys],
        table=None if axes == 1 else torch.zeros(0, axes, dtype=torch.long, device=vlm.device),
    )
