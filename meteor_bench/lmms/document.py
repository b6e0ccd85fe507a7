"""One document of a benchmark, as lmms-eval would ask about it and score the answer: for looking at it alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from meteor_bench.core.errors import ConfigError, UnsupportedError
from meteor_bench.core.processing import NO_PICTURE
from meteor_bench.data.lookalike import counted
from meteor_bench.data.suites import Benchmark, benchmark
from meteor_bench.lmms import tasks
from meteor_bench.lmms.harness import Quiet
from meteor_bench.lmms.inputs import HERE, Inputs
from meteor_bench.lmms.media import Broken
from meteor_bench.lmms.scoring import sample_score
from meteor_bench.records.schema import worded

if TYPE_CHECKING:
    from meteor_bench.core.request import Request
    from meteor_bench.engine.session import Session

__all__ = ["Document", "Scored", "find", "parse"]


class Scored(NamedTuple):
    """An answer as it is scored.

    Attributes:
        answer: after the benchmark's filter.
        score: 0 to 1, the document's part in the metric.
    """

    answer: str
    score: float


@dataclass(frozen=True)
class Document:
    """A question with its picture, and what it takes to score an answer.

    Attributes:
        name: "pocket_gqa/12".
        target: the true answer.
        benchmark, task, row: where it comes from, lmms-eval's task and its row of the data.
    """

    name: str
    request: Request
    target: str
    benchmark: Benchmark
    task: Any = field(repr=False)
    row: Any = field(repr=False)

    def score(self, text: str) -> Scored:
        """What an answer is worth."""
        (instance,) = self.task.instances
        instance.resps, instance.filtered_resps = [text], {}
        with Quiet():
            # Not `apply_filters`, which would pair the answer with the first document of the split.
            for ensemble in self.task._filters:
                ensemble.apply([instance], [self.row])
            answer = instance.filtered_resps[self.benchmark.metric.partition(",")[2]]
            results = self.task.process_results(self.row, [answer])
            return Scored(worded(answer), sample_score(self.benchmark, self.task, results))


class Asked(NamedTuple):
    """A benchmark and the number of one of its documents."""

    benchmark: Benchmark
    number: int


def parse(sample: str, root: Path | None = None) -> Asked:
    """The benchmark and document number of "pocket_gqa/12".

    Args:
        root: where its data are, if that is known.

    Raises:
        ConfigError: it is no such name, or there is no such document.
    """
    task, slash, number = sample.partition("/")
    if not slash or not number.isdecimal():
        raise ConfigError(f"a sample is called <benchmark>/<document>, say pocket_gqa/12, not '{sample}'")
    row = counted(benchmark(task), root)
    if int(number) >= row.n:
        raise ConfigError(f"{task} has documents 0 to {row.n - 1}, not {number}")
    return Asked(row, int(number))


def find(sample: str, session: Session, inputs: Inputs = HERE) -> Document:
    """A document by its name.

    Args:
        sample: "pocket_gqa/12".
        session: any; only carries the request's form.
        inputs: where the data are, and how videos are read.

    Raises:
        ConfigError: no such benchmark or document, or nothing says where its data are.
        DataError: the data are missing or corrupted.
        UnsupportedError: the document asks for something other than one answer.
    """
    row, number = parse(sample, inputs.data_root)
    tasks.check(row, inputs)
    index = tasks.index([row])
    from meteor_bench.lmms.plugin import MeteorBench

    model = MeteorBench(session, inputs=inputs)
    with tasks.opened(row, index, inputs) as task:
        with Quiet():
            task.build_all_requests(offset=number, limit=1)
        model.task_dict[row.task] = task.dataset
        if len(task.instances) != 1 or task.instances[0].request_type != "generate_until":
            raise UnsupportedError(
                f"{sample} asks for something other than one generated answer; show draws only those"
            )
        (request,) = model.requests(task.instances)
        if isinstance(request, Broken):
            raise request
    if request.media_key == NO_PICTURE:
        raise UnsupportedError(f"{sample} shows no picture; there is nothing to draw")
    doc = task.task_docs[number]
    return Document(sample, request, worded(task.doc_to_target(doc)), row, task, doc)
