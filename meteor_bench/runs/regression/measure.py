"""One cell measured: its answers through lmms-eval, the loss of the unpruned model's, tokens, FLOPs and time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from meteor_bench.config.run_config import Setting
from meteor_bench.core.errors import MeteorBenchError
from meteor_bench.core.version import __version__
from meteor_bench.data.calibration import calibration_requests
from meteor_bench.data.suites import resolve
from meteor_bench.lmms.evaluate import TaskResult, evaluate
from meteor_bench.lmms.inputs import HERE, Inputs
from meteor_bench.lmms.requests import first
from meteor_bench.records.provenance import package_version, processor
from meteor_bench.runs.device import device_name
from meteor_bench.runs.model_cache import ModelCache
from meteor_bench.runs.regression.baseline import CheckConfig, Measured, Ratios
from meteor_bench.runs.regression.timing import Timer, pruning_flops

if TYPE_CHECKING:
    from meteor_bench.core.request import Request

__all__ = ["Subject"]

REPEATS = 4  # of every timed request in a round
ROUNDS = 3  # of a baseline
MOST_ROUNDS = 6  # before a time is believed to be too long
_TIMED = 4  # requests
_LOSSES = 4  # questions of each benchmark
_COUNTS = ("fused", "llm_input", "final", "kv_mean")

Settled = Callable[[Ratios], bool]


class Subject:
    """One setting of a check, its model built.

    Args:
        shared: holds the models.
        unpruned: the subject it is compared with, which has answered; None for the unpruned model itself.
        inputs: where the data are.

    Raises:
        MeteorBenchError: method, model and ratio do not fit.
    """

    def __init__(
        self,
        config: CheckConfig,
        setting: Setting,
        shared: ModelCache,
        unpruned: Subject | None = None,
        inputs: Inputs = HERE,
    ) -> None:
        self.setting = setting
        self._config = config
        self._inputs = inputs
        self._unpruned = unpruned or self
        self._said: dict[str, str] = {}
        try:
            self._session = shared.blueprint(config.run(setting)).session(calibration_requests)
        except MeteorBenchError as error:
            error.args = (f"{setting.label}: {error}",)
            raise

    @property
    def checkpoint(self) -> str:
        """The model variant and a digest of its weights."""
        about = self._session.provenance
        return f"{about['variant']} {about['checkpoint'][:16]}"

    def answer(self) -> list[TaskResult]:
        """All questions through lmms-eval.

        Raises:
            DataError: data are missing or broken.
        """
        with TemporaryDirectory() as folder:
            results = evaluate(
                self._session,
                self._tasks,
                journal=Path(folder) / "answers.jsonl",
                batch_size=self._config.batch_size,
                limit=self._config.limit,
                inputs=self._inputs,
            )
        self._said = {f"{result.task}/{s['doc_id']}": s["raw"] for result in results for s in result.samples}
        return results

    def measure(self, results: Sequence[TaskResult], settled: Settled | None) -> Measured:
        """Everything else, and all of it in the form of the file.

        Args:
            results: what `answer` gave.
            settled: whether these times need no further round; None for a baseline, which always takes the same.
        """
        requests = self._unpruned._requests
        # The first of each benchmark, then the second of each.
        by_rank = sorted(enumerate(requests), key=lambda pair: (pair[0] % self._each, pair[0]))
        timed = [request for _, request in by_rank[:_TIMED]]
        return Measured(
            checkpoint=self.checkpoint,
            exact=bool(self._session.provenance["exact"]),
            right={result.task: _digits([s["score"] for s in result.samples]) for result in results},
            loss=self._losses(requests),
            tokens=_tokens(results),
            flops={**_flops(results), "prune": pruning_flops(self._session, timed[:1])},
            latency=self._latency(timed, settled),
        )

    def environment(self) -> dict[str, str]:
        """What computed: versions and machine."""
        device = device_name(self._session.device)
        names = ("torch", "transformers", "lmms-eval")
        return {
            "meteor-bench": __version__,
            **{name: package_version(name) for name in names},
            "machine": processor() if device == "cpu" else device,
        }

    @property
    def _tasks(self) -> list[str]:
        return [row.task for row in resolve(self._config.suite, self._config.tasks)]

    @cached_property
    def _requests(self) -> list[Request]:
        """Of every benchmark the first few, in the order of the suite."""
        return first(self._session, self._tasks, self._each, self._inputs)

    @property
    def _each(self) -> int:
        """How many of each benchmark."""
        limit = self._config.limit
        return _LOSSES if limit is None else min(_LOSSES, limit)

    def _losses(self, requests: Sequence[Request]) -> dict[str, float]:
        """Benchmark -> mean loss of the unpruned model's answers: whatever a method does to a sequence moves it."""
        said = self._unpruned._said
        asked = [request for request in requests if said[request.key]]
        scored = self._session.loglikelihood(asked, [said[r.key] for r in asked], self._config.batch_size)
        losses: dict[str, list[float]] = {task: [] for task in self._tasks}
        for request, likelihood in zip(asked, scored, strict=True):
            losses[request.key.partition("/")[0]].append(likelihood.loss)
        return {task: round(sum(values) / max(1, len(values)), 4) for task, values in losses.items()}

    def _latency(self, requests: Sequence[Request], settled: Settled | None) -> Ratios:
        if self._unpruned is self:
            return Ratios(0.0, 1.0)
        timer = Timer(self._session, self._unpruned._session, requests)
        ratios = timer.measure(REPEATS)
        for _ in range((MOST_ROUNDS if settled else ROUNDS) - 1):
            if settled and settled(ratios):
                break
            ratios = timer.measure(REPEATS)
        return Ratios(round(ratios.selection, 4), round(ratios.ttft, 4))


def _digits(scores: Sequence[float]) -> str | tuple[float, ...]:
    if set(scores) <= {0.0, 1.0}:
        return "".join(f"{score:.0f}" for score in scores)
    return tuple(round(score, 4) for score in scores)


def _tokens(results: Sequence[TaskResult]) -> dict[str, Any]:
    """Visual tokens by column; numbers that agree are said once."""
    counted = {result.task: [_counts(s["tokens"]) for s in result.samples] for result in results}
    columns = next(iter(counted.values()))[0]
    return {
        column: _said_once({task: _said_once([c[column] for c in counts]) for task, counts in counted.items()})
        for column in columns
    }


def _counts(tokens: Mapping[str, Any]) -> dict[str, float]:
    towers = {f"encoder {name}": count for name, count in tokens["towers"].items()}
    return towers | {name: round(tokens[name], 4) for name in _COUNTS}


def _said_once(values: Any) -> Any:
    """A table or list whose values are all the same plain number, as that number."""
    listed = list(values.values() if isinstance(values, Mapping) else values)
    same = not isinstance(listed[0], list) and all(value == listed[0] for value in listed)
    return listed[0] if same else values


def _flops(results: Sequence[TaskResult]) -> dict[str, int]:
    """Sums by stage without decoding, which depends on the length of the answers."""
    sums: dict[str, int] = {}
    for sample in (s for result in results for s in result.samples):
        for name, value in sample["flops"].items():
            stage = name.partition(".")[0]
            if stage != "decode":
                sums[stage] = sums.get(stage, 0) + int(value)
    return sums
