"""The whole path of training on a few pictures: it goes on where it was, and what it writes is a model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from meteor_bench.models.natural.model import load
from scripts import train_natural
from scripts.natural.world import FAMILY_BENCHMARK, make, split_rng


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("natural")


def run(folder: Path, phase: str) -> None:
    train_natural.main([phase, "--smoke", "--folder", str(folder), "--weights", str(folder / "weights")])


def test_what_is_trained_can_be_run_and_its_card_has_every_family(folder: Path) -> None:
    run(folder, "all")
    vlm = load("cpu", torch.float32, folder / "weights")
    frames = [Image.fromarray(frame) for frame in make("clip", split_rng("test", 0), "test").image]
    pixels = vlm.processor.pixels(frames)
    assert pixels.shape == (4, 3, 112, 112)
    card = (folder / "weights" / "README.md").read_text(encoding="utf-8")
    assert all(f"| {benchmark} | {family} |" in card for family, benchmark in FAMILY_BENCHMARK.items())
    assert "{" not in card
    assert all(file.stat().st_size < 4e6 for file in (folder / "weights").glob("*.safetensors"))


def test_a_finished_phase_is_not_run_again(folder: Path) -> None:
    steps = [torch.load(folder / f"{name}.pt", weights_only=True)["step"] for name in ("symbolic", "joint")]
    run(folder, "joint")
    assert [torch.load(folder / f"{name}.pt", weights_only=True)["step"] for name in ("symbolic", "joint")] == steps
