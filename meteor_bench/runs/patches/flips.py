"""The questions that one of two runs answered better: listed, and drawn with the patches that were kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from meteor_bench.config.run_config import RunConfig
from meteor_bench.core.errors import ConfigError
from meteor_bench.records.reader import read_samples
from meteor_bench.records.schema import SampleRecord
from meteor_bench.report.accuracy import SLACK
from meteor_bench.report.compare import Pair
from meteor_bench.report.runs import Cell
from meteor_bench.report.table import Table
from meteor_bench.utils.atomic_io import check_writable
from meteor_bench.utils.progress import say, track

if TYPE_CHECKING:
    from meteor_bench.engine.session import Session

__all__ = ["Flip", "draw", "flips", "print_flips", "rows", "table"]


@dataclass(frozen=True)
class Flip:
    """A question that both runs answered, to different scores."""

    a: SampleRecord
    b: SampleRecord

    @property
    def name(self) -> str:
        """The sample's name, "pocket_gqa/12", as `meteor-bench show` takes it."""
        return f"{self.a.task}/{self.a.doc_id}"

    @property
    def gained(self) -> bool:
        """Whether B answered it better."""
        return self.b.score > self.a.score

    def picture(self, folder: Path) -> Path:
        """Where `draw` puts its picture."""
        return folder / f"{self.name.replace('/', '-')}.png"


def flips(compared: Pair) -> list[Flip]:
    """In the order of the benchmarks and their documents.

    Raises:
        ConfigError: a side is the mean over several seeds, which gave several answers.
        RecordError: samples are missing or broken.
    """
    sides = []
    for cell, name in ((compared.a, compared.a_name), (compared.b, compared.b_name)):
        if len(cell.runs) > 1:
            raise ConfigError(f"{name} is {len(cell.runs)} seeds with answers of their own; name one seed's folder")
        sides.append({(s.task, s.doc_id): s for s in read_samples(cell.runs[0].path)})
    order = {task: at for at, task in enumerate(compared.tasks)}
    keys = sorted(sides[0].keys() & sides[1].keys(), key=lambda key: (order[key[0]], key[1]))
    both = (Flip(sides[0][key], sides[1][key]) for key in keys)
    return [flip for flip in both if abs(flip.a.score - flip.b.score) > SLACK / 100]


def rows(found: Sequence[Flip], pictures: Path | None = None, most: int | None = None) -> list[dict[str, Any]]:
    """Flips as plain rows: sample, family, question, reference, both answers and scores.

    Args:
        pictures: folder of their pictures, each row then names its own.
        most: how many have a picture, the first ones; None for all.
    """
    drawn = range(len(found))[:most]
    return [
        {
            "sample": flip.name,
            "family": flip.a.family,
            "question": flip.a.question,
            "reference": _text(flip.a.target),
            "a_answer": _text(flip.a.answer),
            "b_answer": _text(flip.b.answer),
            "a_score": flip.a.score,
            "b_score": flip.b.score,
            **({} if pictures is None else {"picture": str(flip.picture(pictures)) if at in drawn else ""}),
        }
        for at, flip in enumerate(found)
    ]


def table(found: Sequence[Flip], pictures: Path | None = None, most: int | None = None) -> Table:
    """Flips for Markdown and LaTeX."""
    heads = ["sample", "question", "reference", "A", "B", "score A", "score B", *["picture"] * (pictures is not None)]
    body = [
        [
            r["sample"],
            *(" ".join(r[key].split()) for key in ("question", "reference", "a_answer", "b_answer")),
            *(f"{r[key]:g}" for key in ("a_score", "b_score")),
            *([r["picture"]] if "picture" in r else []),
        ]
        for r in rows(found, pictures, most)
    ]
    return Table(f"{len(found)} questions answered differently well", heads, body)


def print_flips(
    found: Sequence[Flip],
    stream: IO[str],
    width: int | None = None,
    pictures: Path | None = None,
    most: int | None = None,
) -> None:
    """Flips for a terminal, three or four lines each, as long as they are."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    console = Console(file=stream, width=width, highlight=False, markup=False)
    for flip, r in zip(found, rows(found, pictures, most), strict=True):
        change = f"{'up' if flip.gained else 'down'}, {r['a_score']:g} to {r['b_score']:g}"
        console.print(Text.assemble((r["sample"], "bold"), f"  {change}", f"  {r['family']}"))
        console.print(Padding(" ".join(r["question"].split()), (0, 0, 0, 2)))
        answers = "  |  ".join(f"{k}: {' '.join(r[n].split()) or '(nothing)'}" for k, n in _ANSWERS.items())
        console.print(Padding(answers, (0, 0, 0, 2)))
        if r.get("picture"):
            console.print(Padding(f"kept patches: {r['picture']}", (0, 0, 0, 2)))
    if found and pictures is None:
        console.print("--pictures DIR draws the patches that both kept for each of them.")


_ANSWERS = {"reference": "reference", "A": "a_answer", "B": "b_answer"}


def draw(compared: Pair, found: Sequence[Flip], folder: Path, data_root: Path | None = None) -> int:
    """A picture per flip of the patches that both runs kept, beside the unpruned model; returns how many were drawn.

    Pictures that are there already are left, so an interrupted call can be repeated.

    Args:
        data_root: where the data are; by default where they were.

    Raises:
        MeteorBenchError: a model of the records cannot be built here, or the folder cannot be written.
    """
    check_writable(folder)
    wanted = [(flip, flip.picture(folder)) for flip in found]
    wanted = [(flip, path) for flip, path in wanted if not path.exists()]
    if not wanted:
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    say("loading libraries and weights")
    from meteor_bench.data.suites import resolve
    from meteor_bench.lmms.document import find
    from meteor_bench.lmms.inputs import Inputs
    from meteor_bench.runs.patches.command import named, write_png
    from meteor_bench.runs.patches.figure import sheet
    from meteor_bench.runs.patches.trace_sample import watch

    configs = [_config(compared.a), _config(compared.b)]
    plain = configs[0].unpruned()
    resolve(plain.suite, plain.tasks)  # files of questions get their names
    inputs = Inputs.of(replace(plain, data_root=data_root or plain.data_root))
    sessions = _sessions([plain, *(config for config in configs if config.method != "none")])
    changed = 0
    with track("pictures", len(wanted)) as update:
        for done, (flip, path) in enumerate(wanted, start=1):
            document = find(flip.name, sessions[0][1], inputs)
            first, *others = [watch(session, document, named(config)) for config, session in sessions]
            write_png(sheet(document, first, others), path)
            said = {id(config): shown.raw for (config, _), shown in zip(sessions, (first, *others), strict=True)}
            changed += any(
                said[id(c)] != s.raw for c, s in zip(configs, (flip.a, flip.b), strict=True) if id(c) in said
            )
            update(done)
    if changed:
        say(f"{changed} of {len(wanted)} are answered differently now than in the records: the code or machine changed")
    return len(wanted)


def _config(cell: Cell) -> RunConfig:
    """The settings of a record, to be run here; its device may not be here."""
    return replace(cell.record.config, device="auto")


def _sessions(configs: Sequence[RunConfig]) -> list[tuple[RunConfig, Session]]:
    from meteor_bench.data.calibration import calibration_requests
    from meteor_bench.runs.model_cache import ModelCache
    from meteor_bench.utils.environment import quiet_libraries

    quiet_libraries()
    shared = ModelCache()
    return [(config, shared.blueprint(config).session(calibration_requests)) for config in configs]


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
