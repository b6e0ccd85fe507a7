"""What every phase shares: a clock that survives a restart, progress lines, checkpoints written whole."""

import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from scripts.pocket.batches import FAMILIES

log = logging.getLogger("pocket")


class Progress:
    """Time in minutes, the learning-rate factor, one line per `every` minutes."""

    def __init__(
        self,
        name: str,
        folder: Path,
        minutes: float,
        every: float = 0.5,
        decay_from: float = 0.55,
        families: Sequence[str] = FAMILIES,
    ) -> None:
        self.name, self.path = name, folder / f"{name}.pt"
        self.minutes, self.every, self.decay_from = minutes, every, decay_from
        self.before, self.start, self.step, self.samples = 0.0, time.monotonic(), 0, 0
        self.last_line, self.last_save = 0.0, 0.0
        self.sums: dict[str, list[float]] = {}
        self.families, self.right, self.asked = families, np.zeros(len(families)), np.zeros(len(families))

    @property
    def elapsed(self) -> float:
        return self.before + (time.monotonic() - self.start) / 60

    @property
    def fraction(self) -> float:
        return min(self.elapsed / self.minutes, 1.0)

    @property
    def goes_on(self) -> bool:
        """Whether time is left, or no step was taken yet: a phase takes one however long making the model took."""
        return self.fraction < 1 or not self.step

    @property
    def factor(self) -> float:
        warm = min(1.0, (self.step + 1) / 60)
        if self.fraction < self.decay_from:
            return warm
        return warm * max(0.02, (1 - self.fraction) / (1 - self.decay_from))

    def resume(self) -> dict | None:
        if not self.path.exists():
            return None
        saved = torch.load(self.path, weights_only=True)
        self.before, self.step, self.samples = saved["minutes"], saved["step"], saved["samples"]
        return saved

    def count(
        self, samples: int, families: np.ndarray | None = None, right: np.ndarray | None = None, **values: float
    ) -> None:
        self.step += 1
        self.samples += samples
        for key, value in values.items():
            self.sums.setdefault(key, []).append(value)
        if families is not None:
            np.add.at(self.right, families, right)
            np.add.at(self.asked, families, 1)

    def line(self) -> None:
        if self.elapsed - self.last_line < self.every and self.fraction < 1:
            return
        self.last_line = self.elapsed
        means = " ".join(f"{key} {np.mean(values):.3f}" for key, values in self.sums.items())
        scores = {f: round(r / n, 2) for f, r, n in zip(self.families, self.right, self.asked, strict=True) if n}
        mean = f" mean {np.mean(list(scores.values())):.3f}" if scores else ""
        rate = self.samples / max(self.elapsed * 60, 1)
        eta = max(self.minutes - self.elapsed, 0)
        clock = f"{self.elapsed:.1f}/{self.minutes:g} min (eta {eta:.1f}) step {self.step} {rate:.0f}/s"
        log.info("%s %s %s%s %s", self.name, clock, means, mean, json.dumps(scores) if scores else "")
        self.sums.clear()
        self.right[:] = self.asked[:] = 0

    def save(self, state: dict, every: float = 2.0) -> None:
        if self.elapsed - self.last_save < every and self.fraction < 1:
            return
        self.last_save = self.elapsed
        save_whole({**state, "minutes": self.elapsed, "step": self.step, "samples": self.samples}, self.path)


def save_whole(state: dict, path: Path) -> None:
    """A killed run leaves the previous file, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    torch.save(state, part)
    part.replace(path)
