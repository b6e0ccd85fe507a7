"""Cells as a run would leave them, without any model."""

from __future__ import annotations

from typing import Any

from meteor_bench.records.provenance import Environment
from meteor_bench.runs.latency.records import EAGER, SCHEMA, UNPRUNED, Cell, Row

ENVIRONMENT = Environment(
    meteor_bench="0",
    lmms_eval="0",
    transformers="5",
    torch="2",
    python="3",
    system="Linux",
    commit=None,
    code="c",
    device="cpu",
    processor="A processor",
    threads=2,
    kernel="k",
    dtype="float32",
)


def sample(scale: float, kept: list[int], gflops: float = 10.0, jitter: float = 0.0) -> dict[str, Any]:
    """A pass of 8 tokens whose stages take 20 + 10, 5, 1, 40 and 7 x 2 ms times ``scale``, and 3 ms before."""
    s = scale * (1 + jitter)
    return {
        "request": "a,b",
        "preprocess_ms": 3.0,
        "encode_ms": {"clip": 20 * s, "conv": 10 * s},
        "fuse_ms": 5 * s,
        "prune_ms": 1 * s,
        "prefill_ms": 40 * s,
        "ttft_ms": 76 * s,
        "decode_ms_per_token": 2 * s,
        "end_to_end_ms": 3 + 90 * s,
        "instrumented_ms": 99 * s,
        "flops": {
            "encode.clip": int(2e9 * gflops),
            "encode.conv": int(1e9 * gflops),
            "fuse": 0,
            "prefill": int(5e9 * gflops),
            "decode": int(1e9 * gflops),
            "prune": 0,
        },
        "tokens": {"kept": kept, "reference": 100, "target": 24, "text": 9},
    }


def cell(ratio: float = 0.76, batch: int = 2, **more: Any) -> Cell:
    """Unpruned, eager (twice as slow), a method twice as fast with half the work, one without samples."""
    rows = (
        Row(UNPRUNED, {}, "m", memory_bytes=2**21, samples=tuple(sample(1, [100, 100]) for _ in range(4))),
        Row(EAGER, {}, "m", memory_bytes=None, samples=tuple(sample(2, [100, 100]) for _ in range(4))),
        Row(
            "adaptive",
            {"layer": 3},
            "m-variant",
            exact=False,
            facts={"lambda": 0.5},
            memory_bytes=2**20,
            samples=tuple(sample(0.5, [20 + i, 26], 5.0, jitter=i) for i in range(4)),
        ),
        Row("impossible", failure="needs what is not there"),
    )
    settings: dict[str, Any] = {
        "schema": SCHEMA,
        "fingerprint": "f",
        "model": "m",
        "random_weights": True,
        "pictures": "noise",
        "ratio": ratio,
        "batch": batch,
        "frames": 1,
        "new_tokens": 8,
        "warmup": 3,
        "seed": 0,
        "environment": ENVIRONMENT,
        "weight_bytes": 2**24,
        "state": {
            "before": {"load": [0.5, 1.0, 1.0], "cpus": 2, "cpu_mhz": [2600.0, 2600.0]},
            "after": {"load": [2.5, 1.0, 1.0], "cpus": 2, "cpu_mhz": [2400.0, 2400.0]},
        },
        "cpu_share": 1.5,
        "started": "2026-01-01T00:00:00+00:00",
        "seconds": 10.0,
        "rows": rows,
    }
    return Cell(**(settings | more))
