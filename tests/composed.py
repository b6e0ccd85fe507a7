"""A tiny composition with its weights in a folder, and the same weights in the libraries' own modules.

`Reference` is written from the description alone: the libraries' forwards, resizing, projectors, decoder.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from meteor_bench.core.model import VLM
from meteor_bench.core.request import Request
from meteor_bench.engine.load_model import resolve_model
from meteor_bench.methods.none import NoPruning
from meteor_bench.models.timm_modules import ConvNeXt
from tests import eagle, eagle_plain, hub_pieces

IMAGE = 64
REGISTERS = 2
FILE = """\
weights: weights
towers:
  clip:
    type: clip
    image_size: 32
    patch_size: 8
    hidden_size: 32
    intermediate_size: 48
    num_hidden_layers: 4
    num_attention_heads: 2
  dino:
    type: dinov3
    image_size: 48
    patch_size: 8
    hidden_size: 32
    intermediate_size: 48
    num_hidden_layers: 3
    num_attention_heads: 2
    num_register_tokens: 2
  conv: {type: convnext, image_size: 64, depths: [1, 1, 2, 1], dims: [8, 12, 16, 20]}
fusion: {kind: sequence}
decoder:
  type: qwen3
  vocab_size: 96
  hidden_size: 48
  intermediate_size: 64
  num_hidden_layers: 4
  num_attention_heads: 4
  num_key_value_heads: 2
  head_dim: 16
"""
IMAGENET = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])
CLIP = torch.tensor([eagle_plain.MEAN, eagle_plain.STD])


def mlp(inputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 48), nn.GELU(), nn.Linear(48, 48))


@cache
def modules() -> nn.ModuleDict:
    """Under the names that docs/encoders.md gives."""
    vit = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2, "patch_size": 8}
    conv = ConvNeXt(num_classes=0, depths=(1, 1, 2, 1), dims=(8, 12, 16, 20), norm_eps=1e-5)
    conv.head = nn.Identity()
    dino = DINOv3ViTConfig(**vit, image_size=48, num_hidden_layers=3, num_register_tokens=REGISTERS)
    language = Qwen3Config(
        vocab_size=96,
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=4096,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4},
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=2,
    )
    towers = {
        "clip": CLIPVisionModel(CLIPVisionConfig(**vit, image_size=32, num_hidden_layers=4)),
        "dino": DINOv3ViTModel(dino),
        "conv": conv,
    }
    projector = {"clip": mlp(32), "dino": mlp(32), "conv": mlp(20)}
    parts = {
        "towers": nn.ModuleDict(towers),
        "projector": nn.ModuleDict(projector),
        "decoder": Qwen3ForCausalLM(language),
    }
    made = nn.ModuleDict(parts).eval().requires_grad_(False)
    hub_pieces.enliven(made, 4)
    return made


@cache
def file() -> Path:
    """The composition's file, its weights beside it."""
    folder = Path(tempfile.mkdtemp(prefix="composed-"))
    (folder / "weights").mkdir()
    written = folder / "tiny.yaml"
    written.write_text(FILE)
    hub_pieces.tokenizer().save_pretrained(folder / "weights")
    state = {key: value.contiguous() for key, value in modules().state_dict().items()}
    save_file(state, folder / "weights" / "model.safetensors")
    return written


def build(path: Path | None = None) -> VLM:
    """A fresh model from the file, as `--model` takes it."""
    path = path or file()
    return resolve_model(str(path), NoPruning()).build("cpu", torch.float32, path.parent / "weights")


def resized(pixels: Tensor, side: int) -> Tensor:
    return F.interpolate(pixels, size=(side, side), mode="bilinear", align_corners=True)


def features(own: Mapping[str, Any], pixels: Tensor) -> dict[str, Tensor]:
    """[1, 3, S, S] with CLIP's mean -> each encoder's [1, N, D]."""
    raw = pixels * CLIP[1][:, None, None] + CLIP[0][:, None, None]
    other = (raw - IMAGENET[0][:, None, None]) / IMAGENET[1][:, None, None]
    clip = own["clip"](resized(pixels, 32), output_hidden_states=True)
    dino = own["dino"](resized(other, 48)).last_hidden_state
    conv = own["conv"].forward_features(pixels)
    return {
        "clip": clip.hidden_states[-2][:, 1:],
        "dino": dino[:, 1 + REGISTERS :],
        "conv": conv.flatten(2).transpose(1, 2),
    }


class Reference:
    """The libraries' own forwards, one after another, and `generate`."""

    def __init__(self) -> None:
        self.modules: Any = modules()
        self.tokenizer = hub_pieces.tokenizer()

    def visual(self, asked: Sequence[Request]) -> Tensor:
        """[B, N, D]: encoder by encoder, in each the images (or frames) of a request one after another."""
        rows = []
        for request in asked:
            parts = [features(self.modules["towers"], eagle.seen(image, IMAGE)[None]) for image in request.media()]
            towers = [
                torch.cat([self.modules["projector"][name](part[name]) for part in parts], 1) for name in parts[0]
            ]
            rows.append(torch.cat(towers, 1)[0])
        return torch.stack(rows)

    def answer(self, request: Request, new_tokens: int) -> tuple[list[int], Tensor]:
        """Greedy ids, end token included, and the logits of each step."""
        decoder = self.modules["decoder"]
        before, after = eagle.WORDS["vicuna_v1"].format(f"<image>\n{request.question}").split("<image>")
        ids = (self.tokenizer(before).input_ids, self.tokenizer(after).input_ids[1:])
        first, last = (decoder.get_input_embeddings()(torch.tensor([part])) for part in ids)
        sequence = torch.cat([first, self.visual([request]), last], 1)
        out = decoder.generate(
            inputs_embeds=sequence,
            attention_mask=torch.ones(sequence.shape[:2], dtype=torch.long),
            max_new_tokens=new_tokens,
            do_sample=False,
            eos_token_id=[2],
            pad_token_id=0,
            output_logits=True,
            return_dict_in_generate=True,
        )
        return out.sequences[0].tolist(), torch.cat(out.logits)
