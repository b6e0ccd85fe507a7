"""The pocket world: `make(kind, rng, split)` draws one picture or clip with its dense labels and its questions."""

import numpy as np

from scripts.pocket.clips import clip
from scripts.pocket.figures import chart, diagram
from scripts.pocket.sample import QA, Sample
from scripts.pocket.scenes import scene, sums
from scripts.pocket.texts import document, plates, scene_text

__all__ = ["BENCHMARK_KINDS", "KINDS", "QA", "SPLITS", "Sample", "make", "split_rng"]

SPLITS = ("train", "calib", "eval")
KINDS = {
    "scene": scene,
    "sums": sums,
    "plates": plates,
    "scene_text": scene_text,
    "document": document,
    "chart": chart,
    "diagram": diagram,
    "clip": clip,
}
BENCHMARK_KINDS = {
    "pocket_gqa": "scene",
    "pocket_vqa": "scene",
    "pocket_scienceqa": "sums",
    "pocket_ai2d": "diagram",
    "pocket_seed": "scene",
    "pocket_pope": "scene",
    "pocket_textvqa": "plates",
    "pocket_chartqa": "chart",
    "pocket_docvqa": "document",
    "pocket_ocrbench": "scene_text",
    "pocket_mmbench": "scene",
    "pocket_videomme": "clip",
}
MAX_OBJECTS = 9


def make(
    kind: str, rng: np.random.Generator, split: str, *, max_objects: int = MAX_OBJECTS, draw: bool = True
) -> Sample:
    """`split` decides fonts, textures and how many questions come with a picture; `draw=False` skips the pixels."""
    if split not in SPLITS:
        raise ValueError(f"split is one of {SPLITS}, not {split!r}")
    return KINDS[kind](rng, split, draw, max_objects)


def split_rng(split: str, seed: int) -> np.random.Generator:
    """Streams of different splits never meet, whatever their seeds."""
    return np.random.default_rng([SPLITS.index(split), seed])
