"""The package's public names: what is listed can be had, nothing heavy comes with the package, sessions answer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import meteor_bench
from meteor_bench import Decision, FuseScorer, FuseView, Session, load_model, load_runs, load_tables
from meteor_bench.core.errors import UnsupportedError
from meteor_bench.data.calibration import calibration_requests
from tests import tiny

REFERENCE = Path(__file__).parents[1] / "results" / "reference" / "pocket"


@pytest.mark.parametrize("name", meteor_bench.__all__)
def test_every_name_is_there_with_its_documentation(name: str) -> None:
    found = getattr(meteor_bench, name)
    assert name == "__version__" or (found.__doc__ and found.__name__ == name)


def test_importing_the_package_imports_nothing_heavy() -> None:
    said = "import sys, meteor_bench; print([m for m in ('torch', 'numpy', 'pandas', 'typer') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", said], capture_output=True, text=True).stdout.strip() == "[]"


def test_what_is_not_listed_is_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Sesion'"):
        _ = meteor_bench.Sesion  # type: ignore[attr-defined]


class First(FuseScorer):
    """The first tokens stay."""

    def score(self, view: FuseView) -> torch.Tensor:
        return -torch.arange(view.tokens.x.shape[1]).expand(view.tokens.x.shape[:2]).float()


def test_a_session_answers_and_traces_under_a_method_of_ones_own() -> None:
    session = Session(tiny.build("shared"), First(), 0.75)
    for media in ("picture.png", None, [tiny.picture(0), "picture.png"]):
        with pytest.raises(
            UnsupportedError, match=r"^a picture is a PIL image, not a (str|NoneType); Image.open reads"
        ):
            session.answer(media, "what is it")  # type: ignore[arg-type]
    picture = tiny.picture(0)
    assert session.answer(picture, "what is it", max_new_tokens=3).tokens["final"] == 16
    last = session.trace(picture, "what is it")[-1]
    assert (last.stage, last.kept) == ("fuse", 16)
    assert last.group == (*range(16), *[-1] * 48)
    assert First.fact.stages == ("fuse",) and First.title == "first"


def test_a_session_by_names_takes_the_variant_that_the_method_was_made_for() -> None:
    few = Session("pocket", "meteor", 0.5, device="cpu", calibration=lambda: calibration_requests()[:8])
    assert few.model.name == "pocket-independent"
    vlm = load_model("pocket", device="cpu")
    assert Session(vlm, "fastv", 0.5).model is vlm


def test_records_as_a_frame() -> None:
    frame = load_runs(REFERENCE)
    meteor = frame[(frame.method == "meteor") & (frame.ratio == 0.76)]
    assert len(meteor) == 12 and meteor.score.between(0, 100).all()
    assert meteor.realised_ratio.iloc[0] == pytest.approx(0.76, abs=0.01)
    assert Decision.__name__ == "Decision"


def test_tables_as_frames() -> None:
    """A row for each setting and benchmark, with what `load_runs` has of its runs."""
    tables = load_tables(REFERENCE)
    assert tables.keys() == {"accuracy", "tokens", "latency"}
    accuracy = tables["accuracy"]
    few = accuracy[(accuracy.method == "fastv") & (accuracy.ratio == 0.76) & (accuracy.kind == "benchmark")]
    runs = load_runs(REFERENCE)
    same = runs[(runs.method == "fastv") & (runs.ratio == 0.76)].set_index("task").score
    assert few.set_index("name").score.sub(same).abs().max() < 1e-9 and len(few) == 12
    assert (few.difference_low <= few.difference).all() and (few.difference <= few.difference_high).all()
