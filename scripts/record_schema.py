"""Write the layout of a results folder as JSON Schema: results/schema/record-<version>.json.

    python scripts/record_schema.py

`tests/records/test_json_schema.py` fails when the file is not what the dataclasses of `meteor_bench.records.schema`
give.
"""

from __future__ import annotations

import json
from pathlib import Path

from meteor_bench.records.json_schema import record_schema
from meteor_bench.records.schema import SCHEMA

FILE = Path(__file__).parents[1] / "results" / "schema" / f"record-{SCHEMA}.json"


def text() -> str:
    """The file's content."""
    return json.dumps(record_schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(text(), encoding="utf-8")
