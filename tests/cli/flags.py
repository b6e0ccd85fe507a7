"""Every command as Typer makes it, and what is said for each field of a config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from meteor_bench.cli import app as application

GROUPS = {"list": ("methods", "models", "tasks"), "data": ("fetch", "check")}


ALONE = [name for name in application.COMMANDS if name not in GROUPS]


OF_RUN: dict[str, tuple[list[str], Any]] = {
    "model": (["--model", "pocket-independent"], "pocket-independent"),
    "source": (["--source", "weights"], "weights"),
    "method": (["--method", "fastv"], "fastv"),
    "parameters": (["--param", "layer=3", "--param", "depth=[1, 2]"], {"layer": 3, "depth": [1, 2]}),
    "ratio": (["--ratio", "0.5"], 0.5),
    "match": (["--match", "kv"], "kv"),
    "stages": (["--stages", "decode,encode"], ("decode", "encode")),
    "positions": (["--positions", "renumber"], "renumber"),
    "suite": (["--suite", "ci"], "ci"),
    "tasks": (["--tasks", "pocket_gqa,pocket_pope"], ("pocket_gqa", "pocket_pope")),
    "limit": (["--limit", "2"], 2),
    "batch_size": (["--batch-size", "8"], 8),
    "reuse": (["--no-reuse"], False),
    "deterministic": (["--deterministic"], True),
    "device": (["--device", "cpu"], "cpu"),
    "dtype": (["--dtype", "float32"], "float32"),
    "seed": (["--seed", "7"], 7),
    "data_root": (["--data-root", "."], Path()),
    "frames": (["--frames", "4"], 4),
    "skip_broken": (["--skip-broken"], True),
    "out": (["--out", "there"], Path("there")),
    "baseline": (["--no-baseline"], False),
}


OF_SWEEP = {
    **OF_RUN,
    "methods": (["--methods", "fastv,evoprune+fastv"], ("fastv", "evoprune+fastv")),
    "ratios": (["--ratios", "0.5,0.76"], (0.5, 0.76)),
    "match": (["--match", "kv"], "kv"),
    "models": (["--models", "pocket,pocket-independent"], ("pocket", "pocket-independent")),
    "suites": (["--suite", "ci,pocket"], ("ci", "pocket")),
    "seeds": (["--seeds", "3,4"], (3, 4)),
    "latency": (["--no-latency"], False),
    "engine": (["--engine", "ray"], "ray"),
    "address": (["--address", "there:1"], "there:1"),
    "gpu_share": (["--gpu-share", "0.5"], 0.5),
}


OF_LATENCY = {
    **OF_RUN,
    "methods": (["--methods", "fastv,random"], ("fastv", "random")),
    "ratios": (["--ratio", "0.5,0.25"], (0.5, 0.25)),
    "match": (["--match", "kv"], "kv"),
    "batches": (["--batch", "2,4"], (2, 4)),
    "new_tokens": (["--new-tokens", "3"], 3),
    "passes": (["--passes", "5"], 5),
    "warmup": (["--warmup", "1"], 1),
    "seconds": (["--seconds", "9.5"], 9.5),
    "random_weights": (["--random-weights"], True),
    "limit_layers": (["--limit-layers", "2"], 2),
    "pixels": (["--pixels", "96"], 96),
    "selection": (["--selection"], True),
    "count_launches": (["--count-launches"], True),
    "graphs": (["--graphs", "cuda"], "cuda"),
    "tokens": (["--tokens", "64"], 64),
}


def commands() -> dict[str, Any]:
    """Every command as Typer makes it, by what a user types."""
    made = {name: typer.main.get_command(application._module(name).app) for name in application.COMMANDS}
    groups = {f"{name} {one}": made[name].commands[one] for name, ones in GROUPS.items() for one in ones}
    return {name: made[name] for name in ALONE} | groups
