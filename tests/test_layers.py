"""The rooms of the package know each other one way, and no module imports itself by a detour.

Imports inside functions and those for type checkers count too: an arrow is an arrow.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "meteor_bench"
# The lowest first; rooms on one floor do not know each other.
FLOORS = (
    {"core"},
    {"utils"},
    {"models", "data"},
    {"config", "methods"},
    {"records", "engine"},
    {"lmms", "report"},
    {"runs"},
    {"cli"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
ROOF = {"__init__", "__main__"}


def name_of(file: Path, package: Path) -> str:
    return ".".join([package.name, *file.relative_to(package).with_suffix("").parts]).removesuffix(".__init__")


def graph(package: Path) -> Mapping[str, set[str]]:
    """Module -> modules of the package that it imports, anywhere in it."""
    files = {name_of(file, package): file for file in package.rglob("*.py")}
    found: dict[str, set[str]] = {}
    for module, file in files.items():
        found[module] = set()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            found[module] |= set(imported(node, files)) - {module}
    return found


def imported(node: ast.AST, modules: Mapping[str, Path]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name in modules)
    elif isinstance(node, ast.ImportFrom) and node.module in modules:
        for alias in node.names:
            inner = f"{node.module}.{alias.name}"
            yield inner if inner in modules else node.module


@cache
def ours() -> Mapping[str, set[str]]:
    return graph(PACKAGE)


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def circles(arrows: Mapping[str, set[str]]) -> list[list[str]]:
    """Modules that import each other by whatever way, by taking away what imports nothing that is left."""
    left = {module: set(to) for module, to in arrows.items()}
    while free := [module for module, to in left.items() if not to & left.keys()]:
        for module in free:
            del left[module]
    return [sorted(left)] if left else []


def test_every_room_has_a_floor() -> None:
    rooms = {room(module) for module in ours()}
    assert rooms - ROOF == set(FLOOR)


@pytest.mark.parametrize("name", sorted(FLOOR))
def test_a_room_knows_only_those_below_it(name: str) -> None:
    arrows = [(a, b) for a, to in ours().items() for b in to if room(a) == name and room(b) != name]
    assert not [(a, b) for a, b in arrows if FLOOR.get(room(b), len(FLOORS)) >= FLOOR[name]]


def test_there_is_no_import_circle() -> None:
    assert circles(ours()) == []


def test_only_one_room_knows_lmms_eval() -> None:
    knowing = {
        file.relative_to(PACKAGE).parts[0]
        for file in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if (isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "lmms_eval")
        or (isinstance(node, ast.Import) and any(alias.name.partition(".")[0] == "lmms_eval" for alias in node.names))
    }
    assert knowing == {"lmms"}


def test_arrows_up_and_circles_would_be_seen(tmp_path: Path) -> None:
    """The checks themselves, on a package with both mistakes, one of them inside a function."""
    package = tmp_path / "house"
    for place, text in {
        "__init__.py": "",
        "core/__init__.py": "",
        "core/a.py": "def f():\n    from house.runs import b\n",
        "runs/__init__.py": "",
        "runs/b.py": "from house.core.a import f\n",
        "runs/c.py": "import house.runs.b\n",
    }.items():
        (package / place).parent.mkdir(parents=True, exist_ok=True)
        (package / place).write_text(text)
    arrows = graph(package)
    assert arrows["house.core.a"] == {"house.runs.b"} and arrows["house.runs.c"] == {"house.runs.b"}
    (circle,) = circles(arrows)
    assert {"house.core.a", "house.runs.b"} <= set(circle)
