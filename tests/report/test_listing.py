"""What `list methods` reads from a file is what the methods say."""

from __future__ import annotations

import json

import pytest

from meteor_bench.core.registry import METHODS
from meteor_bench.report.listing import FACTS, fact_row


@pytest.mark.parametrize("name", json.loads(FACTS.read_text(encoding="utf-8")))
def test_the_facts_are_up_to_date(name: str) -> None:
    """Python scripts/method_facts.py writes them; a new method without a row there is listed all the same."""
    kept = json.loads(FACTS.read_text(encoding="utf-8"))[name]
    assert name in METHODS.rows and kept == json.loads(json.dumps(fact_row(METHODS.make(name))))
