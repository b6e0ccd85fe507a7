"""The published schema is the dataclasses', and says the same of a file as reading it does."""

from __future__ import annotations

import gzip
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from meteor_bench.config.run_config import RunConfig
from meteor_bench.records.json_schema import record_schema
from meteor_bench.records.schema import SCHEMA, RunRecord
from meteor_bench.utils.structuring import PlainError, fit
from scripts import record_schema as script
from tests import synthetic

REFERENCE = Path(__file__).parents[2] / "results" / "reference" / "pocket"


def test_the_published_file_is_up_to_date() -> None:
    assert script.FILE.read_text(encoding="utf-8") == script.text(), "run python scripts/record_schema.py"
    jsonschema.Draft202012Validator.check_schema(record_schema())


def test_the_page_about_records_names_the_version() -> None:
    page = (script.FILE.parents[1] / "README.md").read_text(encoding="utf-8")
    assert f"version {SCHEMA}, published as JSON Schema in [{script.FILE.name}](schema/{script.FILE.name})" in page
    keys = page.partition("## run.json")[2].partition("\n## ")[0]
    assert [field.name for field in fields(RunRecord) if f"`{field.name}`" not in keys] == []


def part(name: str) -> jsonschema.Draft202012Validator:
    """Validator of one definition."""
    return jsonschema.Draft202012Validator({**record_schema(), "$ref": f"#/$defs/{name}"})


def test_what_is_written_follows_it(tmp_path: Path) -> None:
    path = synthetic.write(RunConfig(method="meteor", ratio=0.5, stages=("fuse",), out=tmp_path), n=2)
    jsonschema.validate(json.loads((path / "run.json").read_bytes()), record_schema())
    lines = gzip.decompress((path / "samples.jsonl.gz").read_bytes()).splitlines()
    assert all(part("SampleRecord").is_valid(json.loads(line)) for line in lines) and len(lines) == 10
    lines = (path / "latency.jsonl").read_bytes().splitlines()
    assert all(part("LatencySample").is_valid(json.loads(line)) for line in lines) and len(lines) == 16


def test_descriptions_come_from_the_docstrings() -> None:
    task = record_schema()["$defs"]["TaskRecord"]
    assert task["description"] == "A benchmark's result."
    assert task["properties"]["score"]["description"] == "the headline metric on a scale of 0 to 100."
    run = record_schema()["$defs"]["RunRecord"]["properties"]
    assert run["started"]["description"] == run["finished"]["description"] == "UTC, ISO 8601."


def change(data: dict[str, Any], place: str, value: Any) -> None:
    *above, last = place.split(".")
    for step in above:
        data = data[int(step) if step.isdigit() else step]  # type: ignore[index]
    if value is ...:
        del data[last]
    else:
        data[last] = value


@pytest.mark.parametrize(
    ("place", "value", "right"),
    [
        ("checkpoint", ..., False),
        ("peak_memory", ..., True),
        ("peak_memory", None, True),
        ("peak_memory", "much", False),
        ("exact", 3, False),
        ("status", "finished", False),
        ("config.stages", ["encode"], True),
        ("config.stages", ["encoder"], False),
        ("config.limit", 2.5, False),
        ("tasks.0.score", 3, True),
        ("tasks.0.score", "3", False),
        ("tasks.0.colour", "red", False),
        ("tokens.towers.a.mean", None, False),
        ("tokens", None, True),
        ("facts", {"anything": [1, {"x": None}]}, True),
    ],
)
def test_it_agrees_with_reading(tmp_path: Path, place: str, value: Any, right: bool) -> None:
    path = synthetic.write(RunConfig(out=tmp_path), n=2)
    data = json.loads((path / "run.json").read_bytes())
    change(data, place, value)
    assert jsonschema.Draft202012Validator(record_schema()).is_valid(data) == right
    try:
        fit(data, RunRecord)
        assert right
    except PlainError:
        assert not right


def test_the_committed_records_follow_it_once_migrated() -> None:
    from meteor_bench.records.schema import migrated

    files = list(REFERENCE.glob("*/run.json"))
    assert len(files) >= 80
    validator = jsonschema.validators.validator_for(record_schema())(record_schema())
    for file in files:
        validator.validate(migrated(json.loads(file.read_bytes())))
