"""Training a pruner: the whole path, and that an interruption changes nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from meteor_bench.core.tokens import Grid
from meteor_bench.engine.factory import build
from scripts.oc_vtp.reconstruct import Reconstructor, area_weighted_error, visible
from scripts.train_oc_vtp import Recipe, Training, pocket_pictures

ROOT = Path(__file__).resolve().parents[2]


def test_the_error_weighs_tokens_of_small_slots_more() -> None:
    g = torch.Generator().manual_seed(0)
    x, found = torch.randn(2, 3, 12, 5, generator=g).unbind(0)
    attention = torch.randn(3, 4, 12, generator=g).softmax(1)
    total = 0.0
    for b in range(3):
        owner = [max(range(4), key=lambda k: float(attention[b, k, n])) for n in range(12)]
        weight = [min((owner.count(k) / 12) ** -0.5, 10.0) if owner.count(k) else 10.0 for k in range(4)]
        token = [sum(float(attention[b, k, n]) * weight[k] for k in range(4)) for n in range(12)]
        error = [float((found[b, n] - x[b, n]).double().square().mean()) for n in range(12)]
        total += sum(t * e for t, e in zip(token, error, strict=True)) / sum(token) / 3
    assert float(area_weighted_error(found, x, attention)) == pytest.approx(total, rel=1e-5)


def test_tokens_in_sight() -> None:
    seen = visible(400, 50, torch.Generator().manual_seed(0)).sum(1)
    assert 0.35 < float((seen == 5).double().mean()) < 0.65 and seen.max() > 40 and seen.min() < 5


def test_gradients_reach_the_slots_start_and_learning_lowers_the_error() -> None:
    torch.manual_seed(0)
    model = Reconstructor(8, Grid(1, 4, 4))
    g = torch.Generator().manual_seed(1)
    x = torch.randn(6, 3, 8, generator=g).repeat_interleave(6, 1)[:, :16] * 2
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    errors: list[float] = []
    for _ in range(60):
        found, attention = model(x, Grid(1, 4, 4), 4, g)
        loss = area_weighted_error(found, x, attention)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        errors.append(loss.item())
    start = model.pruner.mean.grad
    assert start is not None and bool(start.abs().sum() > 0)
    assert sum(errors[-10:]) < 0.75 * sum(errors[:10])


@pytest.mark.slow
def test_an_interrupted_training_ends_where_it_would_have(tmp_path: Path) -> None:
    vlm, recipe = build("pocket", "none").vlm, Recipe(steps=4, batch=1, warm_up=1, save_every=2)

    def weights(training: Training) -> dict[str, Tensor]:
        training.run(pocket_pictures(0))
        return training.models.state_dict()

    whole = weights(Training(vlm, recipe, tmp_path / "whole.pt"))
    half = Training(vlm, recipe, tmp_path / "half.pt")
    while half.step < 2:
        half.learn(pocket_pictures(0))
        half.step += 1
    half.save()
    resumed = Training(vlm, recipe, tmp_path / "half.pt")
    assert resumed.step == 2
    rest = weights(resumed)
    assert all(torch.equal(whole[name], rest[name]) for name in whole)
    with pytest.raises(SystemExit, match="another recipe"):
        Training(vlm, Recipe(steps=5), tmp_path / "half.pt")


@pytest.mark.slow
def test_smoke_leaves_a_pruner_that_runs(tmp_path: Path) -> None:
    command = [sys.executable, "scripts/train_oc_vtp.py", "--smoke", "--folder", str(tmp_path / "train")]
    subprocess.run([*command, "--out", str(tmp_path / "out")], cwd=ROOT, check=True, timeout=600)
    assert (tmp_path / "out" / "model.safetensors").stat().st_size < 1_000_000
    assert all(bool(value.isfinite().all()) for value in load_file(tmp_path / "out" / "model.safetensors").values())
    assert "| a | 61 of 256 |" in (tmp_path / "out" / "README.md").read_text()
    session = build("pocket", "oc-vtp", ratio=0.76, parameters={"weights": str(tmp_path / "out")})
    assert len(session.provenance["parameters"]["digest"]) == 64
