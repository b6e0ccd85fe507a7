"""The body of `meteor-bench choose`: the plan, the rounds, the table, the recommendation."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import yaml

from meteor_bench.config.choose_config import ChooseConfig
from meteor_bench.core.errors import ConfigError
from meteor_bench.data import own_pictures, own_questions
from meteor_bench.report.document import Document
from meteor_bench.report.formats import json_rows, json_values
from meteor_bench.report.standing import Standing, table
from meteor_bench.runs.choose.goal import Goal
from meteor_bench.runs.choose.halving import FINALISTS, Found, search, sizes
from meteor_bench.runs.choose.measure import Candidate, Measurer, candidates
from meteor_bench.utils.atomic_io import check_writable
from meteor_bench.utils.columns import folded, terminal_width
from meteor_bench.utils.environment import quiet_libraries
from meteor_bench.utils.progress import duration, say, warn

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Choice", "choose", "told"]


@dataclass(frozen=True)
class Choice:
    """What was found, and on how much.

    Attributes:
        asked: questions that candidates were measured on.
        exhaustive: what a sweep of all candidates would have asked.
        what: the scores are, as `report.runs.Cell.what` says it.
    """

    goal: Goal
    found: Found[Candidate]
    failed: dict[Candidate, str]
    asked: int
    exhaustive: int
    what: str = "Accuracy"


def choose(config: ChooseConfig, write: Callable[[Document], None], *, dry_run: bool = False) -> int:
    """Choose, or say what that would take.

    Args:
        write: prints the table and the recommendation.

    Returns:
        Exit status: 1 where nothing qualifies, or a candidate failed.

    Raises:
        MeteorBenchError: a wrong setting, or nothing can be run.
        KeyboardInterrupt: passed on; what was answered is kept and the same choice goes on from there.
    """
    quiet_libraries()
    check_writable(config.out)
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
    choice = Choice(goal, found, measurer.failed, measurer.asked, exhaustive, measurer.what)
    write(told(choice, config))
    for one, reason in choice.failed.items():
        warn(f"failed: {one.method} at {one.ratio:g}: {reason}")
    return 1 if choice.failed or found.chosen is None else 0


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


def told(choice: Choice, config: ChooseConfig) -> Document:
    """The table and the recommendation; without tables the command alone."""
    goal, found = choice.goal, choice.found
    chosen = found.whole[found.chosen] if found.chosen is not None else None
    whole, left = list(found.whole.values()), list(found.left.values())
    lines = []
    if chosen is not None:
        lines.append(f"recommended: {chosen.title}: {goal.told(chosen)}")
        lines.append(
            "The interval is that of this candidate alone; it is not widened for the choice among "
            f"{len(whole) + len(left)}."
        )
    elif every := whole or left:
        nearest = goal.nearest(every)
        lines.append(f"nothing qualifies; the nearest is {nearest.title}: {goal.told(nearest)}")
        if blurred := goal.blurred(every):
            lines.append(blurred)
    brief = [command(config, chosen)] if chosen is not None else lines[:1]
    lines.append(
        f"Measured on {choice.asked} answers; all candidates on all questions would be {choice.exhaustive}. "
        f"The runs are in {config.out}."
    )
    tail = [part for line in lines for part in folded(line, terminal_width())]
    if chosen is not None:
        tail += ["", *brief, "", *settings(config, chosen).splitlines()]

    def numbers() -> dict[str, pd.DataFrame]:
        import pandas as pd

        rows = [{"title": one.title, **asdict(one), "whole": one in whole} for one in (*whole, *left)]
        return {"candidates": pd.DataFrame(rows)}

    def data() -> dict[str, Any]:
        return {
            "folder": str(config.out),
            "goal": {goal.kind: goal.bound},
            "recommended": None if chosen is None else {"title": chosen.title, **json_values(asdict(chosen))},
            "command": None if chosen is None else brief[0],
            "settings": None if chosen is None else _settings(config, chosen),
            "failed": [{"method": one.method, "ratio": one.ratio, "reason": why} for one, why in choice.failed.items()],
            "answers": choice.asked,
            "answers_of_all": choice.exhaustive,
            "tables": {name: json_rows(frame) for name, frame in numbers().items()},
        }

    tables = [table(whole, left, chosen, choice.what)] if whole or left else []
    return Document(lambda: tables, numbers, ("title",), data, tail=tail, brief=brief)


def command(config: ChooseConfig, chosen: Standing) -> str:
    """The run of the recommendation, as a command."""
    given = ["meteor-bench", "run"]
    for name, value in _settings(config, chosen).items():
        if name == "tasks" and isinstance(value, list) and len(value) == 1 and own_questions.is_file(value[0]):
            given += _own(value[0])
            continue
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        given += [f"--{name.replace('_', '-')}", *([] if value is True else [text])]
    return shlex.join(given)


def _own(name: str) -> list[str]:
    """Flags for somebody's own questions: in --tasks a comma in them would part them."""
    if not own_pictures.is_folder(name):
        return ["--data", name]
    pictures, question = own_pictures.source(name)
    return ["--data", str(pictures), *(["--ask", question] if question != own_pictures.QUESTION else [])]


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
