"""How METEOR scales with the number of encoders: EAGLE-X5's, one after another, a projector for each, Vicuna-7B.

    python scripts/encoder_ladder.py --steps 1,2,3,4,5 --svg docs/encoders.svg

Tokens are counted from tensors of a model with the true grids and depths and widths of 16, random weights; METEOR takes
``budgets=uniform`` and ``stage3=fixed`` there, so that no count hangs on what the weights are. FLOPs are the closed
forms of the true widths on those counts (inferred). Kernels of choosing and applying are counted on a pretended GPU;
they are the same at any width. Prints a markdown table.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.model import VLM
from meteor_bench.core.request import Request
from meteor_bench.engine.encode import encode
from meteor_bench.engine.engine import Engine
from meteor_bench.engine.fuse import fuse
from meteor_bench.engine.generate import answer
from meteor_bench.engine.make_method import make_pruner
from meteor_bench.models.composed import encoders, parts
from meteor_bench.models.composed.model import card_of
from meteor_bench.models.composed.recipe import Recipe, read
from meteor_bench.models.composed.shipped import FOLDER
from meteor_bench.models.sizes import measure
from meteor_bench.runs.latency.launches import counted
from meteor_bench.runs.latency.pretend_device import PretendGpu

KEEP = 0.236  # the paper's: 242 of 1024
THIN: dict[type[parts.Tower], dict[str, Any]] = {
    encoders.Clip: {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 1},
    encoders.ConvNext: {"dims": (4, 4, 4, 16)},
    encoders.Sam: {"hidden_size": 16, "mlp_dim": 16, "num_attention_heads": 1, "output_channels": 4},
    encoders.Pix2Struct: {"hidden_size": 16, "d_ff": 16, "d_kv": 16, "num_attention_heads": 1},
    encoders.Eva02: {"hidden_size": 16, "num_heads": 1},
}
BLUE, ORANGE = "#3b6ea8", "#c8641e"


@dataclass(frozen=True)
class Step:
    """A row of the table.

    Attributes:
        encoders: how many.
        entering, encoded, fused, final: tokens before METEOR and after each of its stages.
        unpruned, pruned: TFLOPs to the first token.
        kernels: of choosing and applying, batch 1.
    """

    encoders: int
    entering: int
    encoded: int
    fused: int
    final: int
    unpruned: float
    pruned: float
    kernels: int


def narrow(recipe: Recipe) -> Recipe:
    """The same with next to no arithmetic."""
    towers = {name: replace(part, **THIN[type(part)]) for name, part in recipe.towers.items()}
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2, "vocab_size": 512}
    return replace(recipe, towers=towers, decoder=replace(recipe.decoder, **sizes))


def built(recipe: Recipe, device: str, dtype: torch.dtype) -> VLM:
    """With random weights."""
    card = card_of(recipe, recipe.name)
    assert card.random is not None
    return card.random(device, dtype)


def priced(thin: VLM, full: VLM) -> VLM:
    """A narrow model that counts the FLOPs of the full one: its own closed forms are of other widths."""
    for name, tower in thin.towers.items():
        for form in ("flops_embed", "flops_block", "flops_finish", "flops_attention"):
            if hasattr(tower, form):
                setattr(tower, form, getattr(full.towers[name], form))
    thin.fusion.flops = full.fusion.flops  # type: ignore[method-assign]
    for form in ("flops_layer", "flops_head"):
        setattr(thin.decoder, form, getattr(full.decoder, form))
    return thin


def climb(count: int) -> Step:
    """METEOR on the first encoders."""
    recipe = read(FOLDER / f"ladder-x{count}.yaml")
    stages = ("encode", "fuse", "decode") if count > 1 else ("encode", "decode")  # stage 2 compares encoders
    pruner = make_pruner("meteor", {"stages": stages, "budgets": "uniform", "stage3": "fixed"})
    full = built(recipe, "meta", torch.bfloat16)
    noise = np.random.default_rng(0).integers(0, 256, (recipe.image, recipe.image, 3), dtype=np.uint8)
    request = Request("noise", "noise", lambda: [Image.fromarray(noise)], "What is shown in the picture?", 1)
    thin = priced(built(narrow(recipe), "cpu", torch.float32), full)
    engine = Engine(thin, pruner, TokenBudget(KEEP))
    with torch.inference_mode():
        look = thin.processor.look(request.media())
        visual = fuse(engine, encode(engine, look.pixels[None], [request.key], look.scene))
        (generation,) = answer(engine, visual, range(1), [thin.processor.prompt(request.question)], 1, ignore_eos=True)
        trace = generation.trace
        with PretendGpu() as gpu:
            for module in thin.modules().values():
                gpu.move(module)
            ledger = counted(gpu, engine, [request])
    cost = measure(card_of(recipe, recipe.name))
    text = trace.text
    unpruned = sum(encoder["flops"] for encoder in cost["encoders"].values()) + cost["fuse"]
    unpruned += full.decoder.depth * full.decoder.flops_layer(recipe.tokens + text, recipe.tokens + text)
    pruned = sum(n for stage, n in trace.flops.items() if stage != "decode")
    return Step(
        encoders=count,
        entering=recipe.tokens,
        encoded=sum(trace.towers.values()),
        fused=trace.fused,
        final=trace.final,
        unpruned=unpruned / 1e12,
        pruned=pruned / 1e12,
        kernels=ledger.kernels["prune"],
    )


HEAD = """\
| encoders | tokens | stage 1 | stage 2 | stage 3 | TFLOPs‡ unpruned | METEOR | fewer‡ | kernels of choosing |
| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"""


def row(s: Step) -> str:
    """In markdown."""
    tokens = f"{s.entering} | {s.encoded} | {s.fused} | {s.final}"
    work = f"{s.unpruned:.1f} | {s.pruned:.1f} | {s.unpruned / s.pruned:.1f}x"
    return f"| {s.encoders} | {tokens} | {work} | {s.kernels} |"


def figure(steps: Sequence[Step]) -> str:
    """Bars of TFLOPs to the first token, two for each step, as SVG."""
    width, height, foot = 520, 260, 40
    top = max(s.unpruned for s in steps)
    scale = (height - foot - 30) / top
    parts_ = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        'font-size="12" role="img" aria-label="TFLOPs to the first token against the number of encoders">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        '<text x="12" y="18">TFLOPs to the first token (inferred)</text>',
        f'<text x="300" y="18" fill="{BLUE}">unpruned</text><text x="380" y="18" fill="{ORANGE}">METEOR, 0.764</text>',
    ]
    for at, s in enumerate(steps):
        left = 30 + at * (width - 40) / len(steps)
        for shift, value, colour in ((0, s.unpruned, BLUE), (34, s.pruned, ORANGE)):
            tall = value * scale
            y = height - foot - tall
            parts_.append(
                f'<rect x="{left + shift:.0f}" y="{y:.1f}" width="30" height="{tall:.1f}" fill="{colour}"/>'
                f'<text x="{left + shift + 15:.0f}" y="{y - 3:.1f}" text-anchor="middle">{value:.0f}</text>'
            )
        label = f"{s.encoders} encoder{'s' * (s.encoders > 1)}"
        parts_.append(f'<text x="{left + 32:.0f}" y="{height - 18}" text-anchor="middle">{label}</text>')
    return "\n".join([*parts_, "</svg>"]) + "\n"


def main() -> None:
    """See the top of the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", default="1,2,3,4,5", help="numbers of encoders")
    parser.add_argument("--svg", type=Path, help="write the figure there")
    arguments = parser.parse_args()
    steps = []
    print(HEAD)
    for count in arguments.steps.split(","):
        steps.append(climb(int(count)))
        print(row(steps[-1]), flush=True)
    if arguments.svg is not None:
        arguments.svg.write_text(figure(steps), encoding="utf-8")


if __name__ == "__main__":
    main()
