"""Picking of tokens."""

from __future__ import annotations

import torch

from meteor_bench.core.pick import pick
from tests.core.batches import batch


def test_pick_of_whole_rows_is_lossless() -> None:
    tokens = batch()
    out = pick(tokens, tokens.valid)
    assert torch.equal(out.x, tokens.x) and not out.padded
