"""The body of `meteor-bench choose`: the plan, the rounds, the table, the recommendation."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import IO

import yaml

from meteor_bench.config.choose_config import ChooseConfig
from meteor_bench.core.errors import ConfigError
from meteor_bench.report.formats import terminal
from meteor_bench.report.standing import Standing, table
from meteor_bench.runs.choose.goal import Goal
from meteor_bench.runs.choose.halving import FINALISTS, Found, search, sizes
from meteor_bench.runs.choose.measure import Candidate, Measurer, candidates
from meteor_bench.utils.atomic_io import check_writable
from meteor_bench.utils.columns import folded, terminal_width
from meteor_bench.utils.environment import quiet_libraries
from meteor_bench.utils.progress import detail, duration, say

__all__ = ["Choice", "choose", "told"]


@dataclass(frozen=True)
class Choice:
    """What was found, and on how much.

    Attributes:
        asked: questions that candidates were measured on.
        exhaustive: what a sweep of all candidates would have asked.
    """

    goal: Goal
    found: Found[Candidate]
    failed: dict[Candidate, str]
    asked: int
    exhaustive: int


def choose(config: ChooseConfig, *, dry_run: bool = False, stream: IO[str] | None = None) -> int:
    """Choose, or say what that would take.

    Args:
        stream: where the table goes; None for standard output.

    Returns:
        Exit status: 1 where nothing qualifies, or a candidate failed.

    Raises:
        MeteorBenchError: a wrong setting, or nothing can be run.
        KeyboardInterrupt: passed on; what was answered is kept and the same choice goes on from there.
    """
    stream = stream or sys.stdout
    quiet_libraries()
    check_writable(config.out)
    detail("loading libraries and weights")
    goal = Goal.of(config)
    measurer = Measurer(config, goal.timed)
    first = sizes(measurer.questions)[0]
    ratios: Sequence[float] = config.ratios
    if config.tokens is not None:
        ratios = (measurer.ratio_of(config.tokens, first),)
    possible = _planned(measurer, candidates(config, ratios))
    if dry_run:
        return 0
    found = search(possible, measurer.questions, goal, measurer.measure)
    exhaustive = len(possible) * measurer.total(measurer.questions)
    choice = Choice(goal, found, measurer.failed, measurer.asked, exhaustive)
    return told(choice, config, stream)


def _planned(measurer: Measurer, every: Sequence[Candidate]) -> list[Candidate]:
    """Those that can be run; says how long the rounds will take."""
    steps = sizes(measurer.questions)
    plan = measurer.plan(every, steps[0])
    possible = [one for one in every if not plan[one].impossible]
    for one in every:
        if plan[one].impossible:
            say(f"left out: {one.method} at {one.ratio:g}: {plan[one].state}")
    if not possible:
        raise ConfigError("no candidate can be run on this model; name others with --method and --ratios")
    opening = sum(plan[one].seconds for one in possible)
    whole, alive = opening, len(possible)
    for before, size in pairwise(steps):
        # An upper bound: half go on, and each answers what it has not answered yet.
        alive = max(min(alive, FINALISTS), -(-alive // 2))
        more = (measurer.total(size) - measurer.total(before)) / measurer.total(steps[0])
        whole += opening / len(possible) * alive * more
    rounds = ", ".join(map(str, steps))
    say(
        f"{len(possible)} candidates; questions of each benchmark by round: {rounds}; "
        f"about {duration(opening)} for the first round, about {duration(whole)} in all"
    )
    return possible


def told(choice: Choice, config: ChooseConfig, stream: IO[str]) -> int:
    """Print the table and the recommendation; the exit status."""
    goal, found = choice.goal, choice.found
    chosen = found.whole[found.chosen] if found.chosen is not None else None
    if found.whole or found.left:
        terminal([table(list(found.whole.values()), list(found.left.values()), chosen)], stream)
    lines = []
    every = list(found.whole.values()) or list(found.left.values())
    if chosen is not None:
        lines.append(f"recommended: {chosen.title}: {goal.told(chosen)}")
        lines.append(
            "The interval is that of this candidate alone; it is not widened for the choice among "
            f"{len(found.whole) + len(found.left)}."
        )
    elif every:
        nearest = goal.nearest(every)
        lines.append(f"nothing qualifies; the nearest is {nearest.title}: {goal.told(nearest)}")
    lines.append(
        f"Measured on {choice.asked} answers; all candidates on all questions would be {choice.exhaustive}. "
        f"The runs are in {config.out}."
    )
    for line in lines:
        stream.writelines(part + "\n" for part in folded(line, terminal_width()))
    if chosen is not None:
        stream.write(f"\n{command(config, chosen)}\n\n{settings(config, chosen)}")
    for one, reason in choice.failed.items():
        say(f"failed: {one.method} at {one.ratio:g}: {reason}")
    return 1 if choice.failed or chosen is None else 0


def command(config: ChooseConfig, chosen: Standing) -> str:
    """The run of the recommendation, as a command."""
    given = ["meteor-bench", "run"]
    for name, value in _settings(config, chosen).items():
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        given += [f"--{name.replace('_', '-')}", *([] if value is True else [text])]
    return shlex.join(given)


def settings(config: ChooseConfig, chosen: Standing) -> str:
    """The same as a YAML file for ``run --config``."""
    return yaml.safe_dump(_settings(config, chosen), sort_keys=False)


def _settings(config: ChooseConfig, chosen: Standing) -> dict[str, object]:
    """What differs from the defaults of `run`, by the names of `RunConfig`."""
    from meteor_bench.config.run_config import RunConfig

    asked: dict[str, object] = {"model": config.model, "method": chosen.method, "ratio": chosen.ratio}
    asked |= {"tasks": list(config.tasks)} if config.tasks else {"suite": config.suite}
    plain = RunConfig()
    for name in ("source", "limit", "batch_size", "deterministic", "device", "dtype", "seed", "frames"):
        if getattr(config, name) != getattr(plain, name):
            asked[name] = getattr(config, name)
    for name in ("data_root", "out"):
        if getattr(config, name) != getattr(plain, name):
            asked[name] = str(getattr(config, name))
    return asked
