"""From a training checkpoint to what ships: config, tokenizer, fp16 shards with an index, and a card."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch

from meteor_bench.models.natural.modules import NaturalConfig, NaturalTrained
from meteor_bench.models.pocket.tokenizer import PocketTokenizer
from scripts.natural.cache import Cache
from scripts.natural.phases import NaturalModel, scores_of
from scripts.natural.world import FAMILY_BENCHMARK
from scripts.pocket.export import write_shards

CARD = Path(__file__).parent / "card.md"


def export(folder: Path, config: NaturalConfig, target: Path) -> None:
    """The joint phase's last checkpoint."""
    saved = torch.load(folder / "joint.pt", weights_only=True)
    model = NaturalTrained(config)
    trained = {n.removeprefix("vlm."): w.float() for n, w in saved["masters"].items() if n.startswith("vlm.")}
    missing, unexpected = model.load_state_dict(trained, strict=False)
    if unexpected or set(missing) - {"decoder.lm_head.weight"}:
        raise ValueError(f"the checkpoint does not fit the model: missing {missing}, unexpected {unexpected}")
    model.decoder.tie_weights()
    write_shards(model, target)
    model.config.save(target)
    shutil.copyfile(folder / "tokenizer.json", target / "tokenizer.json")


def write_card(folder: Path, target: Path, calibration: Cache, cached: int) -> None:
    """README.md beside the weights: what was measured on the files beside it, or read from the checkpoints.

    Args:
        cached: training pictures.
    """
    from meteor_bench.models.checkpoint import load_weights

    tokenizer = PocketTokenizer(target / "tokenizer.json")
    config = NaturalConfig(vocab_size=len(tokenizer))
    model = NaturalModel(config, tokenizer)
    load_weights(model.vlm, target, ties={"decoder.lm_head.weight": "decoder.model.embed_tokens.weight"})
    model.float().eval()
    calibration.refresh()
    columns = [
        scores_of(model, tokenizer, calibration, **options)
        for options in ({}, {"keep": 0.24}, {"blind": True})  # type: ignore[arg-type]
    ]
    rows = []
    for family, benchmark in FAMILY_BENCHMARK.items():
        rows.append(f"| {benchmark} | {family} | " + " | ".join(f"{100 * c[family]:.1f}" for c in columns) + " |")
    means = [100 * np.mean([column[family] for family in FAMILY_BENCHMARK]) for column in columns]
    rows.append("| **mean of the families** | | " + " | ".join(f"**{mean:.1f}**" for mean in means) + " |")
    phases = []
    for name in ("symbolic", "joint"):
        saved = torch.load(folder / f"{name}.pt", weights_only=True)
        phases.append(f"| {name} | {saved['step']:,} | {saved['samples']:,} | {saved['minutes']:.0f} |")
    sizes = {name: sum(p.numel() for p in part.parameters()) / 1e6 for name, part in model.vlm.named_children()}
    text = CARD.read_text(encoding="utf-8").format(
        fusion=f"{sizes['fusion']:.2f}",
        decoder=f"{sizes['decoder']:.2f}",
        scores="\n".join(rows),
        phases="\n".join(phases),
        pictures=len(calibration.samples),
        cached=f"{cached:,}",
    )
    (target / "README.md").write_text(text, encoding="utf-8")
