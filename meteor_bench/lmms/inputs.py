"""Where lmms-eval's own tasks find their data, and how videos are read: settings that all who ask questions share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from meteor_bench.data import manifest, own_questions
from meteor_bench.data.suites import Benchmark

if TYPE_CHECKING:
    from meteor_bench.config.run_config import RunConfig

__all__ = ["HERE", "Inputs"]


@dataclass(frozen=True)
class Inputs:
    """Fields of `RunConfig` by the same names.

    Attributes:
        data_root: folder that holds the hub's data sets as <org>/<repository>, None for none.
        frames: of every video; None for as many as the model's processor says.
        skip_broken: go on without documents whose pictures cannot be read.
    """

    data_root: Path | None = None
    frames: int | None = None
    skip_broken: bool = False

    @classmethod
    def of(cls, config: RunConfig) -> Inputs:
        """Those of a run."""
        return cls(config.data_root, config.frames, config.skip_broken)

    def remedy(self, row: Benchmark | None) -> str:
        """What to do where a benchmark's data are damaged; None for a task that is in no table."""
        if row is not None and row.dataset == own_questions.DATASET:
            return "mend the file or take it away"
        if row is None or not row.stock or self.data_root is None:
            return "fetch the data again"
        return f"fetch {row.dataset} again: {manifest.command(self.data_root, [row.task])}"

    @property
    def otherwise(self) -> str:
        """What else can be done about a picture that cannot be read; nothing is where it is skipped already."""
        return "" if self.skip_broken else ", or give --skip-broken"


HERE = Inputs()
"""Our own benchmarks need none."""
