"""A sweep's cells as tasks of a Ray cluster, a local one unless an address is given.

Each cell is a task with its share of a GPU; one whose worker dies is started again, and goes on from its journal. All
nodes must see the results folder. Nobody is told of it: no usage statistics, no dashboard.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from meteor_bench.config.run_config import RunConfig
from meteor_bench.config.sweep_config import SweepConfig
from meteor_bench.core.errors import ConfigError
from meteor_bench.runs.model_cache import ModelCache
from meteor_bench.runs.sweep.task import Result, attempt
from meteor_bench.utils.progress import say

__all__ = ["load_ray", "on_ray"]

RETRIES = 3


def load_ray() -> Any:
    """The library, with its telemetry switched off.

    Raises:
        ConfigError: it is not installed.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray
    except ImportError:
        raise ConfigError("engine ray needs the extra 'ray': pip install 'meteor-bench[ray]'") from None
    return ray


def on_ray(config: SweepConfig, runs: Sequence[RunConfig]) -> Iterator[Result]:
    """The unpruned cells, then the others, each as its worker ends it.

    Raises:
        ConfigError: Ray is not installed, no cluster is at the address, or the device names a single GPU.
    """
    ray = load_ray()
    if config.device.startswith("cuda:"):
        raise ConfigError(f"device '{config.device}': Ray gives each cell its GPU; say cuda")
    _connect(ray, config.address)
    try:
        gpus = config.gpu_share if _wants_gpu(ray, config.device) else 0
        task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=RETRIES)(_work)
        if config.latency:
            say("latency: cells run side by side and slow each other down; --no-latency leaves it out")
        # The others find the unpruned records.
        for wave in (True, False):
            waiting = {
                task.remote(run, str(Path.cwd()), timed=config.latency): run
                for run in runs
                if (run.method == "none") is wave
            }
            while waiting:
                (done,), _ = ray.wait(list(waiting), num_returns=1)
                yield _result(ray, done, waiting.pop(done))
    finally:
        ray.shutdown()


def _connect(ray: Any, address: str | None) -> None:
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    here = {"include_dashboard": False} if address == "local" else {}
    try:
        # Ray itself would try for many minutes.
        if place := re.fullmatch(r"(?:ray://)?([^/:]+|\[.+\]):(\d+)", address):
            socket.create_connection((place[1].strip("[]"), int(place[2])), timeout=10).close()
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **here)
    except (OSError, RuntimeError) as error:
        raise ConfigError(f"no Ray cluster at '{address}': {' '.join(str(error).split())}") from None


def _wants_gpu(ray: Any, device: str) -> bool:
    return device == "cuda" or (device == "auto" and ray.cluster_resources().get("GPU", 0) > 0)


def _work(run: RunConfig, folder: str, *, timed: bool) -> Result:
    """A cell, in a worker: in the folder that the sweep was started in, so that paths mean the same."""
    os.chdir(folder)
    return attempt(run, _shared(), timed=timed)


@cache
def _shared() -> ModelCache:
    """What the cells of one worker share."""
    return ModelCache()


def _result(ray: Any, done: Any, run: RunConfig) -> Result:
    try:
        result: Result = ray.get(done)
    except ray.exceptions.RayError as error:
        return Result(run, None, f"its worker died {RETRIES + 1} times: {str(error).splitlines()[0]}")
    return result
