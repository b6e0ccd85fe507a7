"""The whole path of training on a few pictures: it goes on where it was, and what it writes is a model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from meteor_bench.models.natural.model import load, trained
from meteor_bench.models.pocket.model import WEIGHTS
from scripts import train_natural
from scripts.natural.world import FAMILY_BENCHMARK, make, split_rng


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("natural")


def run(folder: Path, phase: str, fusion: str = "shared") -> None:
    train_natural.main(
        [phase, "--smoke", "--fusion", fusion, "--folder", str(folder), "--weights", str(folder / fusion)]
    )


def test_what_is_trained_can_be_run_and_its_card_has_every_family(folder: Path) -> None:
    for fusion, name in (("shared", "natural"), ("independent", "natural-independent")):
        run(folder, "all", fusion)
        vlm = load(name, "cpu", torch.float32, folder / fusion)
        frames = [Image.fromarray(frame) for frame in make("clip", split_rng("test", 0), "test").image]
        pixels = vlm.processor.pixels(frames)
        assert pixels.shape == (4, 3, 112, 112) and vlm.fusion.kind == fusion
        card = (folder / fusion / "README.md").read_text(encoding="utf-8")
        assert all(f"| {benchmark} | {family} |" in card for family, benchmark in FAMILY_BENCHMARK.items())
        assert "{" not in card and f"# {name}\n" in card
        assert all(file.stat().st_size < 4e6 for file in (folder / fusion).glob("*.safetensors"))


def test_a_finished_phase_is_not_run_again(folder: Path) -> None:
    names = ("symbolic", "joint", "joint-independent")
    steps = [torch.load(folder / f"{name}.pt", weights_only=True)["step"] for name in names]
    run(folder, "joint")
    run(folder, "joint", "independent")
    assert [torch.load(folder / f"{name}.pt", weights_only=True)["step"] for name in names] == steps


def test_the_control_goes_on_from_what_ships(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(folder, "whole")
    saved = torch.load(folder / "whole.pt", weights_only=True)
    shipped, own = (trained(path) for path in (WEIGHTS / "natural", folder / "shared"))
    assert saved["masters"].keys() == {f"vlm.{name}" for name in shipped.state_dict()} - {"vlm.decoder.lm_head.weight"}
    gaps = [
        (own.state_dict()[name].float() - value.float()).abs().mean() / value.float().abs().mean().clamp(min=1e-3)
        for name, value in shipped.state_dict().items()
    ]
    assert 0 < max(gaps) and sum(gap < 0.2 for gap in gaps) > 0.8 * len(gaps)
    with pytest.raises(SystemExit):
        train_natural.main(["whole", "--smoke", "--folder", str(folder)])
    assert "name a folder" in capsys.readouterr().err


def test_the_llama_of_the_independent_fusion_is_the_shipped_one(folder: Path) -> None:
    shipped, own = (trained(path) for path in (WEIGHTS / "natural", folder / "independent"))
    ours = [key for file in (folder / "independent").glob("*.safetensors") for key in load_file(file)]
    assert ours and all(key.startswith("fusion.") for key in ours)
    for key, value in shipped.decoder.state_dict().items():
        assert torch.equal(own.decoder.state_dict()[key], value), key
