"""What each rank does: answer the documents that lmms-eval deals out to it, and hand the answers to the first."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

from meteor_bench.core.errors import ConfigError
from meteor_bench.lmms import tasks
from meteor_bench.lmms.harness import Quiet
from meteor_bench.lmms.inputs import Inputs
from meteor_bench.lmms.journal import Journal
from meteor_bench.runs.distributed import journals

if TYPE_CHECKING:
    from meteor_bench.core.request import Answer, Request
    from meteor_bench.runs.distributed.process_group import Ranks
    from meteor_bench.runs.single_run import SingleRun

__all__ = ["answer_opened", "answer_share", "answer_with_all", "leave_out", "open_for_all"]


class _Known:
    """A journal to add to, and one that is only read, as a single one."""

    def __init__(self, own: Journal, merged: Journal) -> None:
        self._own, self._merged = own, merged

    def get(self, request: Request) -> Answer | None:
        return self._own.get(request) or self._merged.get(request)

    def add(self, request: Request, answer: Answer) -> None:
        self._own.add(request, answer)


def answer_opened(part: SingleRun, ranks: Ranks) -> None:
    """Answer this process's share of a run, if the first one opens a folder for it.

    Raises:
        ConfigError: the first process runs something else than this one.
        RankError: another process has failed.
    """
    opened = ranks.hear(f"part {part.title}")
    if opened is None:
        return
    if opened["fingerprint"] != part.fingerprint:
        raise ConfigError(
            "it would not give rank 0's answers: its code, versions, weights, data or kind of device are others"
        )
    answer_share(part, Path(opened["folder"]), ranks, opened["attempt"])


def answer_with_all(ranks: Ranks, part: SingleRun, folder: Path, update: Callable[[int], None]) -> None:
    """Answer a run together with the other processes; called by the first one (`runs.single_run.Share`)."""
    answer_share(part, folder, ranks, open_for_all(part, folder, ranks), update)


def leave_out(part: SingleRun, ranks: Ranks) -> None:
    """Tell the other ranks that nothing is to be done for a part."""
    ranks.tell(f"part {part.title}", None)


def open_for_all(part: SingleRun, folder: Path, ranks: Ranks) -> str:
    """Tell the other ranks to answer their share of a part; the attempt's name, unlike those of earlier ones."""
    attempt = secrets.token_hex(4)
    opened = {"folder": str(folder.resolve()), "fingerprint": part.fingerprint, "attempt": attempt}
    ranks.tell(f"part {part.title}", opened)
    return attempt


def answer_share(
    part: SingleRun, folder: Path, ranks: Ranks, attempt: str, update: Callable[[int], None] = lambda answered: None
) -> None:
    """Answer this rank's documents of a part; afterwards answers.jsonl holds those of all ranks.

    Args:
        folder: the run's; other machines may have one of their own under the same name.
        attempt: `open_for_all`'s.
        update: called with the number of answers that all ranks know.

    Raises:
        RankError: another rank has failed.
        MeteorBenchError: data or method do not work.
    """
    own = folder / f"answers.rank{ranks.rank}-{attempt}.jsonl"
    ranks.count(0)

    def report() -> None:
        update(min(ranks.answered, part.questions))

    with Journal(folder / "answers.jsonl", part.fingerprint) as merged, Journal(own, part.fingerprint) as mine:
        _answer(part, _Known(mine, merged), ranks, attempt, report)
    name = f"answers {attempt}"
    if ranks.first:
        contents = [ranks.receive(name, rank, report) for rank in range(1, ranks.world)]
        journals.append(folder / "answers.jsonl", [own.read_bytes(), *contents])
        ranks.tell(f"merged {attempt}", True)
    else:
        ranks.send(name, journals.whole_lines(own.read_bytes()))
        ranks.hear(f"merged {attempt}")
    own.unlink(missing_ok=True)


def _answer(part: SingleRun, known: _Known, ranks: Ranks, attempt: str, on_answer: Callable[[], None]) -> None:
    """All benchmarks, one after another."""
    from meteor_bench.lmms.plugin import MeteorBench

    done: dict[str, int] = {}

    def on_progress(task: str, answered: int, wanted: int) -> None:
        done[task] = answered
        ranks.count(sum(done.values()))
        on_answer()

    quiet, config = Quiet(), part.config
    model = MeteorBench(
        part.session,
        journal=cast("Journal", known),
        on_progress=on_progress,
        outside=quiet.lifted,
        batch_size=config.batch_size,
        reuse=config.reuse,
        deterministic=config.deterministic,
        inputs=Inputs.of(config),
    )
    index = tasks.index(part.benchmarks)
    for row in part.benchmarks:
        # The first rank loads a data set into the cache; the others find it there.
        if not ranks.first:
            ranks.hear(f"loaded {attempt} {row.task}")
        with tasks.opened(row, index, Inputs.of(config)) as task:
            if ranks.first:
                ranks.tell(f"loaded {attempt} {row.task}", True)
            with quiet:
                task.build_all_requests(limit=config.limit, rank=ranks.rank, world_size=ranks.world)
                model.task_dict[row.task] = task.dataset
                # Others, say likelihoods, are not journalled: the first rank scores them.
                asked = [instance for instance in task.instances if instance.request_type == "generate_until"]
                if asked:
                    model.generate_until(asked)
