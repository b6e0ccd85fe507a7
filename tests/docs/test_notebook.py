"""docs/quickstart.ipynb runs from its first cell to its last, shows what stands there, and its page is made of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import notebook

SCRIPT = "import json; from scripts import notebook as n; print(json.dumps(n.outputs(n.executed(n.read()))))"


def test_the_page_is_that_of_the_notebook() -> None:
    kept = notebook.read()
    assert notebook.PAGE.read_text(encoding="utf-8") == notebook.page(kept), "run scripts/notebook.py"
    pictures = notebook.pictures(kept)
    assert {path.name: path.read_bytes() for path in notebook.PICTURES.iterdir()} == pictures and len(pictures) == 2


def test_it_is_a_notebook_as_others_read_it() -> None:
    kept = notebook.read()
    assert (kept["nbformat"], kept["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in kept["cells"]}) == len(kept["cells"])
    code = [cell for cell in kept["cells"] if cell["cell_type"] == "code"]
    assert len(code) == 4 and all(cell["outputs"] for cell in code)


def test_cells_run_in_order_and_show_what_a_notebook_shows() -> None:
    sources = ["a = 2\nprint(a)", "a = a * 21\na", "b = a", "print(b); None"]
    made = notebook.executed({"cells": [{"cell_type": "code", "source": [source]} for source in sources]})
    assert notebook.outputs(made) == [["2\n"], ["42"], [], ["42\n"]]
    with pytest.raises(NameError):
        notebook.executed({"cells": [{"cell_type": "code", "source": ["c"]}]})


@pytest.mark.slow
def test_it_shows_what_stands_there() -> None:
    """In a fresh process, as a reader would run it."""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == notebook.outputs(notebook.read()), "run scripts/notebook.py"
