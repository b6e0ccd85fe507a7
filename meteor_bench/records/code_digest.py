"""Which source files a run's answers depend on, so that touching another method leaves its record alone.

Hashed are the rooms that every answer comes through (`ALWAYS`, less `ASIDE`: tables of names, the clock, errors), and
the modules of the method and the model family with everything of `FOLLOWED` that they import. (The engine also imports
the composition, which only compositions use.) Timing, tables, records and the command line may change without making a
record stale.

A module counts by what it does, not by where it lies: its comments, docstrings, blank lines and the places that it
imports our own names from are left out, and files are hashed without their names. Moving a module changes nothing.
"""

from __future__ import annotations

import ast
import hashlib
import io
import tokenize
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from meteor_bench.core.method_file import MethodFile, digests
from meteor_bench.core.plugins import added
from meteor_bench.core.registry import FAMILIES, METHODS, MODELS, parts_of
from meteor_bench.records.provenance import PACKAGE, fingerprint

__all__ = ["answering", "code_digest", "hashed", "source_digest"]

ALWAYS = ("core", "engine", "lmms")
FOLLOWED = ("core", "engine", "lmms", "methods", "models")
ASIDE = (
    "core/clock.py",
    "core/errors.py",
    "core/method_file.py",
    "core/plugins.py",
    "core/registry.py",
    "engine/flop_counter.py",
)
COMPOSITION = "meteor_bench.methods.compose"


class _Source(NamedTuple):
    """A file as it was when it was first asked for: what this process runs, whatever is edited meanwhile."""

    digest: str
    imports: tuple[str, ...]


def code_digest(method: str, modules: Iterable[str]) -> str:
    """Hash of the source files that the answers of a method on a model depend on; 64 hex digits.

    Args:
        method: a name of the table, a file, or a composition of such.
        modules: dotted names of the modules that the model's parts live in. Of those that are neither ours nor of a
            distribution that adds rows to our tables (torch, transformers), versions are recorded instead.
    """
    parts = parts_of(method)
    names, alone = set(modules), set()
    for part in parts:
        file = MethodFile.of(part)
        if file is None:
            names.add(METHODS.target(part).partition(":")[0])
        else:
            alone.add(file.path)
    names |= {COMPOSITION} if len(parts) > 1 else set()
    tops = {name.partition(".")[0] for name in names} - {PACKAGE.name}
    foreign = {file for top in tops for file in _files_of_others(top)}
    inside = hashed(answering(names, foreign | alone), PACKAGE)
    outside = [f"{file.name} {_source(file).digest}" for file in foreign]
    return fingerprint({"inside": sorted(inside.values()), "outside": sorted([*outside, *digests(method).values()])})


def answering(modules: Iterable[str], others: Iterable[Path] = (), package: Path = PACKAGE) -> set[Path]:
    """Files of a package that answers depend on.

    Args:
        modules: dotted names of the methods' and models' modules in it.
        others: files outside it that import parts of it.
        package: its folder; ours, but for tests.
    """
    aside = {package / name for name in ASIDE}
    found = {file for part in ALWAYS for file in (package / part).rglob("*.py")} - aside
    names = [*modules, *(name for file in others for name in _source(file).imports)]
    waiting = [file for name in names for file in _files_of(name, package)]
    while waiting:
        file = waiting.pop()
        if file not in found and file not in aside:
            found.add(file)
            waiting += [reached for name in _source(file).imports for reached in _files_of(name, package)]
    return found


def hashed(files: Iterable[Path], root: Path) -> dict[str, str]:
    """Name relative to ``root`` -> digest of what the file does."""
    return {file.relative_to(root).as_posix(): _source(file).digest for file in files}


def source_digest(file: Path) -> str:
    """Digest of what one Python file does."""
    return _source(file).digest


@cache
def _source(file: Path) -> _Source:
    content = file.read_bytes()
    tree = ast.parse(content, str(file))
    return _Source(hashlib.sha256(_doing(content, tree).encode()).hexdigest(), tuple(_imports(tree)))


def _doing(content: bytes, tree: ast.Module) -> str:
    """A file's text without comments, docstrings, blank lines and the places of our own names that it imports."""
    names: set[str] = set()
    lines = content.split(b"\n")
    strings: set[int] = set()  # rows that end within a string: all of them counts
    for token in tokenize.tokenize(io.BytesIO(content).readline):
        (first, column), (last, _) = token.start, token.end
        if token.type == tokenize.COMMENT:
            lines[first - 1] = lines[first - 1].decode()[:column].encode()
        else:
            strings.update(range(first, last))
    for node in ast.walk(tree):
        ours = isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == PACKAGE.name
        if isinstance(node, ast.ImportFrom) and ours:
            names |= {f"{alias.name} as {alias.asname}" for alias in node.names}
        text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        if isinstance(node, ast.stmt) and (ours or text):
            strings -= _blank(lines, node)
    kept = [line if row in strings else line.rstrip() for row, line in enumerate(lines, 1)]
    return "\n".join([*sorted(names), *(one.decode() for row, one in enumerate(kept, 1) if one or row in strings)])


def _blank(lines: list[bytes], node: ast.stmt) -> set[int]:
    """Put blanks in the place of a statement; its rows."""
    last = node.end_lineno or node.lineno
    for row in range(node.lineno, last + 1):
        line = lines[row - 1]
        start = node.col_offset if row == node.lineno else 0
        end = node.end_col_offset if row == last else None
        stop = len(line) if end is None else end
        lines[row - 1] = line[:start] + b" " * (stop - start) + line[stop:]
    return set(range(node.lineno, last + 1))


def _imports(tree: ast.Module) -> Iterator[str]:
    """Dotted names that a file imports, at its top or anywhere in it, those for type checkers included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            # `from package import module` names a module too.
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))


def _files_of(name: str, package: Path) -> Iterator[Path]:
    """Files that importing a dotted name runs: the module's and those of the packages around it."""
    top, *steps = name.split(".")
    if top != package.name or not steps or steps[0] not in FOLLOWED:
        return
    for depth in range(1, len(steps) + 1):
        place = package.joinpath(*steps[:depth])
        # The last step may name something inside a module: no file, then.
        yield from (file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file())


@cache
def _files_of_others(top: str) -> tuple[Path, ...]:
    """Source files of a package that a third party's row lives in, and of the distribution that brought it."""
    points = (point for registry in (METHODS, MODELS, FAMILIES) for point in added(registry.group))
    found: set[Path] = set()
    for point in points:
        if point.module.partition(".")[0] == top:
            found.update(_package_files(top), _listed_files(point))
    return tuple(sorted(found))


def _package_files(top: str) -> Iterator[Path]:
    spec = find_spec(top)
    if spec is None:
        return
    for folder in spec.submodule_search_locations or ():
        yield from (file.resolve() for file in Path(folder).rglob("*.py"))
    if spec.origin and spec.origin.endswith(".py"):
        yield Path(spec.origin).resolve()


def _listed_files(point: EntryPoint) -> Iterator[Path]:
    listed = point.dist.files if point.dist is not None else None
    for entry in listed or ():
        if entry.suffix == ".py" and (file := Path(str(entry.locate()))).is_file():
            yield file.resolve()
