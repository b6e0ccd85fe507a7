"""docs/adding-a-model.md from its first line to a table: the adapter, the entry point, the checkpoint, the commands."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from meteor_bench.core.errors import ModelError
from meteor_bench.engine.load_model import resolve_model
from meteor_bench.methods.none import NoPruning
from tests import tiny
from tests.commands import Call
from tests.docs.guides import blocks, commands, installed, written

pytestmark = pytest.mark.xdist_group("lmms_eval")
PAGE = "adding-a-model.md"
ADAPTER, CHECKPOINT, COMPARISON = blocks(PAGE, "python")
COMMANDS = commands(PAGE)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the page's third section writes."""
    folder = tmp_path_factory.mktemp("guide")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec(compile(CHECKPOINT, PAGE, "exec"), {})
    return folder / "tiny-video-llava"


@pytest.fixture
def family(tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's package as `pip install .` leaves it, and its checkpoint in the working folder."""
    (tmp_path / "tiny-video-llava").symlink_to(checkpoint)
    (tmp_path / "video_llava.py").write_text(ADAPTER)
    installed(tmp_path, "meteor_bench.families", blocks(PAGE, "toml"))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "video_llava", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("family")
@pytest.mark.parametrize(
    "given",
    [pytest.param(given, marks=[pytest.mark.slow] * (at > 0), id=" ".join(given)) for at, given in enumerate(COMMANDS)],
)
def test_each_command_ends_with_its_table(given: list[str], call: Call) -> None:
    assert len(COMMANDS) == 2
    done = call(*given, "--device", "cpu")
    assert done.code == 0, done.err
    assert "tiny-video-llava" in done.out and "pocket_" in done.out
    left = {
        (record["config"]["method"], sample["tokens"]["final"])
        for record, samples in written()
        for sample in samples
        if sample["task"] == "pocket_pope"
    }
    pruned = ["fastv"] if given[0] == "run" else ["random", "visionzip"]
    assert left == {("none", 16), *((method, 8) for method in pruned)}  # of 4 x 4 patches half stay


@pytest.mark.usefixtures("family")
def test_it_answers_as_the_library_does(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(COMPARISON, PAGE, "exec"), {"picture": tiny.picture(0).resize((50, 40))})
    assert capsys.readouterr().out.split()[-2:] == ["True", "16"]


def test_without_the_package_the_family_is_unknown(checkpoint: Path) -> None:
    with pytest.raises(ModelError, match="model_type 'video_llava', for which there is no adapter"):
        resolve_model(str(checkpoint), NoPruning())
