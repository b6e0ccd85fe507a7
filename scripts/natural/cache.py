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
from meteor_bench.models.natural.model import ENCODERS, encoder
from meteor_bench.models.natural.modules import DIMS, SIDES
from meteor_bench.utils.atomic_io import write_whole
from scripts.natural.photographs import Split
from scripts.natural.staged import Kept, staged
from scripts.natural.world import MAKERS, make, split_rng
from scripts.pocket.loop import log
from scripts.pocket.optim import working_dtype
from scripts.pocket.sample import QA, Sample

TOGETHER = 4  # pictures that are encoded at once; the text expert's large maps then stay in the processor's cache
STAGED = ("vit-staged", "vit-cells")  # names of what METEOR's first stage leaves
# Of a kind in each hundred pictures; clips need more variety, since four shots are four things.
SHARES = {"scene": 48, "signs": 16, "bare_text": 16, "clip": 20}


def towers(dtype: torch.dtype) -> dict[str, VisionTower]:
    """The frozen encoders.

    Raises:
        ModelError: a package is missing or another one.
    """
    return {name: encoder(name).to(dtype) for name in ENCODERS}


def rows_of(samples: Sequence[Sample], dtype: torch.dtype) -> Tensor:
    """Samples of one kind -> their pictures or frames [rows, 3, H, W] in -1..1."""
    pixels = torch.as_tensor(np.stack([sample.image for sample in samples]))
    return (pixels.reshape(-1, *pixels.shape[-3:]).permute(0, 3, 1, 2).float() / 127.5 - 1).to(dtype)


@torch.inference_mode()
def encode(encoders: Sequence[VisionTower], samples: Sequence[Sample], dtype: torch.dtype) -> list[Tensor]:
    """Samples of one kind -> of each tower [samples, n, d]; the frames of a clip one after another."""
    rows = rows_of(samples, dtype)
    seen = []
    for tower in encoders:
        tokens = tower.embed(rows)
        x = tokens.x
        for block in range(tower.depth):
            x = tower.feed(block, tower.attend(block, x, None, None))
        x = tower.finish(tokens.with_x(x)).x
        seen.append(x.reshape(len(samples), -1, x.shape[-1]))
    return seen


class Cache:
    """Samples without their pixels, and their features in half precision in files that grow.

    Beside what the encoders see of a picture stands what the ViT does when METEOR's first stage drops tokens inside.

    Args:
        folder: of its files; made where it is missing.
    """

    def __init__(self, folder: Path, split: Split) -> None:
        self.folder, self.split = folder / f"features-{split}", split
        self.folder.mkdir(parents=True, exist_ok=True)
        self.samples: list[Sample] = []
        self.parts = 0
        self.maps: dict[str, list[np.ndarray]] = {name: [] for name in (*DIMS, *STAGED)}

    def fill(self, parts: int, size: int = 200) -> None:
        """Encode until there are so many parts of ``size`` samples; those that are there stay."""
        encoders, dtype = None, working_dtype()
        for part in range(parts):
            if (self.folder / f"{part:03d}.json").exists():
                continue
            encoders = encoders or towers(dtype)
            samples = list(drawn(self.split, part * size, size))
            rng = split_rng(self.split, 8_000_000 + part)
            blocks: dict[str, list[np.ndarray]] = {name: [] for name in self.maps}
            for at in _runs(samples):
                for name, x in zip(encoders, encode(list(encoders.values()), samples[at], dtype), strict=True):
                    blocks[name].append(x.half().numpy())
                kept = staged(encoders["vit"], rows_of(samples[at], dtype), rng).of_samples(len(samples[at]))
                for name, value in zip(STAGED, kept.padded(SIDES["vit"] ** 2), strict=True):
                    blocks[name].append(value.numpy())
            for name, found in blocks.items():
                _whole(self.folder / f"{part:03d}-{name}.npy", np.concatenate(found))
            write_whole(self.folder / f"{part:03d}.json", json.dumps([_kept(sample) for sample in samples]).encode())
            log.info("%s: part %d of %d", self.folder.name, part + 1, parts)

    def refresh(self) -> int:
        """Take in the parts that are there by now; how many samples that makes."""
        while (file := self.folder / f"{self.parts:03d}.json").exists():
            self.samples += [_sample(kept) for kept in json.loads(file.read_bytes())]
            for name, maps in self.maps.items():
                maps.append(np.load(file.with_name(f"{file.stem}-{name}.npy"), mmap_mode="r"))
            self.parts += 1
        self.kinds = {kind: [i for i, s in enumerate(self.samples) if s.kind == kind and s.qas] for kind in MAKERS}
        self.size = len(self.samples) // max(self.parts, 1)
        return len(self.samples)

    def features(self, index: Sequence[int]) -> dict[str, Tensor]:
        """Of those samples, {tower: [samples, n, d]}."""
        return {name: self._at(name, index) for name in DIMS}

    def staged(self, index: Sequence[int]) -> Kept:
        """What the ViT has of those samples when tokens are dropped inside it."""
        return Kept(*(self._at(name, index) for name in STAGED))

    def _at(self, name: str, index: Sequence[int]) -> Tensor:
        return torch.as_tensor(np.stack([self.maps[name][i // self.size][i % self.size] for i in index]))


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
