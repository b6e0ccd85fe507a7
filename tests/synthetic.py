"""Runs made up for the tests: folders as a run would leave them, without any model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from meteor_bench.config.run_config import RunConfig
from meteor_bench.core.registry import METHODS
from meteor_bench.records.provenance import Environment, fingerprint
from meteor_bench.records.run_folder import RunFolder
from meteor_bench.records.schema import SCHEMA, LatencySample, RunRecord, SampleRecord, Spread, TaskRecord
from meteor_bench.records.summary import summarise_tokens

GROUPS = {
    "pocket_scienceqa": "knowledge",
    "pocket_gqa": "general",
    "pocket_pope": "general",
    "pocket_textvqa": "ocr",
    "pocket_videomme": "video",
}
FLOPS = {"encode.a": 1e9, "encode.b": 1e9, "fuse": 1e8, "prune": 1e6, "prefill": 4e9, "decode": 1e8}
ENVIRONMENT = Environment(
    meteor_bench="0.1.0",
    lmms_eval="0.7.3",
    transformers="5.23.0",
    torch="2.15.0",
    python="3.11.7",
    system="Linux 6",
    commit="0" * 40,
    code="c" * 64,
    device="cpu",
    processor="Test CPU",
    threads=1,
    kernel="sdpa",
    dtype="float32",
)


def samples(config: RunConfig, share_right: float = 0.9, n: int = 40) -> list[SampleRecord]:
    """Questions, four to an image; those of one (task, doc_id) are the same in every run."""
    rng = np.random.default_rng([config.seed, int(config.ratio * 1000), len(config.method)])
    final = 256 if config.method == "none" else int(round(1 - config.ratio, 12) * 256 + 0.5)
    result = []
    for task in GROUPS:
        for doc in range(n):
            right = float(rng.random() < share_right)
            tokens = {
                "towers": {"a": 256, "b": 256, "c": 64},
                "fused": final,
                "llm_input": final,
                "final": final,
                "layer_mean": float(final),
                "kv_mean": float(final),
                "text": 11,
                "answer": 2,
                "reference": 256,
                "target": final,
            }
            result.append(
                SampleRecord(
                    task=task,
                    doc_id=doc,
                    media_key=f"{task}/image{doc // 4}",
                    family="colour",
                    question="what colour is the thing at row 2?",
                    target="red",
                    answer="red" if right else "blue",
                    raw="red",
                    score=right,
                    tokens=tokens,
                    latency_ms={"total": 1.0},
                    flops={"prefill": 10**9},
                )
            )
    return result


def times(session: Any, scale: float, n: int = 8) -> list[LatencySample]:
    """Timings that grow from request to request."""
    return [
        LatencySample(
            session=session,
            request=f"pocket_gqa/{i}",
            times={
                "request": f"pocket_gqa/{i}",
                "preprocess_ms": 1.0,
                "encode_ms": {"a": 4.0 + 0.01 * i, "b": 5.0, "c": 1.0},
                "fuse_ms": 0.5,
                "prune_ms": 0.0 if session == "unpruned" else 0.3,
                "prefill_ms": 20.0 * scale + 0.01 * i,
                "ttft_ms": 30.5,
                "decode_ms_per_token": 2.0,
                "end_to_end_ms": 40.0 * scale + 0.01 * i,
                "instrumented_ms": 41.0 * scale,
                "flops": {
                    "encode.a": 1e9,
                    "encode.b": 1e9,
                    "fuse": 1e8,
                    "prune": 1e6,
                    "prefill": 4e9 * scale,
                    "decode": 1e8,
                },
            },
        )
        for i in range(n)
    ]


def record(config: RunConfig, rows: list[SampleRecord], baseline: str | None, **changes: Any) -> RunRecord:
    """The record of those samples."""
    tasks = []
    for task, group in GROUPS.items():
        scores = [s.score for s in rows if s.task == task]
        if not scores:
            continue
        mean = 100 * float(np.mean(scores))
        tasks.append(
            TaskRecord(task, group, "exact_match,none", mean, {}, "exact_match", {}, len(scores), len(scores), "d" * 64)
        )
    values: dict[str, Any] = {
        "schema": SCHEMA,
        "status": "complete",
        "started": "2026-01-02T03:04:05+00:00",
        "finished": "2026-01-02T03:05:05+00:00",
        "fingerprint": key(config),
        "baseline": baseline,
        "config": config,
        "model": "pocket-independent" if config.method == "meteor" else config.model,
        "checkpoint": "w" * 64,
        "parameters": {},
        "positions": "keep",
        "exact": config.method != "meteor",
        "facts": {},
        "environment": ENVIRONMENT,
        "tasks": tuple(tasks),
        "tokens": summarise_tokens(rows, config.ratio),
        "flops": {"prefill": 1e9},
        "seconds": {"answers": 20.0},
    }
    return RunRecord(**{**values, **changes})


def key(config: RunConfig) -> str:
    """A fingerprint that depends on what a test changes."""
    told = ("method", "ratio", "seed", "stages", "parameters", "dtype", "model", "limit")
    return fingerprint({name: getattr(config, name) for name in told})


def write(
    config: RunConfig,
    *,
    share_right: float = 0.9,
    n: int = 40,
    note: str = "",
    rows: list[SampleRecord] | None = None,
    **changes: Any,
) -> Path:
    """A complete run's folder in ``config.run_config.out``, of made-up samples or of those given."""
    rows = rows or [replace(s, notes=(note,) if note else ()) for s in samples(config, share_right, n)]
    baseline = None if config.method == "none" else key(config.unpruned())
    timed = times("run", 1 - config.ratio / 2)
    with RunFolder.open(config, key(config)) as folder:
        folder.write_samples(rows)
        folder.write_latency(timed if baseline is None else [*times("unpruned", 1.0), *timed])
        folder.write(record(config, rows, baseline, **changes))
    return folder.path


def spread(value: float) -> Spread:
    """A count that is the same for all samples."""
    return Spread(value, value, value, 0.0)


def reference(out: Path) -> Mapping[str, Path]:
    """A folder of runs like the committed reference: unpruned, random with three seeds, meteor at two ratios."""
    paths = {"none": write(RunConfig(out=out), share_right=0.95)}
    for seed in range(3):
        paths[f"random{seed}"] = write(RunConfig(method="random", ratio=0.76, seed=seed, out=out), share_right=0.7)
    for ratio in (0.5, 0.76):
        paths[f"meteor{ratio}"] = write(RunConfig(method="meteor", ratio=ratio, out=out), share_right=0.93)
    return paths


def whole(out: Path) -> Path:
    """A folder as large as a whole reference: every method at three ratios, what draws with three seeds."""
    write(RunConfig(out=out), n=6)
    for method in METHODS.names():
        for ratio in (0.5, 0.76, 0.889) if method != "none" else ():
            for seed in range(3 if method == "random" else 1):
                write(RunConfig(method=method, ratio=ratio, seed=seed, out=out), share_right=1 - ratio / 2, n=6)
    return out
