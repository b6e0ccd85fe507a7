"""From names and parameters to methods."""

from dataclasses import fields
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from meteor_bench.core.errors import ConfigError
from meteor_bench.core.registry import METHODS
from meteor_bench.engine.make_method import checked, make_pruner
from meteor_bench.methods.e_adaprune import BASES, Base
from meteor_bench.methods.fastv import FastV
from meteor_bench.methods.shared.merging import InsideMerger
from meteor_bench.methods.shared.schedules import SCHEDULES
from meteor_bench.methods.sparsevlm import PUBLISHED, SparseVLM


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("metor",), "unknown method 'metor'; did you mean 'meteor'"),
        (("meteor", {"layr": 3}), "unknown parameter of method 'meteor' 'layr'; did you mean 'layer'"),
        (("none", {"k": 3}), "method 'none' has no parameters; 'k' was given"),
        (
            ("fastv", {"layer": "two"}),
            "parameter 'layer' of method 'fastv': expected a whole number, 1 or more, found 'two'",
        ),
        (("fastv", {"layer": True}), "a whole number, 1 or more, found True"),
        (("meteor", None, ["encode", "decod"]), "unknown stage 'decod'; did you mean 'decode'"),
        (("fastv", None, ["decode"]), "method 'fastv' has no stages to choose from"),
    ],
)
def test_mistakes_are_one_line_with_what_would_be_right(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_pruner(*arguments)  # type: ignore[arg-type]
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_stages_are_taken_in_the_order_of_the_model() -> None:
    pruner = make_pruner("meteor", stages=["decode", "encode"])
    assert pruner.parameters()["stages"] == ("encode", "decode")


# What the papers and the arithmetic allow: a value just outside of it, and what is said instead.
OUT_OF_RANGE = [
    ("fastv", "layer", 0, "a whole number, 1 or more"),
    ("dart", "layer", 0, "a whole number, 1 or more"),
    ("dart", "image_pivots", 0, "1 or more"),
    ("dart", "text_pivots", -1, "0 or more"),
    ("fastervlm", "block", 0, "-1 or less"),
    ("fastervlm", "average", "some", "one of all, sequence, lead"),
    ("visionzip", "contextual", 2.0, "in [0, 1]"),
    ("visionzip", "order", "x", "one of authors, spatial"),
    ("vispruner", "important", 1.5, "in [0, 1]"),
    ("vispruner", "step", 0, "1 or more"),
    ("prumerge+", "whisker", -1.0, "0 or more"),
    ("prumerge", "neighbours", -1, "0 or more"),
    ("prumerge", "order", "x", "one of authors, spatial"),
    ("holov", "crops", 0, "1 or more"),
    ("holov", "variance", -0.1, "0 or more"),
    ("svdprune", "energy", 0, "in (0, 1]"),
    ("e-adaprune", "base", "fastv", "one of fastervlm, visionzip"),
    ("sparsevlm", "version", "v3", "one of v1.5, v2"),
    ("evoprune", "schedule", "every", "one of skip, mean"),
    ("evoprune", "start", 2, "one of 0, 1"),
    ("evoprune", "protect", 1.5, "in [0, 1]"),
    ("evoprune", "neighbours", 0, "1 or more"),
    ("evoprune", "temperature", -0.5, "0 or more"),
    ("tome", "merge", "sum", "one of size, mean"),
    ("tome", "order", "random", "one of authors, spatial"),
    ("mustdrop", "window", 1, "2 or more"),
    ("mustdrop", "key_share", 1.1, "in [0, 1]"),
    ("mustdrop", "total", 0.0, "above 0"),
    ("mustdrop", "single", -0.1, "above 0"),
    ("mustdrop", "similar", float("nan"), "no finite number"),
    ("evoprune", "strength", float("inf"), "no finite number"),
    ("pyramiddrop", "stages_at", [], "a list"),
    ("pyramiddrop", "stages_at", [0.5, 1.0], "in (0, 1)"),
    ("meteor", "stages", ["fusion"], "one of encode, fuse, decode"),
    ("meteor", "stages", [], "1 or more"),
    ("meteor", "clamp", [2.0, 3.0], "in [0, 1]"),
    ("meteor", "clamp", [0.5], "a list of 2"),
    ("meteor", "energy", float("nan"), "in (0, 1]"),
    ("meteor", "fuse_power", 0, "in (0, 1]"),
    ("meteor", "head_share", 1.1, "in (0, 1]"),
    ("meteor", "depth", 1, "in (0, 1)"),
    ("meteor", "layer", 0, "1 or more"),
    ("meteor", "rank", "norm", "one of energy, entropy"),
]


@pytest.mark.parametrize(("method", "name", "value", "said"), OUT_OF_RANGE)
def test_a_value_out_of_range_is_one_line(method: str, name: str, value: object, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_pruner(method, {name: value})
    message = str(caught.value)
    assert message.startswith(f"parameter '{name}") and f"of method '{method}': expected " in message
    assert said in message and "\n" not in message


@pytest.mark.parametrize("method", METHODS.names())
def test_every_default_is_in_its_own_range(method: str) -> None:
    made = make_pruner(method)
    assert checked(made) == made
    assert make_pruner(method, {f.name: getattr(made, f.name) for f in fields(made)}) == made


def test_what_tables_hold_can_be_chosen() -> None:
    assert set(get_args(Base)) == set(BASES)
    assert set(get_args(get_type_hints(SparseVLM)["version"])) == set(PUBLISHED)
    assert set(get_args(get_type_hints(InsideMerger)["schedule"])) == set(SCHEDULES)


def test_an_instance_from_python_is_checked_too() -> None:
    with pytest.raises(ConfigError, match="'layer' of method 'FastV': expected a whole number, 1 or more, found 0"):
        checked(FastV(layer=0))


HEAD = "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom typing import Annotated, Literal\n"
METHOD = "from meteor_bench import Pruner, Range\n@dataclass(frozen=True)\nclass Mine(Pruner):\n    "


@pytest.mark.parametrize(
    ("field", "parameters", "said"),
    [
        ("share: Annotated[float, Range(above=0, most=1)] = 0.5", {"share": 2}, "in (0, 1], found 2"),
        ("kind: Literal['a', 'b'] = 'a'", {"kind": "c"}, "expected one of a, b, found 'c'"),
        ("where: complex = 0j", {}, "field 'where': complex is no type of a setting"),
        ("where: dict = None", {}, "field 'where': dict is no type of a setting"),
        ("where: Tensor = None", {}, "name 'Tensor' is not defined"),
    ],
)
def test_a_method_file_gets_the_same_checks(
    tmp_path: Path, field: str, parameters: dict[str, object], said: str
) -> None:
    (tmp_path / "mine.py").write_text(HEAD + METHOD + field + "\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        make_pruner(str(tmp_path / "mine.py"), parameters)
    assert said in str(caught.value) and "\n" not in str(caught.value) and "mine.py" in str(caught.value)
