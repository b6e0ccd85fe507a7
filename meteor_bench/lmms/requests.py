"""Requests of benchmarks, as lmms-eval would ask them, for runs that are not scored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from meteor_bench.core.errors import MediaError
from meteor_bench.core.processing import NO_PICTURE
from meteor_bench.data.suites import benchmark
from meteor_bench.lmms import tasks as known
from meteor_bench.lmms.harness import Quiet
from meteor_bench.lmms.inputs import HERE, Inputs
from meteor_bench.lmms.media import Broken

if TYPE_CHECKING:
    from meteor_bench.core.request import Request
    from meteor_bench.engine.session import Session

__all__ = ["first", "spread"]

SAMPLED = 500  # first documents of a benchmark among which `spread` chooses; our own benchmarks have no more


def first(session: Session, tasks: Sequence[str], limit: int, inputs: Inputs = HERE) -> list[Request]:
    """The requests of each benchmark's first ``limit`` documents, in order; arguments and errors as for `spread`."""
    index = known.index([benchmark(name) for name in tasks])
    return [r for name in tasks for r in _readable(_requests(session, index, name, inputs, limit), inputs, session)]


def spread(session: Session, tasks: Sequence[str], count: int, inputs: Inputs = HERE) -> list[Request]:
    """``count`` requests, as equally many of each benchmark as possible, on as many images as possible.

    Args:
        session: any; only carries the requests' form.
        tasks: names in the benchmark table.
        inputs: where the data are, and how videos are read.

    Raises:
        DataError: the data are missing or corrupted.
    """
    index = known.index([benchmark(name) for name in tasks])
    chosen: list[Request] = []
    for at, name in enumerate(tasks):
        share = count // len(tasks) + (at < count % len(tasks))
        if not share:
            continue
        by_image = {r.media_key: r for r in reversed(_requests(session, index, name, inputs, SAMPLED))}
        images = list(by_image.values())[::-1]
        step = max(1, len(images) // share)
        first_choice = images[::step]
        taken = {r.media_key for r in first_choice}
        ordered = first_choice + [r for r in images if r.media_key not in taken]
        chosen.extend(islice(_readable(ordered, inputs, session), share))
    return chosen


def _readable(requests: Iterable[Request], inputs: Inputs, session: Session) -> Iterator[Request]:
    """Without those whose media are broken or nothing for the model, and may be: known only when they are decoded."""
    known: dict[str, bool] = {}
    for request in requests:
        if inputs.skip_broken and request.media_key not in known:
            known[request.media_key] = _can_be_taken(request, session)
        if known.get(request.media_key, True):
            yield request


def _can_be_taken(request: Request, session: Session) -> bool:
    try:
        session.look(request)
    except MediaError:
        return False
    return True


def _requests(session: Session, index: Any, name: str, inputs: Inputs, limit: int) -> list[Request]:
    """The requests of a benchmark's first documents, without those that show nothing or have no media and may."""
    from meteor_bench.lmms.plugin import MeteorBench

    model = MeteorBench(session, inputs=inputs)
    with known.opened(benchmark(name), index, inputs) as task, Quiet():
        task.build_all_requests(limit=limit)
        model.task_dict[name] = task.dataset
        made = [request for request in model.requests(task.instances) if not isinstance(request, Broken)]
        return [request for request in made if request.media_key != NO_PICTURE]
