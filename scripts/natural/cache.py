"""What the frozen encoders see of training pictures, kept on disk: a picture is encoded once and asked about often."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from meteor_bench.core.model import VisionTower
from meteor_bench.models.natural.modules import DIMS, TOWERS, NaturalConfig
from meteor_bench.models.natural.towers import PatchesTower, StridesTower, efficientnet, vit
from meteor_bench.utils.atomic_io import write_whole
from scripts.natural.photographs import Split
from scripts.natural.world import MAKERS, make, split_rng
from scripts.pocket.loop import log
from scripts.pocket.optim import working_dtype
from scripts.pocket.sample import QA, Sample

TOGETHER = 16  # pictures that are encoded at once
# Of a kind in each hundred pictures; clips need more variety, since four shots are four things.
SHARES = {"scene": 48, "signs": 16, "bare_text": 16, "clip": 20}


def towers(dtype: torch.dtype) -> list[VisionTower]:
    """The frozen encoders.

    Raises:
        ModelError: a package is missing or another one.
    """
    both: list[VisionTower] = [PatchesTower("vit", vit()), StridesTower("efficientnet", efficientnet())]
    return [tower.to(dtype) for tower in both]


@torch.inference_mode()
def encode(both: Sequence[VisionTower], samples: Sequence[Sample], dtype: torch.dtype) -> list[Tensor]:
    """Samples of one kind -> of each tower [samples, n, d]; the frames of a clip one after another."""
    pixels = torch.as_tensor(np.stack([sample.image for sample in samples]))
    rows = (pixels.reshape(-1, *pixels.shape[-3:]).permute(0, 3, 1, 2).float() / 127.5 - 1).to(dtype)
    seen = []
    for tower in both:
        tokens = tower.embed(rows)
        x = tokens.x
        for block in range(tower.depth):
            x = tower.feed(block, tower.attend(block, x, None, None))
        x = tower.finish(tokens.with_x(x)).x
        seen.append(x.reshape(len(samples), -1, x.shape[-1]))
    return seen


class Cache:
    """Samples without their pixels, and their features in half precision in files that grow.

    Args:
        folder: of its files; made where it is missing.
    """

    def __init__(self, folder: Path, split: Split, config: NaturalConfig) -> None:
        self.folder, self.split = folder / f"features-{split}", split
        self.folder.mkdir(parents=True, exist_ok=True)
        self.shapes = {name: (config.grids[name] ** 2, DIMS[name]) for name in TOWERS}
        self.samples: list[Sample] = []
        self.maps: dict[str, list[np.ndarray]] = {name: [] for name in TOWERS}

    def fill(self, parts: int, size: int = 200) -> None:
        """Encode until there are so many parts of ``size`` samples; those that are there stay."""
        both = None
        for part in range(parts):
            if (self.folder / f"{part:03d}.json").exists():
                continue
            both = both or towers(working_dtype())
            samples = list(drawn(self.split, part * size, size))
            blocks: dict[str, list[np.ndarray]] = {name: [] for name in TOWERS}
            for at in _runs(samples):
                for name, x in zip(TOWERS, encode(both, samples[at], working_dtype()), strict=True):
                    blocks[name].append(x.half().numpy())
            for name in TOWERS:
                _whole(self.folder / f"{part:03d}-{name}.npy", np.concatenate(blocks[name]))
            write_whole(self.folder / f"{part:03d}.json", json.dumps([_kept(sample) for sample in samples]).encode())
            log.info("%s: part %d of %d", self.folder.name, part + 1, parts)

    def refresh(self) -> int:
        """Take in the parts that are there by now; how many samples that makes."""
        while (file := self.folder / f"{len(self.maps['vit']):03d}.json").exists():
            self.samples += [_sample(kept) for kept in json.loads(file.read_bytes())]
            for name in TOWERS:
                self.maps[name].append(np.load(file.with_name(f"{file.stem}-{name}.npy"), mmap_mode="r"))
        self.kinds = {kind: [i for i, s in enumerate(self.samples) if s.kind == kind and s.qas] for kind in MAKERS}
        self.size = len(self.samples) // max(len(self.maps["vit"]), 1)
        return len(self.samples)

    def features(self, index: Sequence[int]) -> dict[str, Tensor]:
        """Of those samples, {tower: [samples, n, d]}."""
        return {
            name: torch.as_tensor(np.stack([maps[i // self.size][i % self.size] for i in index]))
            for name, maps in self.maps.items()
        }


def drawn(split: Split, first: int, count: int) -> Iterator[Sample]:
    """Samples in the shares of `SHARES`, alike ones one after another."""
    kinds = list(SHARES)
    chosen = split_rng(split, 9_000_000 + first).choice(kinds, count, p=np.array(list(SHARES.values())) / 100)
    for place in np.argsort([kinds.index(kind) for kind in chosen], kind="stable"):
        yield make(str(chosen[place]), split_rng(split, first + int(place)), split)


def _runs(samples: Sequence[Sample]) -> Iterator[slice]:
    """Slices of samples of one shape, `TOGETHER` at most."""
    at = 0
    while at < len(samples):
        end = at
        while end < len(samples) and end - at < TOGETHER and samples[end].is_clip == samples[at].is_clip:
            end += 1
        yield slice(at, end)
        at = end


def _kept(sample: Sample) -> dict[str, Any]:
    """A sample without its pixels, as JSON has it."""
    return {"kind": sample.kind, "labels": sample.labels.tolist(), "qas": [asdict(qa) for qa in sample.qas]}


def _sample(kept: Mapping[str, Any]) -> Sample:
    qas = [QA(**{**qa, "options": tuple(qa["options"])}) for qa in kept["qas"]]
    return Sample(kept["kind"], np.zeros((1, 1, 3), np.uint8), np.array(kept["labels"], np.int64), qas)


def _whole(path: Path, array: np.ndarray) -> None:
    part = path.with_suffix(".part")
    with part.open("wb") as stream:
        np.save(stream, array)
    part.rename(path)
