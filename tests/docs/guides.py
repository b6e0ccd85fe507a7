"""Code of the pages under docs/, as it stands there."""

from __future__ import annotations

import gzip
import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page: str, language: str = "") -> list[str]:
    """Fenced blocks of a page in a language."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.S | re.M)
    return [block for tagged, block in found if tagged == language]


def commands(page: str) -> list[list[str]]:
    """Arguments of each `meteor-bench` command of a page."""
    lines = [line for block in blocks(page) for line in block.splitlines() if line.startswith("meteor-bench ")]
    return [shlex.split(line, comments=True)[1:] for line in lines]


def installed(folder: Path, group: str, toml: list[str]) -> None:
    """Write beside a guide's module what `pip install .` leaves of the entry points that the page shows.

    Args:
        folder: put on Python's path by the caller.
        group: the entry-point group that the page must name.
        toml: blocks of the page.
    """
    (points,) = [tomllib.loads(block)["project"]["entry-points"] for block in toml]
    info = folder / "guide-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: guide\nVersion: 1.0\n")
    lines = [f"{name} = {target}" for name, target in points[group].items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))


def written(folder: Path = Path("results/runs")) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Each run's record and its samples; there is at least one run."""
    found = []
    for file in sorted(folder.glob("*/samples.jsonl.gz")):
        lines = gzip.decompress(file.read_bytes()).splitlines()
        found.append((json.loads((file.parent / "run.json").read_text()), [json.loads(line) for line in lines]))
    assert found
    return found
