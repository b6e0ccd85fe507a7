"""Hostile data sets: manifests, cards and rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.hostile.case import Case
from tests.hostile.readers import READERS, written
from tests.hostile.texts import CARDS


def manifests() -> Iterator[Case]:
    """Places outside the root."""
    file = {"path": "a", "size": 1}
    sound = {"commit": "c", "fetched": "f", "tasks": [], "files": []}
    for place in ("../out", "/etc", "a/../../b", "a\0b"):
        away = {**file, "path": place}
        for name, change in {
            "folder": {"archives": [{"folder": place, "parts": [file]}]},
            "part": {"archives": [{"folder": "a", "parts": [away]}]},
            "unpacked": {"archives": [{"folder": "a", "parts": [file], "unpacked": [away]}]},
            "file": {"files": [away]},
            "videos": {"videos": {place: [file]}},
            "video": {"videos": {"a": [away]}},
        }.items():
            text = json.dumps({"schema": 1, "repositories": {"o/r": {**sound, **change}}}).encode()
            yield Case("manifest", f"{name} {place!r}", READERS["manifest"](written(text)))
    bare = {"schema": 1, "repositories": {"o/r": {**sound, "archives": [{"folder": "a", "parts": []}]}}}
    yield Case("manifest", "no parts", READERS["manifest"](written(json.dumps(bare).encode())))


def cards() -> Iterator[Case]:
    for name, head in CARDS.items():

        def act(folder: Path, head: str = head) -> None:
            from meteor_bench.core.errors import DataError
            from meteor_bench.data.cards import Part, Unreadable, select, trimmed

            try:
                select(f"---\n{head}\n---\n", ["a.parquet"], Part(None, "test"))
                trimmed(f"---\n{head}\n---\n", [Part(None, "test")])
            except Unreadable as error:
                raise DataError(str(error)) from None

        yield Case("card", name, act, None)


def pictures() -> Iterator[Case]:
    """Rows whose pictures would come from elsewhere."""
    places = ["http://127.0.0.1:9/x.png", "zip://a::http://127.0.0.1:9/x.zip", "github://a:b@c/d", "/etc/hostname"]
    places += ["../x.png", "x.png", "hf://datasets/a/b/c.png", "file:///etc/hostname", "s3://a/b"]
    for place in places:
        picture: Any = {"bytes": None, "path": place}
        forms: dict[str, tuple[Any, str]] = {
            "struct": (picture, "dtype: image"),
            "list": ([picture], "list: image"),
            "nested": ({"picture": picture}, "struct: [{name: picture, dtype: image}]"),
            "text": (place, "dtype: image"),
            "texts": ([place], "list: image"),
            "sequence of texts": ([place], "sequence: image"),
            "text in a table": ({"picture": place}, "struct: [{name: picture, dtype: image}]"),
            "tables of text": ([{"picture": place}], "list: [{name: picture, dtype: image}]"),
        }
        for form, (value, declared) in forms.items():

            def act(folder: Path, value: Any = value, declared: str = declared) -> None:
                import pyarrow as pa
                import pyarrow.parquet as parquet

                from meteor_bench.data import suites
                from meteor_bench.data.root import check_files

                data = folder / "o" / "r"
                data.mkdir(parents=True)
                parquet.write_table(pa.table({"image": [value]}), data / "test.parquet")
                head = f"dataset_info: {{features: [{{name: image, {declared}}}]}}"
                (data / "README.md").write_text(f"---\n{head}\n---\n")
                made = suites.benchmark("pope")
                row = replace(made, dataset="o/r", config=None, split="test", n=1, also=(), videos=None)
                check_files(row, folder)

            yield Case("picture elsewhere", f"{form} {place}", act)
