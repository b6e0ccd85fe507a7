"""Write what `list methods` shows (meteor_bench/methods/facts.json) anew: `python scripts/method_facts.py`."""

from __future__ import annotations

import json

from meteor_bench.core.registry import METHODS
from meteor_bench.report.listing import FACTS, fact_row


def main() -> None:
    """Every row of our own."""
    rows = {name: fact_row(METHODS.make(name)) for name in METHODS.rows}
    FACTS.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
