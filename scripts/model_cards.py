"""Write what `list models` shows (meteor_bench/models/cards.json) anew: `python scripts/model_cards.py`."""

from __future__ import annotations

import json
from typing import Any

from meteor_bench.core.registry import MODELS
from meteor_bench.models.sizes import measure
from meteor_bench.report.listing import CARDS, card_row
from meteor_bench.utils.progress import track


def row(name: str) -> dict[str, Any]:
    """A card with what the model costs."""
    card = MODELS.load(name)
    return {**card_row(card), "cost": None if card.random is None else measure(card)}


def main() -> None:
    """Every row of our own."""
    rows = {}
    with track("models", len(MODELS.rows)) as update:
        for done, name in enumerate(MODELS.rows, 1):
            rows[name] = row(name)
            update(done)
    CARDS.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
