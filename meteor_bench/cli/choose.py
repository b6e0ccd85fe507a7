"""`meteor-bench choose`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from meteor_bench.cli.app import alone, resumable
from meteor_bench.cli.options import Online, flags
from meteor_bench.cli.printing import Printing, printed
from meteor_bench.config.choose_config import ChooseConfig, load
from meteor_bench.models.locate import go_online
from meteor_bench.utils.progress import detail

app = alone()


@app.command()
@flags(ChooseConfig)
@printed(quietly=True)
def choose(
    said: dict[str, Any],
    how: Printing,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say how many candidates and how long, and stop.")] = False,
    online: Online = False,
) -> None:
    """Choose a method and a ratio for a drop, a speed-up or a number of tokens that you name.

    Methods x ratios by successive halving: all on few questions, the better half on twice as many, the last ones on
    all. Ends with a table, one recommendation, the command and the YAML for it, with --quiet the command alone; exit
    status 1 where nothing qualifies. A choice that was interrupted goes on where it stopped when the same command is
    given again.
    """
    if online:
        go_online()
    config = load(said)
    detail("loading libraries and weights")
    from meteor_bench.runs.choose import command

    with resumable():
        if dry_run:
            how.only_lines("--dry-run")
        code = command.choose(config, how.write, dry_run=dry_run)
    raise typer.Exit(code)
