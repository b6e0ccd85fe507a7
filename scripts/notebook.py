"""Execute docs/quickstart.ipynb and write its page, docs/notebook.md with its pictures under docs/notebook/.

`python scripts/notebook.py` runs the code cells in order in one process, keeps what they show in the notebook, and
makes the page of it: the site needs no plugin for notebooks, and the test no server. `tests/docs/test_notebook.py` says
when it is due.
"""

from __future__ import annotations

import ast
import base64
import io
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from meteor_bench.utils.atomic_io import write_whole  # noqa: E402

NOTEBOOK = ROOT / "docs" / "quickstart.ipynb"
PAGE = ROOT / "docs" / "notebook.md"
PICTURES = ROOT / "docs" / "notebook"

Cell = dict[str, Any]


def read(path: Path = NOTEBOOK) -> dict[str, Any]:
    """The notebook as JSON."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def executed(notebook: dict[str, Any]) -> dict[str, Any]:
    """The notebook with what its code cells show now.

    Raises:
        Exception: whatever a cell raises.
    """
    names: dict[str, Any] = {}
    cells = [_run(cell, names) if cell["cell_type"] == "code" else cell for cell in notebook["cells"]]
    return {**notebook, "cells": cells}


def _run(cell: Cell, names: dict[str, Any]) -> Cell:
    """A cell as a notebook runs it: what it prints, then what its last line is worth."""
    tree = ast.parse("".join(cell["source"]))
    last = ast.Expression(tree.body.pop().value) if tree.body and isinstance(tree.body[-1], ast.Expr) else None  # type: ignore[attr-defined]
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(compile(tree, NOTEBOOK.name, "exec"), names)
        value = None if last is None else eval(compile(last, NOTEBOOK.name, "eval"), names)
    outputs: list[dict[str, Any]] = []
    if printed.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": printed.getvalue().splitlines(True)})
    if value is not None:
        shown = {"data": _shown(value), "metadata": {}, "execution_count": None}
        outputs.append({"output_type": "execute_result", **shown})
    return {**cell, "outputs": outputs, "execution_count": None}


def _shown(value: Any) -> dict[str, Any]:
    from PIL.Image import Image

    if not isinstance(value, Image):
        return {"text/plain": repr(value).splitlines(True)}
    stream = io.BytesIO()
    value.save(stream, format="PNG", optimize=True)
    return {"image/png": base64.b64encode(stream.getvalue()).decode(), "text/plain": ["a picture"]}


def outputs(notebook: dict[str, Any]) -> list[list[str]]:
    """What each code cell shows, as text; of a picture only that it is one."""
    return [list(map(_text, cell["outputs"])) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def _text(output: dict[str, Any]) -> str:
    return "".join(output["text"] if output["output_type"] == "stream" else output["data"]["text/plain"])


def page(notebook: dict[str, Any]) -> str:
    """The page of an executed notebook."""
    parts = []
    for cell, names in zip(notebook["cells"], _names(notebook["cells"]), strict=True):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output, name in zip(cell["outputs"], names, strict=True):
            parts.append(
                f"![What the cell shows](notebook/{name})" if name else f"```text\n{_text(output).rstrip()}\n```"
            )
    note = "This page is made of [a notebook](quickstart.ipynb), which `scripts/notebook.py` runs."
    return "\n\n".join([*parts, note]) + "\n"


def pictures(notebook: dict[str, Any]) -> dict[str, bytes]:
    """Name -> content of the page's pictures."""
    return {
        name: base64.b64decode(output["data"]["image/png"])
        for cell, names in zip(notebook["cells"], _names(notebook["cells"]), strict=True)
        for output, name in zip(cell.get("outputs", ()), names, strict=True)
        if name
    }


def _names(cells: Sequence[Cell]) -> Iterator[list[str]]:
    """Of each cell's outputs the file, "" for one that is text."""
    count = 0
    for cell in cells:
        names = []
        for output in cell.get("outputs", ()):
            is_picture = "image/png" in output.get("data", {})
            count += is_picture
            names.append(f"{count}.png" if is_picture else "")
        yield names


def main() -> None:
    made = executed(read())
    write_whole(NOTEBOOK, (json.dumps(made, indent=1, ensure_ascii=False) + "\n").encode())
    write_whole(PAGE, page(made).encode())
    PICTURES.mkdir(exist_ok=True)
    for name, content in pictures(made).items():
        write_whole(PICTURES / name, content)


if __name__ == "__main__":
    main()
