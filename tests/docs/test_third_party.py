"""A method from somebody else's package, found by name: the one of docs/adding-a-method.md, as it stands there."""

import re
import sys
from pathlib import Path

import pytest
import torch

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.errors import UnknownNameError
from meteor_bench.core.registry import METHODS
from meteor_bench.engine.make_method import make_pruner
from meteor_bench.engine.session import Session
from tests import tiny

GUIDE = Path(__file__).parents[2] / "docs" / "adding-a-method.md"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `pip install .` of the guide's package leaves behind."""
    text = GUIDE.read_text(encoding="utf-8")
    source = re.findall(r"```python\n(.*?)```", text, re.S)[0]
    (entry,) = re.findall(r"^loudest = \"(.*)\"$", text, re.M)
    (tmp_path / "loudest.py").write_text(source)
    info = tmp_path / "loudest-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: loudest\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[meteor_bench.methods]\nloudest = {entry}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "loudest", raising=False)


@pytest.mark.parametrize("model", ["shared", "independent"])
@pytest.mark.usefixtures("installed")
def test_the_guides_method_runs_by_name(model: str) -> None:
    assert METHODS.names()[-1] == "loudest"
    pruner = make_pruner("loudest", {"order": 1.0})
    session = Session(tiny.build(model), pruner, TokenBudget.from_ratio(0.75))
    kept: list[int] = []
    session.answer(tiny.requests(4), lambda _, answer: kept.append(answer.tokens["final"]))
    assert kept == [16] * 4  # of 64
    decision = pruner.fuse({"fused": _view()})["fused"]
    assert decision.keep.nonzero()[:, 1].tolist() == [1, 3]


@pytest.mark.usefixtures("installed")
def test_its_parameters_are_checked_like_ours() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'order'"):
        make_pruner("loudest", {"ordr": 1.0})


def test_without_the_package_the_name_is_unknown() -> None:
    with pytest.raises(UnknownNameError, match="unknown method 'loudest'"):
        make_pruner("loudest")


def _view() -> object:
    from meteor_bench.core.tokens import Grid, Tokens
    from tests.methods.views import view

    x = torch.tensor([[[0.1, 0.1], [3.0, 3.0], [1.0, 0.0], [-2.0, 4.0]]])
    return view(Tokens.dense(x, Grid(1, 2, 2)), 2)
