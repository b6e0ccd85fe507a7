"""Settings from flags and YAML: what wins, and what each mistake says."""

from __future__ import annotations

from pathlib import Path

import pytest

from meteor_bench.config.run_config import RunConfig, load
from meteor_bench.config.yaml_settings import Parameter, names, parameter
from meteor_bench.core.errors import ConfigError


def write(folder: Path, text: str) -> Path:
    file = folder / "run.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_defaults() -> None:
    assert load(None, {}) == RunConfig()


def test_yaml_then_flags(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "method: fastv\nratio: 0.5\nparameters: {layer: 3, other: 1e-3}\ntasks: pocket_gqa, pocket_pope\nout: here\n",
    )
    config = load(file, {"ratio": 0.76, "parameters": {"layer": 4}, "stages": ["decode"]})
    assert config == RunConfig(
        method="fastv",
        ratio=0.76,
        parameters={"layer": 4, "other": 0.001},
        tasks=("pocket_gqa", "pocket_pope"),
        stages=("decode",),
        out=Path("here"),
    )


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    assert load(write(tmp_path, "# nothing yet\n"), {}) == RunConfig()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: pocket\nration: 0.5\n", "run.yaml:2: ration: unknown key 'ration'; did you mean 'ratio'?"),
        (
            "data: photos.jsonl\n",
            "run.yaml:1: data: unknown key 'data'; questions of your own stand in: tasks: [photos.jsonl]",
        ),
        ("seed: 1\ndata: photos\nask: what is it\n", "own stand in: tasks: ['photos/: what is it']"),
        (
            "ask: what is it\n",
            "run.yaml:1: ask: unknown key 'ask'; questions of your own stand in: tasks: ['pictures/: what",
        ),
        ("data: .\n", "own stand in: tasks: [./]"),
        ("method: fastv\nratio: lots\n", "run.yaml:2: ratio: expected a number, in [0, 1), found 'lots'"),
        ("method: fastv\nratio: yes\n", "run.yaml:2: ratio: expected a number, in [0, 1), found True"),
        ("method: fastv\nratio: .nan\n", "run.yaml:2: not valid YAML: .nan is no finite number"),
        ("method: fastv\n\nratio: 1.5\n", "run.yaml:3: ratio: expected a number, in [0, 1), found 1.5"),
        ("limit: 2.5\n", "run.yaml:1: limit: expected a whole number, 1 or more or nothing, found 2.5"),
        ("tasks:\n- pocket_gqa\n- 3\n", "run.yaml:3: tasks[1]: expected text, found 3"),
        (
            "tasks:\n- pocket_gqa\n- pocket_popo\n",
            "run.yaml:1: tasks: unknown task 'pocket_popo'; did you mean ",
        ),
        ("method: metor\n", "run.yaml:1: method: unknown method 'metor'; did you mean 'meteor'?"),
        ("seed: 1\nseed: 2\n", "run.yaml:2: key 'seed' is given twice"),
        ("parameters:\n  layer: 1\n  layer: 2\n", "run.yaml:3: key 'layer' is given twice"),
        ("parameters: 3\n", "run.yaml:1: parameters: expected a table of keys and values, found 3"),
        ("positions: sideways\n", "run.yaml:1: positions: expected one of keep, renumber or nothing, found 'sideways'"),
        ("- method\n", "run.yaml:1: expected keys and values, one 'key: value' a line"),
        ("seed: [1\nmodel: x\n", "run.yaml:2: not valid YAML:"),
        ("out: !!python/object/apply:os.system ['true']\n", "run.yaml:1: not valid YAML: the tag tag:yaml.org"),
        ("a: 1\n---\nb: 2\n", "run.yaml:2: not valid YAML:"),
        ("device: tpu\n", "run.yaml:1: device: unknown device 'tpu'; one of auto, cpu, mps, cuda, cuda:<number>"),
        ("? [a, b]\n: 1\n", "run.yaml:1: not valid YAML:"),
    ],
)
def test_a_mistake_in_yaml_names_file_line_and_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, text), {})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "none.yaml", {})
    with pytest.raises(ConfigError, match="Is a directory"):
        load(tmp_path, {})
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(binary, {})


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"ratio": float("nan"), "method": "fastv"}, "--ratio: expected a number, in [0, 1), found nan"),
        ({"ratio": -0.1, "method": "fastv"}, "--ratio: expected a number, in [0, 1), found -0.1"),
        ({"ratio": 1.0, "method": "fastv"}, "--ratio: expected a number, in [0, 1), found 1.0"),
        ({"method": "fastv"}, "method 'fastv' needs --ratio"),
        ({"ratio": 0.5}, "method 'none' removes nothing"),
        ({"model": "poket"}, "unknown model 'poket'; did you mean 'pocket'?"),
        ({"suite": "pockets"}, "unknown suite 'pockets'; did you mean 'pocket'?"),
        ({"batch_size": 0}, "--batch-size: expected a whole number, 1 or more, found 0"),
        ({"limit": -1}, "--limit: expected a whole number, 1 or more, found -1"),
        ({"seed": -1}, "--seed: expected a whole number, in [0, 2^63), found -1"),
        ({"stages": ["encode", "fuze"]}, "stages[1]: expected one of encode, fuse, decode, found 'fuze'"),
        ({"dtype": "int8"}, "dtype: expected one of auto, float32, bfloat16, float16, found 'int8'"),
    ],
)
def test_a_mistake_in_a_flag(flags: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, flags)
    assert message in str(caught.value)


def test_ratio_zero_is_allowed_when_it_is_said() -> None:
    assert load(None, {"method": "fastv", "ratio": 0}).ratio == 0.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("layer=3", Parameter("layer", 3)),
        ("tau=1e-3", Parameter("tau", 0.001)),
        ("relax=true", Parameter("relax", True)),
        ("name=a=b", Parameter("name", "a=b")),
        ("clamp=[0.5, 2]", Parameter("clamp", [0.5, 2])),
        ("lead=null", Parameter("lead", None)),
    ],
)
def test_parameter(text: str, expected: Parameter) -> None:
    assert parameter(text) == expected


@pytest.mark.parametrize("text", ["layer", "=3", "x=[1", "lead=", "lead= "])
def test_parameter_mistakes(text: str) -> None:
    with pytest.raises(ConfigError):
        parameter(text)


def test_names() -> None:
    assert names(" a, b,,c ") == ["a", "b", "c"]


def test_the_unpruned_run_does_not_depend_on_the_method() -> None:
    one = RunConfig(method="random", ratio=0.5, seed=3, parameters={"x": 1}, limit=8)
    two = RunConfig(method="meteor", ratio=0.76, stages=("encode",), positions="keep", limit=8)
    assert one.unpruned() == two.unpruned() == RunConfig(limit=8)


def test_what_a_ratio_is_of(tmp_path: Path) -> None:
    file = write(tmp_path, "method: fastv\nratio: 0.5\nmatch: kv\n")
    assert load(file, {}).match == "kv"
    config = load(file, {"match": "layer-mean"})
    assert config.share == "0.5 of tokens over the layers" and config.unpruned().match == "tokens"
    assert load(None, {"method": "fastv", "ratio": 0.5}).share == "0.5"
    with pytest.raises(ConfigError, match=r"expected .*tokens.*layer-mean.*kv.*flops"):
        load(None, {"method": "fastv", "ratio": 0.5, "match": "macs"})
    with pytest.raises(ConfigError, match="method 'none' removes nothing; leave --match kv out"):
        load(None, {"match": "kv"})
