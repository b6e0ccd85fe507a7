"""From a training checkpoint to what ships: config, tokenizer, fp16 shards with an index, and a card."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from meteor_bench.models.natural.model import trained
from meteor_bench.models.natural.modules import NaturalConfig
from meteor_bench.models.pocket.tokenizer import PocketTokenizer
from scripts.natural.cache import Cache
from scripts.natural.phases import scores_of
from scripts.natural.seeing import IndependentModel, NaturalModel, SharedModel, model_of
from scripts.natural.world import FAMILY_BENCHMARK
from scripts.pocket.export import write_shards

FOLDERS = {"shared": "natural", "independent": "natural-independent"}
CARDS = {"shared": "card.md", "independent": "card-independent.md"}
PHASES = {"shared": ("symbolic", SharedModel.phase), "independent": (IndependentModel.phase,)}


def config_of(fusion: Literal["shared", "independent"], words: int) -> NaturalConfig:
    """What is trained here: both fusions before one Llama, which the second takes from the first as it is.

    Args:
        words: size of the vocabulary.
    """
    base = "" if fusion == "shared" else FOLDERS["shared"]
    return NaturalConfig(fusion=fusion, vocab_size=words, base=base)


def export(folder: Path, model: NaturalModel, target: Path) -> None:
    """The last checkpoint of a model's phase; where its Llama is another's, the fusion alone."""
    config = model.vlm.config
    target.mkdir(parents=True, exist_ok=True)
    saved = torch.load(folder / f"{model.phase}.pt", weights_only=True)["masters"]
    ours = {name for name, _ in model.named_parameters() if name.startswith(tuple(model.parts))}
    if ours != set(saved):
        raise ValueError(f"the checkpoint does not fit the model: {sorted(ours ^ set(saved))}")
    model.float().load_state_dict(saved, strict=False)
    write_shards(nn.ModuleDict({"fusion": model.vlm.fusion}) if config.base else model.vlm, target)
    config.save(target)
    shutil.copyfile(folder / "tokenizer.json", target / "tokenizer.json")


def write_card(folder: Path, target: Path, config: NaturalConfig, calibration: Cache, cached: int) -> None:
    """README.md beside the weights: what was measured on the files beside it, or read from the checkpoints.

    Args:
        cached: training pictures.
    """
    tokenizer = PocketTokenizer(target / "tokenizer.json")
    model = model_of(config, tokenizer)
    model.vlm.load_state_dict(trained(target).state_dict())
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
    for name in PHASES[config.fusion]:
        saved = torch.load(folder / f"{name}.pt", weights_only=True)
        phases.append(f"| {name} | {saved['step']:,} | {saved['samples']:,} | {saved['minutes']:.0f} |")
    sizes = {name: sum(p.numel() for p in part.parameters()) / 1e6 for name, part in model.vlm.named_children()}
    card = Path(__file__).parent / CARDS[config.fusion]
    text = card.read_text(encoding="utf-8").format(
        fusion=f"{sizes['fusion']:.2f}",
        decoder=f"{sizes['decoder']:.2f}",
        scores="\n".join(rows),
        phases="\n".join(phases),
        pictures=len(calibration.samples),
        cached=f"{cached:,}",
    )
    (target / "README.md").write_text(text, encoding="utf-8")
