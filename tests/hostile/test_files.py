"""The readers themselves, against arbitrary bytes: what they give is what the plain library gives, or one error."""

from __future__ import annotations

import gzip
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from meteor_bench.utils import safe_files, safe_yaml
from meteor_bench.utils.safe_files import UnsafeFile, gunzip, json_lines, json_value, open_lock, read_bytes

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(-1e300, 1e300) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(VALUES, max_size=6))
def test_json_lines_give_back_what_was_written(rows: list[Any]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    assert [row for _, row in json_lines(io.BytesIO(text))] == rows
    assert [row for _, row in json_lines(gunzip(io.BytesIO(gzip.compress(text))))] == rows  # type: ignore[arg-type]


@given(st.binary(max_size=200))
def test_any_bytes_are_json_or_one_error(content: bytes) -> None:
    said = None
    try:
        found = json_value(content)
    except UnsafeFile as error:
        said = str(error)
    if said is not None:
        assert "\n" not in said
        return
    assert json.dumps(found) == json.dumps(json.loads(content.decode("utf-8-sig")))


@given(VALUES)
def test_yaml_that_was_written_is_read_as_the_library_reads_it(value: Any) -> None:
    text = yaml.safe_dump(value)
    assert safe_yaml.data(text) == yaml.safe_load(text) == value


@given(st.text(alphabet="ab01 \n:-[]{}&*!<>#|\"',?~.e%@`\t\\", max_size=60))
@settings(max_examples=150)
def test_any_text_is_yaml_or_one_error(text: str) -> None:
    said = None
    try:
        found = safe_yaml.data(text)
    except UnsafeFile as error:
        said = str(error)
    if said is not None:
        assert "\n" not in said
        return
    json.dumps(found, allow_nan=False, default=None) if not isinstance(found, dict) else None


def test_a_number_in_scientific_notation_and_a_date_are_what_people_mean() -> None:
    assert safe_yaml.data("a: 1e-3\nb: 2020-01-01\nc: 0x1f") == {"a": 1e-3, "b": "2020-01-01", "c": 31}
    assert safe_yaml.data("a: &x [1]\nb: *x") == {"a": [1], "b": [1]}, "anchors are no bombs"


@pytest.mark.parametrize("depth", [safe_files.DEPTH - 2, safe_files.DEPTH + 2])
def test_depth_is_limited_alike(depth: int) -> None:
    text = "[" * depth + "]" * depth
    for read in (json_value, safe_yaml.data):
        if depth > safe_files.DEPTH:
            with pytest.raises(UnsafeFile, match="nests more than 64 levels"):
                read(text)
        else:
            assert read(text) == json.loads(text)


def test_unpacking_stops_at_the_limit() -> None:
    packed = io.BytesIO(gzip.compress(b'{"a": 1}\n' * 100_000))
    read = []
    with pytest.raises(UnsafeFile, match="larger than 0 MiB"):
        read += [row for _, row in json_lines(gunzip(packed), limit=9 * 100)]  # type: ignore[arg-type]
    assert packed.tell() < 20_000


def test_a_file_beyond_its_limit_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "large"
    with file.open("wb") as stream:
        stream.truncate(1 << 40)  # a terabyte, of nothing
    with pytest.raises(UnsafeFile, match="larger than 64 MiB"):
        read_bytes(file)


def test_a_lock_never_truncates_nor_follows(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("kept")
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    (tmp_path / "hanging").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "fifo")
    for name in ("link", "hanging", "fifo"):
        with pytest.raises(UnsafeFile):
            open_lock(tmp_path / name)
    with open_lock(tmp_path / "mine"):
        assert (tmp_path / "mine").read_text() == "kept"
    assert not (tmp_path / "nowhere").exists()
