"""Candidates as runs: which there are, what they will take, and their standings on so many questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import NamedTuple

from meteor_bench.config.choose_config import GOALS, ChooseConfig
from meteor_bench.config.run_config import RunConfig
from meteor_bench.core.errors import ConfigError, MeteorBenchError, PluginError
from meteor_bench.core.registry import METHODS
from meteor_bench.data import suites
from meteor_bench.data.lookalike import counted
from meteor_bench.records.reader import read_run
from meteor_bench.report.runs import what
from meteor_bench.report.standing import Standing, standings
from meteor_bench.runs.choose.carry import carry
from meteor_bench.runs.job import prepare
from meteor_bench.runs.model_cache import ModelCache
from meteor_bench.runs.sweep.estimate import Planned, plan_runs
from meteor_bench.runs.sweep.runner import follow, one_after_another
from meteor_bench.runs.sweep.task import Result

__all__ = ["Candidate", "Measurer", "candidates", "exact_and_untrained"]

# What a choice and its runs have alike; a goal is none of it, whatever it is called.
_SHARED = tuple({f.name for f in fields(ChooseConfig)} & {f.name for f in fields(RunConfig)} - set(GOALS))


class Candidate(NamedTuple):
    """A method at a ratio."""

    method: str
    ratio: float


def exact_and_untrained() -> list[str]:
    """Methods of the table that need no training and keep their budget exactly on every question."""
    found = []
    for name in METHODS.names():
        try:
            pruner = METHODS.make(name)
        except PluginError:
            continue  # somebody's that cannot be imported is no candidate; `doctor` names it
        if name != "none" and pruner.exact and not pruner.fact.trained:
            found.append(name)
    return found


def candidates(config: ChooseConfig, ratios: Sequence[float]) -> list[Candidate]:
    """Every method at every ratio."""
    methods = config.methods or exact_and_untrained()
    return [Candidate(method, ratio) for method in dict.fromkeys(methods) for ratio in dict.fromkeys(ratios)]


@dataclass
class Measurer:
    """Runs candidates; keeps what failed.

    Attributes:
        config: what was asked.
        timed: whether they are timed.
        failed: candidates with the reason why they could not be run.
        asked: answers that candidates were measured on; those of a round before count once where they were kept.
    """

    config: ChooseConfig
    timed: bool
    failed: dict[Candidate, str] = field(default_factory=dict)
    asked: int = 0
    _shared: ModelCache = field(default_factory=ModelCache)
    _sizes: list[int] = field(default_factory=list)

    @property
    def questions(self) -> int:
        """Of the largest benchmark."""
        return max(self._counts())

    @property
    def what(self) -> str:
        """What the scores are."""
        return what(row.metric for row in suites.resolve(self.config.suite, self.config.tasks))

    def total(self, size: int) -> int:
        """Questions of all benchmarks, so many of each."""
        return sum(min(size, count) for count in self._counts())

    def _counts(self) -> list[int]:
        limit = self.config.limit
        rows = [counted(row, self.config.data_root) for row in suites.resolve(self.config.suite, self.config.tasks)]
        return [min(row.n, limit or row.n) for row in rows]

    def run(self, candidate: Candidate, size: int) -> RunConfig:
        """A candidate on so many questions of each benchmark; all of them are the run that `sweep` would make."""
        limit = self.config.limit if size >= self.questions else size
        return replace(self._unpruned(limit), method=candidate.method, ratio=candidate.ratio, seed=self.config.seed)

    def _unpruned(self, limit: int | None) -> RunConfig:
        shared = {name: getattr(self.config, name) for name in _SHARED}
        return RunConfig(**{**shared, "limit": limit, "seed": 0})

    def ratio_of(self, tokens: int, size: int) -> float:
        """The ratio that leaves so many tokens, by what the unpruned model reads.

        Raises:
            ConfigError: it reads no more than that.
            MeteorBenchError: it cannot be run.
        """
        (result,) = self._done("unpruned", [self._unpruned(size)])
        if result.path is None:
            raise ConfigError(f"the unpruned model cannot be run: {result.reason}")
        counts = read_run(result.path).tokens
        most = counts.reference.max if counts else 0.0
        if tokens >= most:
            raise ConfigError(f"--tokens {tokens}: the unpruned model reads {most:.0f} visual tokens; name fewer")
        return 1 - tokens / most

    def plan(self, every: Sequence[Candidate], size: int) -> Mapping[Candidate, Planned]:
        """What a round will take, and which candidates the model or the method rules out."""
        runs = [self.run(one, size) for one in every]
        return dict(zip(every, plan_runs(runs, self.config.out, timed=self.timed), strict=True))

    def measure(self, every: Sequence[Candidate], size: int) -> Mapping[Candidate, Standing]:
        """Standings of those that can be run, on so many questions of each benchmark."""
        runs = [self.run(one, size) for one in every]
        carried = self._carry(runs, size)
        results = self._done(f"{size} questions", runs)
        self.asked += len(every) * self.total(size) - carried
        paths = {}
        for one, result in zip(every, results, strict=True):
            if result.path is None or result.reason:
                self.failed[one] = result.reason
            else:
                paths[one] = result.path
        found = standings(list(paths.values())) if paths else {}
        return {one: found[path] for one, path in paths.items() if path in found}

    def _done(self, name: str, runs: Sequence[RunConfig]) -> list[Result]:
        return follow(name, runs, one_after_another(runs, timed=self.timed, shared=self._shared))

    def _carry(self, runs: Sequence[RunConfig], size: int) -> int:
        """Keep the answers of the latest round of each; how many the candidates have so, the unpruned model aside."""
        kept = 0
        for run in (runs[0].unpruned(), *runs):
            for smaller in reversed(self._sizes):  # a candidate that comes back was not in the last one
                try:
                    before, now = prepare(replace(run, limit=smaller), self._shared), prepare(run, self._shared)
                    carried = carry(before.main, now.main)
                except MeteorBenchError:
                    break  # the run itself says so
                if carried:
                    kept += carried if run.method != "none" else 0
                    break
        if size not in self._sizes:
            self._sizes.append(size)
        return kept
