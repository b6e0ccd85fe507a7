"""Method parameters through lmms-eval's command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lmms_eval.utils import simple_parse_args_string

from meteor_bench.config.run_config import RunConfig, load
from meteor_bench.core.errors import ConfigError
from meteor_bench.lmms.model_args import settings


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("method=fastv,ratio=0.5,layer=3", {"method": "fastv", "ratio": 0.5, "parameters": {"layer": 3}}),
        (
            'method=fastv,ratio=0.5,parameters={"layer": 3}',
            {"method": "fastv", "ratio": 0.5, "parameters": {"layer": 3}},
        ),
        (
            'method=meteor,ratio=0.5,parameters={"depth": 0.5, "clamp": [0.5, 2]},stages=encode+fuse',
            {
                "method": "meteor",
                "ratio": 0.5,
                "parameters": {"depth": 0.5, "clamp": [0.5, 2]},
                "stages": ("encode", "fuse"),
            },
        ),
        (
            "method=visionzip,ratio=0.5,block=-1,order=spatial",
            {"method": "visionzip", "ratio": 0.5, "parameters": {"block": -1, "order": "spatial"}},
        ),
        (
            "method=evoprune+fastv,ratio=0.5,fastv.layer=3,evoprune.share=2",
            {"method": "evoprune+fastv", "ratio": 0.5, "parameters": {"fastv.layer": 3, "evoprune.share": 2}},
        ),
        ("method=meteor,ratio=0.5,stages=fuse", {"method": "meteor", "ratio": 0.5, "stages": ("fuse",)}),
    ],
)
def test_what_lmms_eval_hands_on_is_understood(text: str, expected: dict[str, Any]) -> None:
    assert load(None, settings(simple_parse_args_string(text))) == RunConfig(**expected)


def test_a_name_that_is_taken_is_refused_and_can_be_said_as_json(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from dataclasses import dataclass\nfrom meteor_bench import Pruner\n"
        "@dataclass(frozen=True)\nclass Mine(Pruner):\n    seed: int = 0\n    other: int = 1\n",
        encoding="utf-8",
    )
    with pytest.raises(ConfigError, match=r"'seed' is a setting of the run and a parameter of method .*; for the"):
        settings({"method": str(file), "ratio": 0.5, "seed": 3})
    found = settings({"method": str(file), "ratio": 0.5, "seed": 3, "parameters": '{"seed": 4}', "other": 2})
    assert (found["seed"], found["parameters"]) == (3, {"seed": 4, "other": 2})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"method": "fastv", "layr": 3}, "unknown model argument 'layr'; did you mean 'layer'"),
        ({"method": "fastv", "parameters": "layer"}, "parameters must be a table, say parameters={"),
        ({"method": "fastv", "limit": 3}, "'limit' is not the model's to know; give lmms-eval's own --limit"),
        ({"metod": "fastv"}, "unknown model argument 'metod'; did you mean 'method'"),
    ],
)
def test_mistakes_are_one_line(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings(given)
    assert said in str(caught.value) and "\n" not in str(caught.value)
