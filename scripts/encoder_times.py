"""What choosing costs, and what it saves, with more and more encoders and with one that is there twice.

    python scripts/encoder_times.py --svg docs/encoder-times.svg

The encoders of the shipped composition base-cpu, at the sizes they were published for, one after another before its
language model of 0.5 B, random weights; METEOR at 0.764 of the first encoder's 256 tokens. SigLIP once more, with the
same weights and projector, stands in the last row. Seconds are of processor time, one thread, from the pixels to the
first token, the least of some passes; choosing is the method's own decisions alone. Prints a markdown table.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.model import VLM
from meteor_bench.core.pruner import Pruner
from meteor_bench.core.request import Request
from meteor_bench.engine.make_method import make_pruner
from meteor_bench.models.composed.model import card_of
from meteor_bench.models.composed.recipe import read
from meteor_bench.models.composed.shipped import FOLDER
from meteor_bench.runs.latency.selection_meter import Contender, Meter
from scripts.encoder_ladder import BLUE, KEEP, ORANGE

TWIN = "siglip again"
ENCODERS = ("siglip", "dinov2", "convnext", TWIN)


@dataclass(frozen=True)
class Step:
    """A row of the table.

    Attributes:
        encoders: their names.
        entering, final: tokens before METEOR, and that are left.
        fused: of each encoder, tokens that are left after stage 2 (stage 1 with a single one).
        choosing_ms: METEOR's decisions.
        unpruned_s, pruned_s: to the first token, choosing included.
    """

    encoders: tuple[str, ...]
    entering: int
    final: int
    fused: tuple[int, ...]
    choosing_ms: float
    unpruned_s: float
    pruned_s: float


def built(encoders: Sequence[str]) -> VLM:
    """base-cpu with these encoders; `TWIN` is SigLIP once more."""
    said: dict[str, Any] = yaml.safe_load((FOLDER / "base-cpu.yaml").read_text(encoding="utf-8"))
    towers = {
        "siglip2nd" if name == TWIN else name: said["towers"].get(name, {"same_as": "siglip"}) for name in encoders
    }
    with TemporaryDirectory() as folder:
        file = Path(folder) / "some.yaml"
        file.write_text(yaml.safe_dump({**said, "towers": towers, "reference": 256}, sort_keys=False), encoding="utf-8")
        card = card_of(read(file), "base-cpu")
        assert card.random is not None
        return card.random("cpu", torch.float32)


def timed(vlm: VLM, pruner: Pruner, keep: float, request: Request, passes: int) -> tuple[float, float, int]:
    """Seconds to the first token, milliseconds of choosing, tokens left."""
    contender = Contender(vlm, pruner, TokenBudget(keep), [request])
    spent = []
    for _ in range(passes + 1):  # the first is thrown away
        meter = Meter(torch.device("cpu"))
        with meter.running():
            choice = contender.choose()
        spent.append((meter.cpu_ms / 1e3, choice.decide_cpu_ms, choice.kept[0]))
    return min(spent[1:])


def left(vlm: VLM, pruner: Pruner, request: Request) -> tuple[int, ...]:
    """Tokens of each encoder that are left before the language model."""
    contender = Contender(vlm, pruner, TokenBudget(KEEP), [request])
    counts: dict[str, int] = {}

    def note(kind: str, point: int, tower: str, tokens: Any) -> None:
        if (kind, tower) != ("fuse", "fused"):
            return
        cells, start = tokens.origin[0][tokens.visual[0]], 0  # of the encoders' grids one after another
        for name in vlm.towers:
            size = vlm.towers[name].grid(*vlm.native).n
            counts[name] = int(((cells >= start) & (cells < start + size)).sum())
            start += size

    with contender.session.engine.instrumented(recorder=note):
        contender.choose()
    return tuple(counts.values())


def climb(encoders: Sequence[str], passes: int) -> Step:
    """METEOR on these encoders."""
    vlm = built(encoders)
    stages = ("encode", "fuse", "decode") if len(encoders) > 1 else ("encode", "decode")  # stage 2 compares encoders
    pruner = make_pruner("meteor", {"stages": stages, "budgets": "uniform", "stage3": "fixed"})
    noise = np.random.default_rng(0).integers(0, 256, (*vlm.native, 3), dtype=np.uint8)
    request = Request("noise", "noise", lambda: [Image.fromarray(noise)], "What is shown in the picture?", 1)
    whole, _, entering = timed(vlm, make_pruner("none"), 1.0, request, passes)
    pruned, choosing, final = timed(vlm, pruner, KEEP, request, passes)
    return Step(tuple(encoders), entering, final, left(vlm, pruner, request), choosing, whole, pruned)


HEAD = """\
| encoders | tokens | of each, before stage 3 | left | choosing, ms | unpruned, s | METEOR, s | faster |
| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |"""


COUNTS = ("one", "two", "three", "four")


def row(s: Step) -> str:
    """In markdown."""
    each, count = ", ".join(map(str, s.fused)), len(s.encoders)
    named = f"{COUNTS[count - 1]}: {'and ' * (count > 1)}{s.encoders[-1]}"
    times = f"{s.choosing_ms:.0f} | {s.unpruned_s:.2f} | {s.pruned_s:.2f} | {s.unpruned_s / s.pruned_s:.2f}x"
    return f"| {named} | {s.entering} | {each} | {s.final} | {times} |"


def figure(steps: Sequence[Step]) -> str:
    """Bars of seconds to the first token, two for each step, METEOR's with its choosing on top, as SVG."""
    width, height, foot = 560, 260, 40
    scale = (height - foot - 40) / max(s.unpruned_s for s in steps)
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        'font-size="12" role="img" aria-label="Seconds to the first token against the encoders">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        '<text x="12" y="18">seconds of processor time to the first token</text>',
        f'<text x="300" y="18" fill="{BLUE}">unpruned</text><text x="370" y="18" fill="{ORANGE}">METEOR, 0.764</text>'
        '<text x="470" y="18">of it choosing</text>',
    ]
    for at, s in enumerate(steps):
        left_ = 40 + at * (width - 40) / len(steps)
        for shift, value, colour in ((0, s.unpruned_s, BLUE), (40, s.pruned_s, ORANGE)):
            tall = value * scale
            top = height - foot - tall
            drawn.append(
                f'<rect x="{left_ + shift:.0f}" y="{top:.1f}" width="36" height="{tall:.1f}" fill="{colour}"/>'
                f'<text x="{left_ + shift + 18:.0f}" y="{top - 3:.1f}" text-anchor="middle">{value:.1f}</text>'
            )
        thin = s.choosing_ms / 1e3 * scale
        drawn.append(
            f'<rect x="{left_ + 40:.0f}" y="{height - foot - s.pruned_s * scale:.1f}" width="36" height="{thin:.1f}" '
            'fill="black"/>'
        )
        label = f"+ {s.encoders[-1]}" if at else s.encoders[0]
        drawn.append(f'<text x="{left_ + 38:.0f}" y="{height - 18}" text-anchor="middle">{label}</text>')
    return "\n".join([*drawn, "</svg>"]) + "\n"


def main() -> None:
    """See the top of the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passes", type=int, default=3, help="timed passes of each")
    parser.add_argument("--svg", type=Path, help="write the figure there")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # or else a thread that waits for the other counts as busy
    steps = []
    print(HEAD)
    for count in range(1, len(ENCODERS) + 1):
        steps.append(climb(ENCODERS[:count], arguments.passes))
        print(row(steps[-1]), flush=True)
    if arguments.svg is not None:
        arguments.svg.write_text(figure(steps), encoding="utf-8")


if __name__ == "__main__":
    main()
