"""A method with settings as one text."""

from __future__ import annotations

from pathlib import Path

import pytest

from meteor_bench.config.entries import entry
from meteor_bench.config.run_config import Entry, RunConfig
from meteor_bench.config.spec import read_text
from meteor_bench.config.sweep_config import SweepConfig, load
from meteor_bench.core.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fastv", "fastv"),
        ("evoprune+fastv", "evoprune+fastv"),
        ("meteor(budgets=uniform)", {"method": "meteor", "parameters": {"budgets": "uniform"}}),
        ("fastv( layer = 3 )", {"method": "fastv", "parameters": {"layer": 3}}),
        ("meteor[encode, fuse]", {"method": "meteor", "stages": ["encode", "fuse"], "parameters": {}}),
        (
            "meteor[fuse](clamp=[0.5, 2], positions=keep)",
            {"method": "meteor", "stages": ["fuse"], "positions": "keep", "parameters": {"clamp": [0.5, 2]}},
        ),
    ],
)
def test_a_text_is_a_name_or_the_keys_of_an_entry(text: str, expected: object) -> None:
    assert entry(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("meteor(budgets=uniform", "expected NAME"),
        ("(budgets=uniform)", "expected NAME"),
        ("meteor(budgets)", r"meteor\(...\) takes name=value, not 'budgets'"),
        ("meteor(layer=1, layer=2)", r"meteor\(...\) layer is given twice: 1 and 2"),
    ],
)
def test_what_is_none_is_said(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        entry(text)


def test_commas_in_brackets_part_nothing() -> None:
    text = "fastv, meteor[encode,fuse](clamp=[0.5, 2], layer=3),random, evoprune(temporal=true)"
    parts = read_text(SweepConfig, "methods", text)
    assert [part if isinstance(part, str) else part["method"] for part in parts] == [
        "fastv",
        "meteor",
        "random",
        "evoprune",
    ]
    assert parts[1]["stages"] == ["encode", "fuse"]
    assert parts[1]["parameters"] == {"clamp": [0.5, 2], "layer": 3}


@pytest.mark.parametrize(
    "one",
    [
        Entry("meteor", {"budgets": "uniform", "fuse_power": 0.5}),
        Entry("meteor", {"layer": 3}, ("encode", "fuse"), "keep"),
        Entry("evoprune+fastv", {"layer": 2}),
    ],
)
def test_what_tables_call_a_method_can_be_given_back(one: Entry) -> None:
    label = RunConfig(
        method=one.method, parameters=one.parameters, stages=one.stages, positions=one.positions, ratio=0.5
    ).label
    flags = {"methods": read_text(SweepConfig, "methods", f"random,{label}"), "ratios": [0.5]}
    assert load(None, flags).methods == ("random", one)


def test_a_file_says_it_as_the_command_line_does(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text("methods: fastv, meteor(budgets=uniform)\nratios: 0.5,0.76\nseeds: 1,2\n", encoding="utf-8")
    made = load(file, {"seeds": [1]})
    assert made.methods == ("fastv", Entry("meteor", {"budgets": "uniform"})) and made.ratios == (0.5, 0.76)


def test_a_name_in_no_table_is_said_with_its_settings_too() -> None:
    with pytest.raises(ConfigError, match="unknown method 'metor'; did you mean 'meteor'"):
        load(None, {"methods": read_text(SweepConfig, "methods", "metor(layer=3)"), "ratios": [0.5]})
