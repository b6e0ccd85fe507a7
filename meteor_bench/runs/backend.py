"""What a job asks of models, of lmms-eval and of the clock: the seam at which a job can be given something else.

`FakeBackend` (`runs.fake_backend`) stands for all three, for tests of whatever is built on jobs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from meteor_bench.config.run_config import RunConfig
from meteor_bench.records.schema import SESSIONS, LatencySample
from meteor_bench.utils.progress import track

if TYPE_CHECKING:
    from meteor_bench.core.request import Request
    from meteor_bench.engine.factory import Blueprint
    from meteor_bench.engine.load_model import Loader
    from meteor_bench.engine.session import Session
    from meteor_bench.lmms.evaluate import TaskResult
    from meteor_bench.lmms.inputs import Inputs

__all__ = ["Backend"]


class Backend:
    """The engine, lmms-eval, and this machine's clock."""

    def load(self) -> None:
        """Import what is slow to import, before any progress bar is shown."""
        from meteor_bench.lmms.harness import load_evaluator

        load_evaluator()

    def blueprint(self, config: RunConfig, load: Loader) -> Blueprint:
        """A model under a method.

        Args:
            load: gives the model, perhaps one that was loaded before.

        Raises:
            MeteorBenchError: the checkpoint is broken, or a name is unknown.
        """
        from meteor_bench.engine.factory import blueprint

        return blueprint(config, load)

    def evaluate(
        self,
        session: Session,
        tasks: Sequence[str],
        *,
        config: RunConfig,
        journal: Path,
        fingerprint: str,
        on_progress: Callable[[str, int, int], None],
    ) -> list[TaskResult]:
        """Answers to all questions of some benchmarks, those excepted that the journal holds, and their scores.

        Args:
            on_progress: called with the benchmark, the answers that are known and the answers wanted.

        Raises:
            MeteorBenchError: data or method do not work.
        """
        from meteor_bench.lmms.evaluate import evaluate
        from meteor_bench.lmms.inputs import Inputs

        return evaluate(
            session,
            tasks,
            journal=journal,
            batch_size=config.batch_size,
            fingerprint=fingerprint,
            limit=config.limit,
            on_progress=on_progress,
            inputs=Inputs.of(config),
            reuse=config.reuse,
            deterministic=config.deterministic,
        )

    def requests(self, session: Session, tasks: tuple[str, ...], count: int, inputs: Inputs) -> list[Request]:
        """A few requests from each benchmark (`lmms.requests.spread`)."""
        from meteor_bench.lmms.requests import spread

        return spread(session, tasks, count, inputs)

    def time(self, sessions: Mapping[str, Session], requests: Sequence[Request]) -> list[LatencySample]:
        """Sessions in turn, request by request, so that a machine's moods hit all of them."""
        from meteor_bench.runs.latency.interleave import measure

        done = 0
        with track("latency", len(requests)) as update:

            def on_step() -> None:
                nonlocal done
                done += 1
                update(done)

            raw = measure(sessions, requests, on_step=on_step)
        return [
            LatencySample(session, times["request"], {k: v for k, v in times.items() if k not in ("request", "tokens")})
            for session in SESSIONS
            for times in (raw[session].samples if session in raw else ())
        ]
