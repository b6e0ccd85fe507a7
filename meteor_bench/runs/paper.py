"""The body of `meteor-bench paper`: tables of what is there, the plan of what is not, and its runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING

from meteor_bench.config.run_config import RunConfig
from meteor_bench.report.paper.numbers import Paper, paper
from meteor_bench.utils.columns import terminal_width
from meteor_bench.utils.progress import detail, say, warn

if TYPE_CHECKING:
    from meteor_bench.report.document import Document
    from meteor_bench.report.paper.layout import Filled
    from meteor_bench.report.paper.run_index import RunIndex
    from meteor_bench.runs.paper_runs import Need

__all__ = ["Request"]

POCKET = "pocket"
REFERENCE = Path("results/reference/pocket")  # the runs that the repository ships


@dataclass(frozen=True)
class Request:
    """What the user asked for.

    Attributes:
        name: of the paper.
        base: where the runs lie and how missing ones are run: folder, limit, device, batch size.
        table: key of one of its tables; None for all.
        model: whose runs; None for the paper's own model where there are runs of it, else the pocket model.
    """

    name: str
    base: RunConfig
    table: str | None = None
    model: str | None = None

    @cached_property
    def paper(self) -> Paper:
        """The paper.

        Raises:
            UnknownNameError: there is none of that name.
        """
        return paper(self.name)

    def document(self) -> Document:
        """The tables with what is there.

        Raises:
            MeteorBenchError: no such paper or table, or a record is broken.
        """
        from meteor_bench.report.paper.document import document

        return document(self.filled())

    def print_plan(self, stream: IO[str]) -> int:
        """Print the missing runs with the time that they will take; the exit status: 1 when one cannot be done."""
        detail("looking which runs are missing")
        from meteor_bench.runs.sweep.command import told
        from meteor_bench.runs.sweep.estimate import plan_runs

        needs = self.missing()
        if not needs:
            stream.write(f"nothing is missing: {self.base.out} holds every run that {self._named} needs here\n")
            return 0
        planned = plan_runs([need.run for need in needs], self.base.out, timed=True)
        for line in told(planned, terminal_width()):
            stream.write(line + "\n")
        return int(any(cell.impossible for cell in planned))

    def run_missing(self) -> int:
        """Do the missing runs; one that fails does not stop the others. The exit status: 1 when one failed."""
        from meteor_bench.runs.sweep.runner import follow, one_after_another
        from meteor_bench.runs.sweep.summary import failures
        from meteor_bench.utils.atomic_io import check_writable

        needs = self.missing()
        if not needs:
            return 0
        check_writable(self.base.out)
        runs = [need.run for need in needs]
        results = follow(f"paper {self._named}", runs, one_after_another(runs, timed=True))
        failed = failures(results)
        for line in failed:
            warn(line)
        if failed:
            warn(f"{len(failed)} of {len(results)} runs failed; the same command tries them again")
        return int(bool(failed))

    def missing(self) -> list[Need]:
        """The runs that would fill the empty cells."""
        from meteor_bench.runs.paper_runs import missing

        return missing(self.filled(), self.base)

    def filled(self) -> list[Filled]:
        """The tables with what is there."""
        from meteor_bench.report.paper.layout import Filled

        named = self.paper  # an unknown name is said before anything is read
        if self.model:
            replace(self.base, model=self.model).validate()
        tables = [named.table(self.table)] if self.table else list(named.tables)
        index = self._shelf()
        model = self.model or self._model(index.models)
        return [Filled(named, table, model, index) for table in tables]

    def _shelf(self) -> RunIndex:
        """The runs of the folder; on a fresh clone, which has none there, the shipped ones."""
        from meteor_bench.report.paper.run_index import RunIndex

        out = self.base.out
        if out == RunConfig().out and not out.exists() and REFERENCE.is_dir():
            say(f"{out} holds no runs; these are of {REFERENCE} (another folder: --out)")
            out = REFERENCE
        return RunIndex.of(out, self.base.limit)

    def _model(self, there: set[str]) -> str:
        """The paper's own model where there are runs of it."""
        likes = [model for table in self.paper.tables for model in table.like]
        by_name = {model.lower(): model for model in there}
        return next((by_name[model] for model in likes if model in by_name), POCKET)

    @property
    def _named(self) -> str:
        return f"{self.paper.name} {self.table}" if self.table else self.paper.name
