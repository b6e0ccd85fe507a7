"""What is installed for running and for developing, and what the package says of itself."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from meteor_bench import __version__

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCKS = (
    "requirements.lock",
    "requirements-dev.lock",
    "requirements-ray.lock",
    "requirements-docs.lock",
    "requirements-natural.lock",
)


def locked(name: str) -> dict[str, str]:
    """Versions in a lock, which holds names and versions and nothing else."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9.-]*==[0-9][0-9A-Za-z.]*", line) for line in lines)
    return dict(line.split("==") for line in lines)


def named(requirements: list[str]) -> set[str]:
    return {re.match(r"[A-Za-z0-9-]+", requirement)[0] for requirement in requirements}  # type: ignore[index]


def test_each_lock_keeps_to_the_one_before_it() -> None:
    run, develop, ray, docs, natural = map(locked, LOCKS)
    assert run.items() < develop.items() < ray.items() and develop.items() < docs.items()
    assert develop.items() < natural.items()
    extras = PROJECT["optional-dependencies"]
    assert named(PROJECT["dependencies"]) <= run.keys()
    assert named(extras["dev"]) <= develop.keys() and named(extras["ray"]) <= ray.keys()
    assert named(extras["docs"]) <= docs.keys() and named(extras["natural"]) <= natural.keys()


def test_running_needs_no_tools() -> None:
    tools = {"pytest", "pytest-xdist", "hypothesis", "playwright", "mypy", "matplotlib", "jsonschema", "ray", "mkdocs"}
    assert not tools & locked("requirements.lock").keys()


@pytest.mark.parametrize(
    ("target", "wanted", "unwanted"),
    [
        ("run", {"requirements.lock"}, set(LOCKS[1:])),
        ("check", {"requirements.lock"}, set(LOCKS[1:])),
        ("test", set(LOCKS[:2]), set(LOCKS[2:])),
        ("lint", set(LOCKS[:2]), set(LOCKS[2:])),
        ("test-all", set(LOCKS[:3]), set(LOCKS[3:])),
        ("setup-ray", set(LOCKS[:3]), set(LOCKS[3:])),
        ("docs", {*LOCKS[:2], "requirements-docs.lock"}, {"requirements-ray.lock", "requirements-natural.lock"}),
        ("natural", {*LOCKS[:2], "requirements-natural.lock"}, {"requirements-ray.lock", "requirements-docs.lock"}),
        (
            "test-natural",
            {*LOCKS[:2], "requirements-natural.lock"},
            {"requirements-ray.lock", "requirements-docs.lock"},
        ),
    ],
)
def test_a_target_installs_what_it_needs(target: str, wanted: set[str], unwanted: set[str], tmp_path: Path) -> None:
    """In a checkout where nothing is installed; make says what it would do."""
    for name in ("Makefile", "pyproject.toml", *LOCKS):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    said = subprocess.run(["make", "-n", target], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    installed = set(re.findall(r"--requirement (\S+)", said))
    assert wanted <= installed and not unwanted & installed


def test_what_is_there_is_not_installed_again(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", *LOCKS):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / ".venv").mkdir()
    for stamp in (".setup-done", ".setup-dev-done"):
        (tmp_path / ".venv" / stamp).touch()
        for target in ("run", "test") if stamp == ".setup-dev-done" else ("run",):
            done = subprocess.run(["make", "-n", target], cwd=tmp_path, capture_output=True, text=True, check=True)
            assert "install" not in done.stdout


@pytest.mark.xdist_group("lmms_eval")
def test_groups_of_tests_reach_the_workers(request: pytest.FixtureRequest) -> None:
    """Or else each worker imports lmms-eval, and makes again what the tests of one file share."""
    assert not request.config.getoption("loadgroup", False) or request.node.nodeid.endswith("@lmms_eval")


def test_the_versions_of_python_are_those_that_are_tested() -> None:
    claimed = {line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r"Python :: 3\.", line)}
    nightly = yaml.safe_load((ROOT / ".github" / "workflows" / "nightly.yml").read_text(encoding="utf-8"))
    (job,) = nightly["jobs"].values()
    assert set(job["strategy"]["matrix"]["python"]) == claimed
    assert [step["run"] for step in job["steps"] if "run" in step] == ["make test-all"]


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["version"], citation["title"]) == (__version__, PROJECT["name"])
    assert citation["license"] == PROJECT["license"]
    assert {"cff-version", "message", "authors", "type"} <= citation.keys()
