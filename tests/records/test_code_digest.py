"""What a record's code digest covers: everything that the answers depend on, and nothing that they do not."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from meteor_bench.core.registry import METHODS, MODELS
from meteor_bench.records.code_digest import ALWAYS, COMPOSITION, answering, code_digest, hashed, source_digest
from meteor_bench.records.provenance import PACKAGE

Touch = Callable[[str], Path]


@pytest.fixture
def touch(tmp_path: Path) -> Touch:
    """A copy of the package with one file changed, or added."""

    def copy(name: str) -> Path:
        package = tmp_path / name.replace("/", "-") / PACKAGE.name
        shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("weights", "__pycache__"))
        with (package / name).open("a", encoding="utf-8") as stream:
            stream.write("TOUCHED = 1\n")
        return package

    return copy


def digests(method: str, model: str = "pocket", package: Path = PACKAGE) -> dict[str, str]:
    modules = [METHODS.rows[method].partition(":")[0], MODELS.rows[model].partition(":")[0]]
    return hashed(answering(modules, package=package), package)


def test_another_methods_file_leaves_a_record_alone(touch: Touch) -> None:
    touched = touch("methods/meteor/method.py")
    for method in ("fastv", "evoprune", "random"):
        assert digests(method, package=touched) == digests(method)
    assert digests("meteor", package=touched) != digests("meteor")


def test_an_added_file_leaves_all_records_alone(touch: Touch) -> None:
    assert digests("fastv", package=touch("models/another_family.py")) == digests("fastv")


def test_a_methods_helper_makes_its_records_stale(touch: Touch) -> None:
    before, after = digests("evoprune"), digests("evoprune", package=touch("methods/shared/merging.py"))
    assert {name for name in before if before[name] != after[name]} == {"methods/shared/merging.py"}
    assert before.keys() == after.keys()


@pytest.mark.parametrize(
    ("method", "covered", "free"),
    [
        (
            "evoprune",
            ["evoprune/method", "evoprune/edges", "shared/merging", "shared/helpers", "__init__"],
            ["tome", "shared/selection", "compose"],
        ),
        ("fastv", ["fastv", "shared/scorers", "__init__"], ["shared/merging", "evoprune/method", "compose"]),
        ("prumerge+", ["prumerge"], ["visionzip"]),
    ],
)
def test_a_method_covers_what_it_imports(method: str, covered: list[str], free: list[str]) -> None:
    """Directly (evoprune its merging) or not (merging its helpers), and what is run on the way."""
    names = digests(method).keys()
    assert {f"methods/{name}.py" for name in covered} <= names
    assert not {f"methods/{name}.py" for name in free} & names
    assert {"engine/engine.py", "engine/calibrate.py", "lmms/evaluate.py", "lmms/journal.py"} <= names
    assert {f"models/{name}.py" for name in ("pocket/model", "pocket/modules", "towers")} <= names


def test_the_command_line_and_the_report_are_not_covered() -> None:
    covered = digests("meteor")
    assert not any(
        name.startswith(("report/", "cli", "records", "config", "runs", "utils", "core/registry")) for name in covered
    )


def test_the_core_needs_no_more_of_methods_and_models_than_is_covered() -> None:
    """Rooms that are hashed whole are hashed without following their imports, which must be covered otherwise."""
    core = [file for part in ALWAYS for file in (PACKAGE / part).rglob("*.py")]
    followed = answering([], others=core)
    # The engine finds a checkpoint through models/locate, which no answer depends on: its bytes are hashed. Whatever
    # makes a composition is covered where a model is one, because its parts live there; others do not need it.
    known = {"models/__init__.py", "models/config_bounds.py", "models/locate.py"}
    base, composed = answering([COMPOSITION]), answering(["meteor_bench.models.composed.model"])
    more, parts = ({f.relative_to(PACKAGE).as_posix() for f in files} for files in (followed ^ base, composed - base))
    assert more == known | parts and {"models/composed/model.py", "models/fusions.py"} <= parts


def test_a_composition_covers_its_parts_and_how_they_are_joined() -> None:
    single, other, both = (code_digest(name, ["pocket"]) for name in ("evoprune", "fastv", "evoprune+fastv"))
    assert len({single, other, both}) == 3 and all(len(found) == 64 for found in (single, other, both))


def test_a_third_partys_package_is_covered_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def installed(name: str, helper: str, listed: str = "") -> str:
        """Digest of the method ``name`` of a package of its own."""
        folder = tmp_path / name
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text("")
        (folder / name / "method.py").write_text("from meteor_bench.methods.shared.merging import plan\n")
        (folder / name / "helper.py").write_text(helper)
        (folder / "extra.py").write_text(listed)
        info = folder / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[meteor_bench.methods]\n{name} = {name}.method:Thing\n")
        (info / "RECORD").write_text(f"extra.py,,\n{name}/method.py,,\n")
        monkeypatch.syspath_prepend(str(folder))
        return code_digest(name, ["pocket"])

    first = installed("theirs_a", "x = 1\n")
    assert installed("theirs_b", "x = 1\n") == first
    assert installed("theirs_c", "x = 2\n") != first, "a helper in the package"
    assert installed("theirs_d", "x = 1\n", "y = 1\n") != first, "a module beside it, of the same distribution"
    assert "theirs_a" not in sys.modules, "nothing of theirs was run"


BEFORE = """from meteor_bench.core.tokens import Grid
# Where.
def cell(grid: Grid) -> int:
    \'\'\'Its number.\'\'\'

    return grid.n  # of all
"""
MOVED = """\'\'\'A module.\'\'\'
from meteor_bench.shapes.grids import Grid


def cell(grid: Grid) -> int:
    return grid.n
"""


def test_a_moved_and_reworded_module_is_the_same(tmp_path: Path) -> None:
    def digest(name: str, text: str) -> str:
        (tmp_path / name).write_text(text)
        return source_digest(tmp_path / name)

    first = digest("a.py", BEFORE)
    assert digest("b.py", MOVED) == first
    assert digest("c.py", BEFORE.replace("grid.n", "grid.h")) != first
    assert digest("d.py", BEFORE.replace("import Grid", "import Grid as Cells")) != first


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('T = """a\n\nb"""\n', 'T = """a\nb"""\n'),
        ('T = """a \nb"""\n', 'T = """a\nb"""\n'),
        ('x = 1; "said"\n', 'x = 2; "said"\n'),
        ("from meteor_bench.core.a import x; y = 1\n", "from meteor_bench.core.a import x; y = 2\n"),
        ("class A: pass\n", "class B: pass\n"),
    ],
)
def test_what_stands_in_strings_or_beside_docstrings_counts(tmp_path: Path, one: str, other: str) -> None:
    (tmp_path / "a.py").write_text(one)
    (tmp_path / "b.py").write_text(other)
    assert source_digest(tmp_path / "a.py") != source_digest(tmp_path / "b.py")
