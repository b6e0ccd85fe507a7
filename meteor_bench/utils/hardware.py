"""The state of the machine that something is timed on: memory, clocks, who else is at work."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import torch

__all__ = ["WorkingMemory", "state"]

_GPU = (
    "clocks.sm",
    "clocks.max.sm",
    "clocks.mem",
    "temperature.gpu",
    "power.draw",
    "utilization.gpu",
    "driver_version",
)


class WorkingMemory:
    """The most memory that a block of code allocates beyond what was there before it. A context manager; slows the CPU.

    Attributes:
        peak_bytes: known after the block; None on a device that cannot tell.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.peak_bytes: int | None = None
        self._before = 0
        self._profile: Any = None

    def __enter__(self) -> WorkingMemory:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self._before = torch.cuda.memory_allocated(self.device)
        elif self.device.type == "cpu":
            # The resident size says little: the C library keeps what was freed.
            # Not torch.profiler's own, which first imports all of torch's compiler.
            self._profile = torch.autograd.profiler.profile(profile_memory=True)
            self._profile.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self.device.type == "cuda":
            self.peak_bytes = torch.cuda.max_memory_allocated(self.device) - self._before
        elif self._profile is not None:
            self._profile.__exit__(*error)
            self.peak_bytes = _highest(self._profile)


def _highest(profile: Any) -> int:
    """Highest running sum of a profile's allocations and releases."""
    events = profile.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    held = highest = 0
    for _, change in changes:
        held += change
        highest = max(highest, held)
    return highest


def state(device: torch.device) -> dict[str, Any]:
    """Clocks and neighbours at this moment, as far as they can be known; plain data.

    A GPU: what its driver says, and the processes on it. A CPU: its clock, the machine's load.
    """
    found: dict[str, Any] = {"load": list(os.getloadavg()), "cpus": os.cpu_count(), "cpu_mhz": _cpu_mhz()}
    if device.type == "cuda":
        found |= _gpu(_uuid(device))
    return found


def _cpu_mhz() -> list[float]:
    """The cores' clocks, [] where they are not told."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []  # not Linux
    return [float(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz")]


def _uuid(device: torch.device) -> str:
    """A GPU's name for the driver's tools, which count cards that CUDA_VISIBLE_DEVICES hides from torch."""
    return f"GPU-{str(torch.cuda.get_device_properties(device).uuid).removeprefix('GPU-')}"


def _gpu(card: str) -> dict[str, Any]:
    values = _ask("--query-gpu=" + ",".join(_GPU), card)
    others = _ask("--query-compute-apps=pid,used_memory", card)
    found: dict[str, Any] = dict(zip(_GPU, values[0], strict=False)) if values else {}
    found["other_processes"] = [row for row in others if row[0] != str(os.getpid())]
    return found


def _ask(query: str, card: str) -> list[list[str]]:
    """Rows of an answer of NVIDIA's tool, [] where it is missing."""
    command = ["nvidia-smi", query, "--format=csv,noheader", f"--id={card}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return []
    return [[part.strip() for part in line.split(",")] for line in done.stdout.splitlines() if line.strip()]
