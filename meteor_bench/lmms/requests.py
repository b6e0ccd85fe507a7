"""Requests of benchmarks, as lmms-eval would ask them, for runs that are not scored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from meteor_bench.lmms.harness import Quiet, task_manager
from meteor_bench.suites import tasks_dir

if TYPE_CHECKING:
    from meteor_bench.core.session import Request, Session

__all__ = ["first", "spread"]


def first(session: Session, tasks: Sequence[str], limit: int) -> list[Request]:
    """The requests of each benchmark's first ``limit`` documents, in order; arguments and errors as for `spread`."""
    index = task_manager((tasks_dir(),))
    return [request for name in tasks for request in _requests(session, index, name, limit)]


def spread(session: Session, tasks: Sequence[str], count: int) -> list[Request]:
    """``count`` requests, as equally many of each benchmark as possible, on as many images as possible.

    Args:
        session: any; only carries the requests' form.
        tasks: names in the benchmark table.

    Raises:
        DataError: the data are missing or corrupted.
    """
    index = task_manager((tasks_dir(),))
    chosen: list[Request] = []
    for at, name in enumerate(tasks):
        share = count // len(tasks) + (at < count % len(tasks))
        if not share:
            continue
        by_image = {r.media_key: r for r in reversed(_requests(session, index, name))}
        images = list(by_image.values())[::-1]
        step = max(1, len(images) // share)
        chosen.extend(images[::step][:share])
    return chosen


def _requests(session: Session, index: Any, name: str, limit: int | None = None) -> list[Request]:
    """The requests of a benchmark, or of its first documents."""
    from lmms_eval.tasks import get_task_dict

    from meteor_bench.lmms.plugin import MeteorBench

    model = MeteorBench(session)
    with Quiet():
        (task,) = get_task_dict([name], index, "simple").values()
        task.build_all_requests(limit=limit)
        model.task_dict[name] = task.dataset
        return list(model.requests(task.instances))
