"""What a sweep's flags and YAML mean, cell by cell, and what each mistake says."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from meteor_bench.config.run_config import Entry, RunConfig
from meteor_bench.config.sweep_config import SweepConfig, load
from meteor_bench.core.errors import ConfigError, UnknownNameError
from meteor_bench.core.registry import METHODS
from meteor_bench.runs.sweep.grid import cells, title


def write(folder: Path, text: str) -> Path:
    file = folder / "sweep.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_all_is_the_whole_table_with_the_unpruned_run_once() -> None:
    runs = cells(SweepConfig(methods=("all",), ratios=(0.5, 0.76, 0.889)))
    count = Counter(run.method for run in runs)
    assert set(count) == set(METHODS.names())
    assert count.pop("none") == 1 and count.pop("random") == 9 and count.pop("oc-vtp") == 9
    assert set(count.values()) == {3}
    assert runs[0] == RunConfig()
    assert sorted(run.seed for run in runs if run.method == "random" and run.ratio == 0.5) == [0, 1, 2]


def test_what_draws_has_all_seeds_and_the_others_the_first() -> None:
    entries = ("fastv", "random", Entry("meteor", {"fusion": "random"}), Entry("meteor"), "evoprune+random")
    runs = cells(SweepConfig(methods=entries, ratios=(0.5,), seeds=(4, 5)))
    seeds = {title(run).partition(" at")[0]: [] for run in runs}
    for run in runs:
        seeds[title(run).partition(" at")[0]].append(run.seed)
    assert seeds == {
        "unpruned": [0],
        "fastv": [4],
        "random": [4, 5],
        "meteor(fusion=random)": [4, 5],
        "meteor": [4],
        "evoprune+random": [4, 5],
    }


def test_models_and_suites_have_an_unpruned_run_each_and_named_tasks_stand_for_a_suite() -> None:
    many = SweepConfig(
        methods=("fastv",), ratios=(0.5,), models=("pocket", "pocket-independent"), suites=("ci", "pocket")
    )
    runs = cells(many)
    assert [(run.model, run.suite, run.method) for run in runs[:3]] == [
        ("pocket", "ci", "none"),
        ("pocket", "ci", "fastv"),
        ("pocket", "pocket", "none"),
    ]
    assert len(runs) == 8
    named = SweepConfig(methods=("fastv",), ratios=(0.5,), suites=("ci", "pocket"), tasks=("pocket_gqa",), limit=3)
    assert [(run.tasks, run.limit) for run in cells(named)] == [(("pocket_gqa",), 3)] * 2


def test_a_cell_that_is_asked_for_twice_is_run_once() -> None:
    twice = SweepConfig(methods=("all", "fastv", Entry("fastv")), ratios=(0.5, 0.5))
    assert len(cells(twice)) == len(cells(SweepConfig(methods=("all",), ratios=(0.5,))))


def test_yaml_then_flags(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "methods:\n- fastv\n- {method: meteor, parameters: {layer: 3}, stages: [encode], positions: keep}\n"
        "ratios: 0.5, 0.76\nmodels: pocket\nsuites: [ci]\nseeds: 1, 2\nlimit: 64\nlatency: no\nout: here\n",
    )
    config = load(file, {"ratios": [0.889], "limit": 8})
    assert config == SweepConfig(
        methods=("fastv", Entry("meteor", {"layer": 3}, ("encode",), "keep")),
        ratios=(0.889,),
        suites=("ci",),
        seeds=(1, 2),
        limit=8,
        latency=False,
        out=Path("here"),
    )
    run = cells(config)[-1]
    assert (run.method, dict(run.parameters), run.stages, run.positions) == (
        "meteor",
        {"layer": 3},
        ("encode",),
        "keep",
    )
    assert title(run) == "meteor[encode](layer=3, positions=keep) at 0.889, seed 1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("methds: all\n", "sweep.yaml:1: methds: unknown key 'methds'; did you mean 'methods'?"),
        ("methods: [fastv]\nsuite: ci\n", "sweep.yaml:2: suite: unknown key 'suite'; did you mean 'suites'?"),
        ("methods:\n- fastv\n- metor\n", "sweep.yaml:3: methods[1]: unknown method 'metor'; did you mean 'meteor'?"),
        ("methods:\n- method: metor\n", "sweep.yaml:2: methods[0]: unknown method 'metor'; did you mean 'meteor'?"),
        (
            "methods:\n- fastv\n- method: meteor\n  parametrs: {}\n",
            "sweep.yaml:4: methods[1].parametrs: unknown key 'parametrs'; did you mean 'parameters'?",
        ),
        ("methods:\n- {parameters: {}}\n", "sweep.yaml:2: methods[0].method: the key is missing"),
        (
            "methods:\n- {method: meteor, stages: [encoder]}\n",
            "methods[0].stages[0]: expected one of encode, fuse, decode",
        ),
        ("methods: all\nratios:\n- 0.5\n- 1.5\n", "sweep.yaml:4: ratios[1]: expected a number, in [0, 1), found 1.5"),
        ("methods: all\nratios: half\n", "sweep.yaml:2: ratios[0]: expected a number, in [0, 1), found 'half'"),
        ("models: [pokcet]\n", "sweep.yaml:1: models[0]: unknown model 'pokcet'; did you mean 'pocket'?"),
        ("suites: [pokcet]\n", "sweep.yaml:1: suites[0]: unknown suite 'pokcet'; did you mean 'pocket'?"),
        ("seeds: [-1]\n", "sweep.yaml:1: seeds[0]: expected a whole number, in [0, 2^63), found -1"),
        ("engine: dask\n", "sweep.yaml:1: engine: expected one of sequential, ray, found 'dask'"),
        ("gpu_share: 0\n", "sweep.yaml:1: gpu_share: expected a number, in (0, 64], found 0"),
        ("limit: 0\n", "sweep.yaml:1: limit: expected a whole number, 1 or more or nothing, found 0"),
        ("latency: maybe\n", "sweep.yaml:1: latency: expected true or false, found 'maybe'"),
        ("methods: all\nmethods: fastv\n", "sweep.yaml:2: key 'methods' is given twice"),
        ("ratios: [0.5]\n", "a sweep needs methods; say --methods fastv,meteor (or all)"),
        ("methods: all\n", "a sweep needs ratios; say --ratios 0.5,0.76"),
        ("methods: all\nratios: [0.5]\nseeds: []\n", "a sweep needs seeds"),
    ],
)
def test_a_mistake_in_yaml_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, text), {})
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_parameter_that_a_method_does_not_have() -> None:
    config = SweepConfig(methods=(Entry("fastv", {"layr": 2}),), ratios=(0.5,))
    with pytest.raises(UnknownNameError, match="did you mean 'layer'"):
        cells(config)
