"""Methods straight from files: what is run is what the digest is of."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from meteor_bench.core.errors import ConfigError
from meteor_bench.core.method_file import MethodFile
from meteor_bench.core.pruner import Pruner
from meteor_bench.core.registry import parts_of
from meteor_bench.engine.make_method import make_pruner

SOURCE = """from dataclasses import dataclass
from meteor_bench.methods.shared.scorers import FuseScorer

@dataclass(frozen=True)
class Loud(FuseScorer):
    which = "A"

    def score(self, view):
        return view.tokens.x.norm(dim=-1)
"""
ASK = """import sys
from pathlib import Path
from meteor_bench.core.method_file import MethodFile
from meteor_bench.core.pruner import Pruner
print(MethodFile(Path(sys.argv[1])).load(Pruner).which)
"""


@pytest.mark.slow
def test_a_compiled_file_beside_it_is_not_taken(tmp_path: Path) -> None:
    """Of equal size and time, it would be taken for that of today's file."""
    file = tmp_path / "loud.py"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def which(content: str) -> str:
        file.write_text(content)
        os.utime(file, (1_700_000_000, 1_700_000_000))
        call = [sys.executable, "-c", ASK, str(file)]
        return subprocess.run(call, env=environment, capture_output=True, text=True, check=True).stdout.strip()

    assert [which(SOURCE), which(SOURCE.replace('"A"', '"B"'))] == ["A", "B"]
    assert not (tmp_path / "__pycache__").exists()


def test_a_base_in_the_file_is_no_method(tmp_path: Path) -> None:
    file = tmp_path / "loud.py"
    base = SOURCE.replace("Loud(", "Mine(").split("    def score")[0]
    file.write_text(base + SOURCE.replace("(FuseScorer)", "(Mine)"))
    assert MethodFile(file).load(Pruner).__name__ == "Loud"
    file.write_text(base)
    with pytest.raises(ConfigError, match="holds no method"):
        MethodFile(file).load(Pruner)


@pytest.mark.parametrize(
    ("method", "parts"),
    [
        ("/c++/loud.py", ["/c++/loud.py"]),
        ("evoprune+./a+b/loud.py:Loud+fastv", ["evoprune", "./a+b/loud.py:Loud", "fastv"]),
        ("loud.py+fastv", ["loud.py", "fastv"]),
        ("prumerge++fastv", ["prumerge+", "fastv"]),
    ],
)
def test_a_plus_in_a_folder_s_name_joins_nothing(method: str, parts: list[str]) -> None:
    assert parts_of(method) == parts


def test_a_file_in_such_a_folder_is_made(tmp_path: Path) -> None:
    (tmp_path / "c++").mkdir()
    (tmp_path / "c++" / "loud.py").write_text(SOURCE)
    assert type(make_pruner(str(tmp_path / "c++" / "loud.py"))).__name__ == "Loud"
