"""Peak memory of a part of a process's life."""

from __future__ import annotations

import numpy as np
import torch

from meteor_bench.utils.peak_memory import Peak

MIB = 2**20


def test_only_what_came_after_the_start_counts() -> None:
    cpu = torch.device("cpu")
    resting = Peak(cpu).bytes()
    np.ones(256 * MIB, dtype=np.uint8)  # written and freed
    assert Peak(cpu).bytes() < resting + 128 * MIB
    peak = Peak(cpu)
    np.ones(256 * MIB, dtype=np.uint8)
    assert 250 * MIB < peak.bytes() - resting < 400 * MIB
