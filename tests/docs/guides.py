"""Code of the pages under docs/, as it stands there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

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
