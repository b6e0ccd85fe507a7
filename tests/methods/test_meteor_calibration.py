"""METEOR's calibration against brute force."""

from __future__ import annotations

import pytest
import torch

from meteor_bench.methods.meteor.calibration import adaptive_count, solve_lambda
from meteor_bench.methods.meteor.method import Meteor
from tests.methods.test_meteor import stage3_views, tower_views


def test_lambda_meets_the_mean_target() -> None:
    g = torch.Generator().manual_seed(0)
    for target in (4, 28, 61, 128, 256):
        mass = torch.rand(200, generator=g) + 0.2
        targets, lows, highs = (torch.full((200,), v) for v in (target, max(1, target // 4), 256))
        value = solve_lambda(mass, targets, lows, highs)
        counts = adaptive_count(value, mass, lows, highs).double()
        assert abs(float(counts.mean()) - target) < 0.02
        assert counts.min() >= lows[0] and counts.max() <= 256


def test_lambda_by_brute_force() -> None:
    mass = torch.tensor([0.3, 0.5, 0.9])
    targets, lows, highs = torch.tensor([10, 10, 10]), torch.ones(3, dtype=torch.long), torch.full((3,), 40)
    value = solve_lambda(mass, targets, lows, highs)
    best = min(
        abs(sum(min(max(int(v * m + 0.5), 1), 40) for m in mass.tolist()) / 3 - 10)
        for v in [i / 1000 for i in range(80000)]
    )
    got = abs(float(adaptive_count(value, mass, lows, highs).double().mean()) - 10)
    assert got == pytest.approx(best, abs=1e-9)


def test_lambda_out_of_reach_goes_to_the_limit() -> None:
    ones = torch.ones(3, dtype=torch.long)
    value = solve_lambda(torch.full((3,), 0.5), 50 * ones, ones, 9 * ones)
    assert adaptive_count(value, torch.full((3,), 0.5), ones, 9 * ones).tolist() == [9, 9, 9]


def test_calibration_measures_what_is_needed_and_fits_it() -> None:
    assert Meteor().calibration == ("encode", "decode")
    assert Meteor(budgets="uniform", stage3="fixed").calibration == ()
    assert Meteor(stages=("fuse", "decode")).calibration == ("decode",)
    assert not Meteor().exact and Meteor(stage3="fixed").exact and Meteor(stages=("encode", "fuse")).exact

    seen = stage3_views([8, 8, 8])
    observed = Meteor().observe_decode(seen)
    facts = Meteor().fit("decode", observed)
    assert facts["meteor.calibrated"]["mean"] == pytest.approx(8, abs=1)
    kept = Meteor().decode(seen.changed(facts=facts)).keep.sum(1)
    assert float(kept.double().mean()) == facts["meteor.calibrated"]["mean"]

    views = tower_views(1, 0.5, {"a": [64, 64], "b": [64, 64], "c": [16, 16]}, {})
    observed = {k: v for name in views for k, v in Meteor().observe_encode(views[name]).items()}
    shifted = {k.replace("rank.1.", "rank.0."): v for k, v in observed.items()}
    ranks = Meteor().fit("encode", {**observed, **shifted})["meteor.ranks"]
    assert [set(r) for r in ranks] == [{"a", "b", "c"}] * 2 and all(v > 0 for r in ranks for v in r.values())


def test_lambda_keeps_away_from_the_edges_of_its_step() -> None:
    g = torch.Generator().manual_seed(1)
    for target in (3, 17, 64):
        mass = torch.rand(12, generator=g) + 0.2
        targets, lows, highs = (torch.full((12,), v) for v in (target, 1, 64))
        value = solve_lambda(mass, targets, lows, highs)
        counts = adaptive_count(value, mass, lows, highs)
        for factor in (1 - 1e-5, 1 + 1e-5):
            assert torch.equal(adaptive_count(factor * value, mass, lows, highs), counts)
