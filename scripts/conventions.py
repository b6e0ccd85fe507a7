"""What "192 tokens" is in each paper, on the shape of LLaVA-1.5-7B: the table of docs/conventions.md.

    python scripts/conventions.py

Each row is a published schedule: how many visual tokens enter which layers of the language model. Counts and FLOPs are
closed forms of the real model's layers, built without weights; 42 tokens of text (template and question), no selection.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from meteor_bench.core.match import Left, Measure, realised
from meteor_bench.core.model import VLM
from meteor_bench.core.registry import MODELS
from meteor_bench.core.tower_flops import tower_flops

PAGE = Path(__file__).parents[1] / "docs" / "conventions.md"
BEGIN, END = "<!-- python scripts/conventions.py -->\n", "<!-- end -->\n"
TEXT = 42
N = 576


@dataclass(frozen=True)
class Published:
    """A row.

    Attributes:
        says: the number that the paper's tables print.
        left: layer -> visual tokens from that layer's input on.
    """

    method: str
    paper: str
    says: str
    left: Mapping[int, int]


def _fastv(average: int) -> int:
    """Tokens behind layer 2 for which the mean over 32 layers is the number that is printed."""
    return round((32 * average - 2 * N) / 30)


ROWS = (
    Published("unpruned", "arXiv 2310.03744", "576", {0: N}),
    Published("FastV, K = 2, half of the tokens", "arXiv 2403.06764", "50 %", {0: N, 2: N // 2}),
    *(Published("FastV in others' tables", "arXiv 2410.04417", f"{n}", {0: N, 2: _fastv(n)}) for n in (192, 128, 64)),
    *(
        Published("SparseVLM, pruned behind layers 2, 6, 15", "arXiv 2410.04417", f"{n}", {0: N, 3: a, 7: b, 16: c})
        for n, a, b, c in ((192, 309, 204, 113), (128, 312, 117, 39), (64, 82, 32, 18))
    ),
    *(
        Published("the same, pruned before them", "arXiv 2410.04417", f"{n}", {0: N, 2: a, 6: b, 15: c})
        for n, a, b, c in ((192, 309, 204, 113), (128, 312, 117, 39), (64, 82, 32, 18))
    ),
    Published("PyramidDrop, 1/2 at each stage", "arXiv 2410.17247", "-", {0: N, 8: N // 2, 16: N // 4, 24: N // 8}),
    *(Published("VisionZip", "arXiv 2412.04467", f"{n}", {0: n}) for n in (192, 128, 64)),
    Published("PruMerge+, on average a quarter", "arXiv 2403.15388", "144", {0: N // 4}),
    Published(
        "METEOR's shares of 1024: 576, then 242", "arXiv 2507.20842", "242", {0: N * 576 // 1024, 19: N * 242 // 1024}
    ),
)


def llava() -> VLM:
    """LLaVA-1.5-7B at its real size, without weights."""
    card = MODELS.load("llava-1.5-7b")
    built: VLM = card.random("meta", torch.float16)
    return built


def layers(row: Published, depth: int) -> list[int]:
    """Visual tokens at the input of each layer."""
    found: list[int] = []
    for layer in range(depth):
        found.append(row.left[layer] if layer in row.left else found[-1])
    return found


def flops(vlm: VLM, counts: list[int]) -> int:
    """To the first token."""
    (tower,) = vlm.towers.values()
    side = vlm.native
    encoder = tower_flops(tower, *side)
    fusion = vlm.fusion.flops({"clip": counts[0]})
    prefill = sum(vlm.decoder.flops_at(i, n + TEXT, n + TEXT) for i, n in enumerate(counts)) + vlm.decoder.flops_head(1)
    return encoder + fusion + prefill


def measures(vlm: VLM, row: Published) -> dict[Measure, Left]:
    """All four of a row."""
    counts, whole = layers(row, vlm.decoder.depth), [N] * vlm.decoder.depth
    mean = Left(sum(counts) / len(counts), N)  # a layer caches what enters it
    return {
        "tokens": Left(counts[-1], N),
        "layer-mean": mean,
        "kv": mean,
        "flops": Left(flops(vlm, counts), flops(vlm, whole)),
    }


def text() -> str:
    """The table."""
    vlm = llava()
    lines = [
        "| schedule | source | printed | into the LLM | final | layer mean = KV | TFLOPs "
        "| removed: final | layers, KV | FLOPs |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in ROWS:
        found = measures(vlm, row)
        removed = realised([found])
        cells = [
            row.method,
            row.paper,
            row.says,
            f"{row.left[0]}",
            f"{found['tokens'].kept:.0f}",
            f"{found['layer-mean'].kept:.1f}",
            f"{found['flops'].kept / 1e12:.2f}",
            *(f"{removed[measure]:.3f}" for measure in ("tokens", "layer-mean", "flops")),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def page(old: str) -> str:
    """The page with today's table."""
    before, _, rest = old.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{text()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
