"""The natural encoders before a tiny random Llama, and photographs to show them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from meteor_bench.core.attention_probe import register
from meteor_bench.core.model import VLM
from meteor_bench.core.request import Request
from meteor_bench.models.composed.model import Projectors
from meteor_bench.models.decoders import LlamaDecoder
from meteor_bench.models.natural.towers import efficientnet_tower, vit_tower
from scripts.natural.debian import WALLPAPERS, unpacked
from tests import tiny
from tests.eagle import seen
from tests.eagle_plain import MEAN, STD

SIZE = 224
WIDTH = 48
NAMES = ("BytheWater", "ColorfulCups", "EveningGlow", "FallenLeaf", "OneStandsOut", "Path")


@cache
def photographs() -> tuple[Image.Image, ...]:
    """Small ones out of Debian's package."""
    folder = unpacked(WALLPAPERS) / "usr" / "share" / "wallpapers"
    return tuple(Image.open(folder / name / "contents" / "screenshot.jpg").convert("RGB") for name in NAMES)


@cache
def of_clip() -> Tensor:
    """[P, 3, S, S] photographs with CLIP's mean and deviation, as a processor delivers them."""
    return torch.stack([seen(photograph, SIZE) for photograph in photographs()])


@cache
def of_imagenet() -> Tensor:
    """The same with ImageNet's, as the packages feed their encoders."""
    mean, std, other, spread = (
        torch.tensor(row)[:, None, None] for row in (MEAN, STD, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    return (of_clip() * std + mean - other) / spread


class Photographs(tiny.TinyProcessor):
    """Squares of the encoders' size."""

    def pixels(self, media: Sequence[Any]) -> Tensor:
        return torch.stack([seen(image, SIZE) for image in media])


@cache
def build() -> VLM:
    """Both encoders, a projector each."""
    torch.manual_seed(0)
    towers = {"vit": vit_tower(), "efficientnet": efficientnet_tower()}
    llama = LlamaConfig(
        vocab_size=tiny.VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        eos_token_id=tiny.EOS,
        pad_token_id=0,
        bos_token_id=1,
    )
    decoder = LlamaForCausalLM(llama).eval().requires_grad_(False)
    decoder.set_attn_implementation(register())
    return VLM(
        name="natural-towers",
        towers=towers,
        fusion=Projectors({name: nn.Linear(tower.dim, WIDTH) for name, tower in towers.items()}).requires_grad_(False),
        decoder=LlamaDecoder(decoder),
        processor=Photographs(),
        reference=lambda grid: grid.n + 49,
        native=(SIZE, SIZE),
    )


def requests() -> list[Request]:
    """A question about each photograph."""
    return [
        Request(f"photograph/{name}", name, lambda i=i: (photographs()[i],), "what is it", 2)
        for i, name in enumerate(NAMES)
    ]
