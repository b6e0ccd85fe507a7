"""A few requests from each benchmark, as lmms-eval would ask them: what a latency run is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from meteor_bench.lmms.harness import Quiet, task_manager
from meteor_bench.suites import tasks_dir

if TYPE_CHECKING:
    from meteor_bench.core.session import Request, Session

__all__ = ["spread"]


def spread(session: Session, tasks: Sequence[str], count: int) -> list[Request]:
    """``count`` requests, as equally many of each benchmark as possible, on as many images as possible.

    Args:
        session: any; only carries the requests' form.
        tasks: names in the benchmark table.

    Raises:
        DataError: the data are missing or corrupted.
    """
    index = task_manager((tasks_dir(),))
    from lmms_eval.tasks import get_task_dict

    from meteor_bench.lmms.plugin import MeteorBench

    model = MeteorBench(session)
    chosen: list[Request] = []
    for at, name in enumerate(tasks):
        share = count // len(tasks) + (at < count % len(tasks))
        if not share:
            continue
        with Quiet():
            (task,) = get_task_dict([name], index, "simple").values()
            task.build_all_requests()
            model.task_dict[name] = task.dataset
            requests = list(model.requests(task.instances))
        by_image = {r.media_key: r for r in reversed(requests)}
        images = list(by_image.values())[::-1]
        step = max(1, len(images) // share)
        chosen.extend(images[::step][:share])
    return chosen
