"""Which source files a run's answers depend on, so that touching another method leaves its record alone.

All of `core` and `lmms` with the models' protocol; and the modules of the method and the model family with everything
of `FOLLOWED` that they import. (`core` also imports the composition, which only compositions use.) The command line,
the records and the report may change without making a record stale.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from meteor_bench.core.registry import FAMILIES, METHODS, MODELS, parts_of
from meteor_bench.records.provenance import PACKAGE, fingerprint

__all__ = ["answering", "code_digest", "hashed"]

ALWAYS = ("core", "lmms")
FOLLOWED = ("core", "lmms", "methods", "models")
PROTOCOL = "meteor_bench.core.model"
COMPOSITION = "meteor_bench.methods.compose"


class _Source(NamedTuple):
    """A file as it was when it was first asked for: what this process runs, whatever is edited meanwhile."""

    digest: str
    imports: tuple[str, ...]


def code_digest(method: str, modules: Iterable[str]) -> str:
    """Hash of the source files that the answers of a method on a model depend on; 64 hex digits.

    Args:
        method: a name of the table, or a composition.
        modules: dotted names of the modules that the model's parts live in. Of those that are neither ours nor of a
            distribution that adds rows to our tables (torch, transformers), versions are recorded instead.
    """
    parts = parts_of(method)
    names = {*modules, *(METHODS.target(part).partition(":")[0] for part in parts)}
    names |= {COMPOSITION} if len(parts) > 1 else set()
    tops = {name.partition(".")[0] for name in names} - {PACKAGE.name}
    foreign = {file for top in tops for file in _files_of_others(top)}
    outside = sorted(f"{file.name} {_source(file).digest}" for file in foreign)
    return fingerprint({"inside": hashed(answering(names, foreign), PACKAGE), "outside": outside})


def answering(modules: Iterable[str], others: Iterable[Path] = (), package: Path = PACKAGE) -> set[Path]:
    """Files of a package that answers depend on.

    Args:
        modules: dotted names of the methods' and models' modules in it.
        others: files outside it that import parts of it.
        package: its folder; ours, but for tests.
    """
    found = {file for part in ALWAYS for file in (package / part).rglob("*.py")}
    names = [PROTOCOL, *modules, *(name for file in others for name in _source(file).imports)]
    waiting = [file for name in names for file in _files_of(name, package)]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting += [reached for name in _source(file).imports for reached in _files_of(name, package)]
    return found


def hashed(files: Iterable[Path], root: Path) -> dict[str, str]:
    """Name relative to ``root`` -> digest of the content."""
    return {file.relative_to(root).as_posix(): _source(file).digest for file in files}


@cache
def _source(file: Path) -> _Source:
    content = file.read_bytes()
    return _Source(hashlib.sha256(content).hexdigest(), tuple(_imports(ast.parse(content, str(file)))))


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
    points = (point for registry in (METHODS, MODELS, FAMILIES) for point in entry_points(group=registry.group))
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
