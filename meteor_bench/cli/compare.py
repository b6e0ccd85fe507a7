"""What `meteor-bench compare` does: read, compare, print, draw."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from meteor_bench.config.run_config import check
from meteor_bench.report import formats
from meteor_bench.report.compare import Pair, comparison, described, lay_out, pair
from meteor_bench.runs.patches.flips import Flip, draw, flips, print_flips, rows, table
from meteor_bench.utils.progress import say

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["run"]


def run(
    a: Path,
    b: Path,
    stream: IO[str],
    *,
    format: str,
    samples: bool = False,
    pictures: Path | None = None,
    data_root: Path | None = None,
) -> None:
    """Print the comparison of two runs.

    Args:
        format: "terminal" or a name of `report.render.FORMATS`.
        samples: list the flips too.
        pictures: folder to draw the flips into.
        data_root: where their data are; by default where they were.

    Raises:
        MeteorBenchError: the runs cannot be read or compared.
    """
    check("data_root", data_root)
    compared = pair(a, b)
    found = flips(compared) if samples or pictures else []
    frame = comparison(compared)
    shown = found if samples else None
    if format == "terminal":
        formats.terminal([lay_out(compared, frame)], stream)
        if shown:
            print_flips(shown, stream, pictures=pictures)
    else:
        stream.write(_text(format, compared, frame, shown, pictures))
    if pictures:
        say(f"{draw(compared, found, pictures, data_root)} of {len(found)} pictures drawn into {pictures}")


def _text(format: str, compared: Pair, frame: pd.DataFrame, found: Sequence[Flip] | None, pictures: Path | None) -> str:
    import pandas as pd

    frames = {"comparison": frame} | ({} if found is None else {"samples": pd.DataFrame(rows(found, pictures))})
    if format == "csv":
        return formats.csv(frames, ("kind", "name", "sample"))
    if format == "json":
        tables = {name: formats.json_rows(part) for name, part in frames.items()}
        return formats.dump({**described(compared), "tables": tables})
    tables_of_text = [lay_out(compared, frame), *([table(found, pictures)] if found is not None else [])]
    return formats.markdown(tables_of_text) if format == "markdown" else formats.latex(tables_of_text)
