"""What jobs of one process share."""

from __future__ import annotations

from dataclasses import replace

from meteor_bench.config.run_config import RunConfig
from meteor_bench.models.pocket.model import WEIGHTS
from meteor_bench.runs.model_cache import ModelCache

FASTV = RunConfig(method="fastv", ratio=0.5, device="cpu")


def test_a_model_is_loaded_once() -> None:
    shared = ModelCache()
    first = shared.blueprint(FASTV)
    assert shared.blueprint(replace(FASTV, method="random", ratio=0.76, seed=3)).vlm is first.vlm
    assert shared.blueprint(FASTV.unpruned()).vlm is first.vlm
    for other in ({"dtype": "bfloat16"}, {"source": str(WEIGHTS / "pocket")}, {"model": "pocket-independent"}):
        assert shared.blueprint(replace(FASTV, **other)).vlm is not first.vlm


def test_the_model_used_longest_ago_is_let_go() -> None:
    shared = ModelCache()
    pocket = shared.blueprint(FASTV)
    independent = shared.blueprint(replace(FASTV, model="pocket-independent"))
    assert shared.blueprint(FASTV).vlm is pocket.vlm
    shared.blueprint(replace(FASTV, dtype="bfloat16"))
    assert shared.blueprint(FASTV).vlm is pocket.vlm
    assert shared.blueprint(replace(FASTV, model="pocket-independent")).vlm is not independent.vlm


def test_a_blueprint_says_where_its_code_lives() -> None:
    blueprint = ModelCache().blueprint(FASTV)
    assert {"meteor_bench.models.pocket.model", "meteor_bench.models.towers"} <= set(blueprint.modules)
    assert all(name.startswith("meteor_bench.models.") for name in blueprint.modules)
    assert "facts" not in blueprint.provenance and blueprint.provenance["checkpoint"] == blueprint.vlm.digest
