"""Tiny models with random weights, built from the same adapters as the real ones.

- ``shared``: the pocket architecture, three encoders on one grid, images of 64 pixels.
- ``independent``: the same encoders, one projector each, sequences concatenated.
- ``single``: one CLIP tower on a grid that is not square, an MLP and a decoder with grouped keys, like LLaVA.
- ``bare``: the same with a SigLIP tower, so no class token; the laws leave it out.
- the families of `tests.hubs`, from checkpoints that the library wrote; ``eagle`` and ``composed`` of their own.

`build` wraps a fresh copy; `plain` gives the library's own modules with the same weights, run by the library's own
forward, to compare with.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from meteor_bench.core.attention_probe import register
from meteor_bench.core.model import VLM, Clip, Processor, Prompt
from meteor_bench.core.request import Request
from meteor_bench.models.decoders import LlamaDecoder
from meteor_bench.models.fusions import OneProjector
from meteor_bench.models.pocket.model import assemble
from meteor_bench.models.pocket.modules import PocketConfig, PocketVLM
from meteor_bench.models.towers import VitTower
from tests import composed, eagle, hubs
from tests.hub_pieces import enliven

__all__ = ["FAMILIES", "MODELS", "Plain", "build", "pixels", "plain", "prompts", "requests"]

EOS = 2
VOCABULARY = 64
CPU = "cpu"


class Words:
    """A tokenizer stub: each word is an id of its own choosing, an id written out is itself."""

    bos_id, eos_id, question_id, answer_id = 1, EOS, 3, 4

    def encode(self, text: str) -> list[int]:
        return [int(w) if w.isdigit() else 5 + zlib.crc32(w.encode()) % (VOCABULARY - 5) for w in text.split()]

    def decode(self, ids: list[int]) -> str:
        return " ".join(str(i) for i in ids)


class TinyProcessor(Processor):
    """Images of 48 x 64 pixels."""

    eos = frozenset({EOS})

    def pixels(self, media: Sequence[Any]) -> Tensor:
        frames = [np.asarray(m.convert("RGB").resize((64, 48))) for m in media]
        return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float() / 127.5 - 1

    def prompt(self, question: str) -> Prompt:
        return Prompt((1, 7), (3, *Words().encode(question), 4))

    def continuation(self, text: str) -> tuple[int, ...]:
        return tuple(Words().encode(text))

    def decode(self, ids: Sequence[int]) -> str:
        return Words().decode(list(ids))


@cache
def _modules(name: str, native: bool) -> nn.Module:
    if name in ("shared", "independent"):
        config = PocketConfig(
            fusion=name,  # type: ignore[arg-type]
            vocab_size=VOCABULARY,
            hidden_size=48,
            intermediate_size=64,
            tower_dim=32,
            tower_intermediate=48,
            image_size=128 if native else 64,
        )
        return enliven(PocketVLM(config), 1)
    vit = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 5,
        "num_attention_heads": 2,
        "image_size": 64,
        "patch_size": 8,
    }
    tower: Any = CLIPVisionModel(CLIPVisionConfig(**vit))
    if name == "bare":
        tower = SiglipVisionModel(SiglipVisionConfig(**vit, vision_use_head=False))
    llama = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        eos_token_id=EOS,
        pad_token_id=0,
        bos_token_id=1,
    )
    mlp = nn.Sequential(nn.Linear(32, 48), nn.GELU(), nn.Linear(48, 48))
    parts = {"tower": tower, "mlp": mlp, "decoder": LlamaForCausalLM(llama)}
    return enliven(nn.ModuleDict(parts), 2)


def _single(name: str, modules: Any) -> VLM:
    kernel, cls = register(), name == "single"
    for part in ("tower", "decoder"):
        modules[part].set_attn_implementation(kernel)
    tower = VitTower("eye", modules["tower"], has_cls=cls, post_norm=not cls, prepare=lambda pixels: pixels)
    return VLM(
        name=name,
        towers={"eye": tower},
        fusion=OneProjector(modules["mlp"]),
        decoder=LlamaDecoder(modules["decoder"]),
        processor=TinyProcessor(),
        reference=lambda grid: grid.n,
        native=(48, 64),
    )


def build(name: str, *, native: bool = False) -> VLM:
    """A fresh tiny model.

    Args:
        native: pocket models take images of 128 pixels, as `plain` must have them (else 64: 8x8 tokens, position
            tables resized), and the reference of a budget is what this model itself feeds its decoder (on
            ``independent`` 2.25 times the lead tower's grid), so that keep = 1 keeps everything.
    """
    if name in hubs.FAMILIES:
        return hubs.build(name)
    if name == "eagle":
        return eagle.build()
    if name == "composed":
        return composed.build()
    modules = deepcopy(_modules(name, native)).requires_grad_(False)
    if name in ("single", "bare"):
        return _single(name, modules)
    vlm = assemble(name, modules, Words(), torch.float32, CPU)  # type: ignore[arg-type]
    if native and name == "independent":
        vlm.reference = lambda grid: grid.n * 9 // 4
    return vlm


MODELS = ("shared", "independent", "single")
FAMILIES = (*hubs.FAMILIES, "eagle", "composed")  # of real models


def small(name: str) -> Any:
    """The library's modules of a model as `build` has them by default, untouched."""
    return deepcopy(_modules(name, False)).requires_grad_(False)


# ---------------------------------------------------------------- inputs

QUESTIONS = ("what is it", "is there a red thing in the middle of it", "why", "count the blue ones please")


def picture(seed: int) -> Image.Image:
    """Blobs and noise, 128 pixels."""
    return _picture(seed).copy()


@cache
def _picture(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    blobs = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize(
        (128, 128), Image.Resampling.BICUBIC
    )
    noisy = np.asarray(blobs).astype(np.int16) + rng.integers(-30, 31, (128, 128, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def requests(count: int, frames: int = 1, new_tokens: int = 4, seed: int = 0) -> list[Request]:
    """Questions of different lengths about random images or clips, two about each."""

    def media(i: int) -> Sequence[Image.Image]:
        return Clip(picture(100 * (seed + i) + frame) for frame in range(frames))

    def request(i: int) -> Request:
        return Request(f"tiny/{i}", f"media{i // 2}", lambda: media(i // 2), QUESTIONS[i % 4], new_tokens)

    return [request(i) for i in range(count)]


def pixels(vlm: VLM, asked: Sequence[Request]) -> Tensor:
    """[B, F, 3, H, W]."""
    return torch.stack([vlm.processor.pixels(r.media()) for r in asked])


def prompts(vlm: VLM, asked: Sequence[Request]) -> list[Prompt]:
    """The questions in ids."""
    return [vlm.processor.prompt(r.question) for r in asked]


# ---------------------------------------------------------------- the library's own forward


@dataclass(frozen=True)
class Plain:
    """The same weights in the library's own modules, run by the library's own forward and attention."""

    name: str
    modules: Any

    def visual(self, asked: Sequence[Request]) -> Tensor:
        """Visual tokens [B, N, D]."""
        seen = pixels(build(self.name, native=True), asked)
        if self.name != "single":
            rows = seen.permute(0, 1, 3, 4, 2)
            raw = ((rows + 1) * 127.5).squeeze(1)  # PocketVLM normalises bytes itself
            return self.modules.visual(raw)  # type: ignore[no-any-return]
        rows = seen.flatten(0, 1)
        features = self.modules["tower"](rows, interpolate_pos_encoding=True).last_hidden_state[:, 1:]
        return self.modules["mlp"](features).unflatten(0, seen.shape[:2]).flatten(1, 2)  # type: ignore[no-any-return]

    def answer(self, request: Request, new_tokens: int) -> tuple[list[int], Tensor]:
        """Greedy ids, end token included, and the logits of each step, without any cache."""
        visual, prompt = self.visual([request]), build(self.name).processor.prompt(request.question)
        model = self.modules["decoder"] if self.name == "single" else self.modules.decoder
        embed = model.get_input_embeddings()
        ids: list[int] = []
        logits = []
        for _ in range(new_tokens):
            tail = embed(torch.tensor([[*prompt.after, *ids]]))
            sequence = torch.cat([embed(torch.tensor([prompt.before])), visual, tail], 1)
            logits.append(model(inputs_embeds=sequence, use_cache=False).logits[0, -1])
            ids.append(int(logits[-1].argmax()))
            if ids[-1] == EOS:
                break
        return ids, torch.stack(logits)


def plain(name: str) -> Plain | hubs.Reference | eagle.Reference | composed.Reference:
    """The library's view of a tiny model."""
    if name in hubs.FAMILIES:
        return hubs.Reference(name)
    if name == "eagle":
        return eagle.Reference()
    if name == "composed":
        return composed.Reference()
    modules = deepcopy(_modules(name, True)).requires_grad_(False)
    return Plain(name, modules)
