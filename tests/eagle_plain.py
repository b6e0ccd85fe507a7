"""Tiny EAGLE models in the libraries' own modules.

Nothing here is shared with the adapter: names of weights, the encoders' forward passes and the way they are joined are
written down once more from the description of the released code, over the libraries' own models. EVA-02 with windows
is in no library; `PlainEva` is it, in float loops over windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    Pix2StructVisionConfig,
    Pix2StructVisionModel,
    SamVisionConfig,
)
from transformers.models.sam.modeling_sam import SamVisionEncoder

from meteor_bench.models.timm_modules import ConvNeXt
from tests.hub_pieces import enliven

X5 = ("clip-448", "convnext-1024", "sam-1024", "det-1024", "pix2struct-1024")
IMAGE, GRID, PATCHES = 256, 8, 50
SIZES: dict[str, dict[str, Any]] = {
    "clip-448": {
        "hidden_size": 24,
        "intermediate_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "image_size": 24,
        "patch_size": 4,
    },
    "convnext-1024": {"depths": [1, 1, 2, 1], "dims": [8, 12, 16, 20]},
    "sam-1024": {
        "hidden_size": 24,
        "mlp_dim": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "global_attn_indexes": [1, 3],
        "window_size": 6,
        "image_size": IMAGE,
        "output_channels": 6,
    },
    "det-1024": {
        "image_size": IMAGE,
        "hidden_size": 32,
        "depth": 4,
        "num_heads": 2,
        "window_size": 4,
        "global_blocks": [1, 3],
        "pretrain_grid": 5,
        "rotary_grid": 4,
    },
    "pix2struct-1024": {"hidden_size": 24, "d_ff": 32, "d_kv": 12, "num_hidden_layers": 4, "num_attention_heads": 2},
}
SIZES["pix2struct-1024"] |= {"patch_embed_hidden_size": 48, "seq_len": 64, "max_patches": PATCHES}
WIDTHS = {"clip-448": 24, "convnext-1024": 20, "sam-1024": 24, "det-1024": 32, "pix2struct-1024": 24}
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class PlainEva(nn.Module):
    """EVA-02 of a detector with the released files' names, one window and one head at a time."""

    def __init__(self, *, depth: int, hidden_size: int, pretrain_grid: int, **more: Any) -> None:
        super().__init__()
        self.heads, self.window, self.open = more["num_heads"], more["window_size"], more["global_blocks"]
        self.trained, self.cells = more["rotary_grid"], more["image_size"] // 16
        self.pos_embed = nn.Parameter(torch.zeros(1, pretrain_grid**2 + 1, hidden_size))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, hidden_size, 16, 16)})
        inner = int(hidden_size * 8 / 3)
        self.blocks = nn.ModuleList()
        for _ in range(depth):
            attn = nn.Module()
            for name in ("q_proj", "k_proj", "v_proj"):
                setattr(attn, name, nn.Linear(hidden_size, hidden_size, bias=False))
            attn.q_bias, attn.v_bias = (nn.Parameter(torch.zeros(hidden_size)) for _ in "qv")
            attn.proj = nn.Linear(hidden_size, hidden_size)
            mlp = nn.Module()
            mlp.w1, mlp.w2 = nn.Linear(hidden_size, inner), nn.Linear(hidden_size, inner)
            mlp.ffn_ln, mlp.w3 = nn.LayerNorm(inner, eps=1e-6), nn.Linear(inner, hidden_size)
            block = nn.Module()
            block.norm1, block.norm2 = (nn.LayerNorm(hidden_size, eps=1e-6) for _ in "12")
            block.attn, block.mlp = attn, mlp
            self.blocks.append(block)

    def rotated(self, x: Tensor, positions: Tensor) -> Tensor:
        """[N, d] at [N, 2] (row, column): complex numbers made of neighbours, turned."""
        half = x.shape[1] // 2
        out = []
        for axis in (0, 1):
            part = torch.view_as_complex(x[:, axis * half : (axis + 1) * half].reshape(len(x), -1, 2).contiguous())
            speed = 10000.0 ** (-torch.arange(part.shape[1]) * 2 / half)
            turned = part * torch.polar(torch.ones(part.shape), positions[:, axis, None] * speed)
            out.append(torch.view_as_real(turned).flatten(1))
        return torch.cat(out, 1)

    def attention(self, attn: Any, x: Tensor, positions: Tensor) -> Tensor:
        q, k = x @ attn.q_proj.weight.T + attn.q_bias, x @ attn.k_proj.weight.T
        v = x @ attn.v_proj.weight.T + attn.v_bias
        d = x.shape[1] // self.heads
        heads = []
        for h in range(self.heads):
            own = slice(h * d, (h + 1) * d)
            score = self.rotated(q[:, own], positions) @ self.rotated(k[:, own], positions).T / d**0.5
            heads.append(score.softmax(-1) @ v[:, own])
        return attn.proj(torch.cat(heads, 1))  # type: ignore[no-any-return]

    def forward(self, pixels: Tensor) -> Tensor:
        """[3, H, W] -> [cells, cells, D]."""
        n, w = self.cells, self.window
        x = self.patch_embed["proj"](pixels[None])[0].permute(1, 2, 0)
        table = self.pos_embed[0, 1:].reshape(1, *[int((self.pos_embed.shape[1] - 1) ** 0.5)] * 2, -1)
        table = F.interpolate(table.permute(0, 3, 1, 2), size=(n, n), mode="bicubic", align_corners=False)
        x = x + table[0].permute(1, 2, 0)
        place = torch.stack(torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij"), -1).float()
        for i, block in enumerate(self.blocks):
            h, out = block.norm1(x), torch.zeros_like(x)
            size = n if i in self.open else w
            for top in range(0, n, size):
                for left in range(0, n, size):
                    cut = (slice(top, top + size), slice(left, left + size))
                    positions = (place[cut] - place[top, left]).flatten(0, 1) / size * self.trained
                    out[cut] = self.attention(block.attn, h[cut].flatten(0, 1), positions).reshape(size, size, -1)
            x = x + out
            h, mlp = block.norm2(x), block.mlp
            x = x + mlp.w3(mlp.ffn_ln(F.silu(mlp.w1(h)) * mlp.w2(h)))
        return x


def library(tag: str) -> nn.Module:
    """The library's own module for an encoder, without weights worth having."""
    sizes = SIZES[tag]
    if tag == "clip-448":
        return CLIPVisionModel(CLIPVisionConfig(**sizes))
    if tag == "convnext-1024":
        return ConvNeXt(num_classes=0, norm_eps=1e-5, **sizes)
    if tag == "sam-1024":
        return SamVisionEncoder(SamVisionConfig(**sizes))
    if tag == "pix2struct-1024":
        return Pix2StructVisionModel(Pix2StructVisionConfig(**sizes))
    return PlainEva(**sizes)


def released_name(tag: str, key: str) -> str | None:
    """What the released files call a weight of `library`; None for one that they lack."""
    if tag == "clip-448":
        return f"vision_model.{key}"
    if tag == "convnext-1024":
        return key.replace(".gamma", ".weight")
    if tag == "sam-1024" and key.startswith("neck.") and key.split(".")[1] in ("conv2", "layer_norm2"):
        return None
    return key


class Plain(nn.Module):
    """A whole model in the libraries' own modules."""

    def __init__(self, tags: Sequence[str], llama: dict[str, Any]) -> None:
        super().__init__()
        self.tags = tuple(tags)
        self.vision = nn.ModuleList(library(tag) for tag in tags)
        width = llama["hidden_size"]
        self.projector = nn.Sequential(
            nn.Linear(sum(WIDTHS[tag] for tag in tags), width), nn.GELU(), nn.Linear(width, width)
        )
        self.decoder = LlamaForCausalLM(LlamaConfig(**llama))
        self.eval().requires_grad_(False)

    def released(self) -> dict[str, Tensor]:
        """The state dict as the released files have it, with what they carry besides."""
        out: dict[str, Tensor] = {}
        for i, tag in enumerate(self.tags):
            prefix = f"model.vision_tower.vision_towers.{i}.vision_tower."
            for key, value in self.vision[i].state_dict().items():
                if (name := released_name(tag, key)) is not None:
                    out[prefix + name] = value
            if tag == "det-1024":
                out |= {
                    f"{prefix}{name}": torch.zeros(3) for name in ("rope_win.freqs_cos", "blocks.0.attn.rope.freqs_sin")
                }
        out |= {f"model.mm_projector.{key}": value for key, value in self.projector.state_dict().items()}
        out |= dict(self.decoder.state_dict())
        return {key: value.contiguous() for key, value in out.items()}

    def encoded(self, tag: str, pixels: Tensor) -> Tensor:
        """[3, 256, 256] normalised -> [h, w, D] as the encoder gives it."""
        model: Any = self.vision[self.tags.index(tag)]
        if tag == "clip-448":
            size = (SIZES[tag]["image_size"],) * 2
            x = model.embeddings(F.interpolate(pixels[None], size=size, mode="bilinear", align_corners=True))
            x = model.encoder(inputs_embeds=model.pre_layrnorm(x[:, 1:])).last_hidden_state[0]
            return x.reshape(6, 6, -1)  # type: ignore[no-any-return]
        if tag == "convnext-1024":
            return model.forward_features(pixels[None])[0].permute(1, 2, 0)  # type: ignore[no-any-return]
        if tag == "sam-1024":
            seen: list[Tensor] = []
            hook = model.neck.layer_norm1.register_forward_hook(lambda *call: seen.append(call[2]))
            model(pixels[None])
            hook.remove()
            return seen[0][0].permute(1, 2, 0)
        if tag == "det-1024":
            return model(pixels)  # type: ignore[no-any-return]
        rows = pix2struct_rows(pixels, max_patches=PATCHES, patch=4)
        return model(flattened_patches=rows[None]).last_hidden_state[0, :49].reshape(7, 7, -1)  # type: ignore[no-any-return]

    def joined(self, pixels: Tensor) -> Tensor:
        """[3, 256, 256] -> [64, sum of widths]: all encoders on the common grid."""
        parts = []
        for tag in self.tags:
            planes = self.encoded(tag, pixels).permute(2, 0, 1)[None]
            if tag == "sam-1024":
                c = planes.shape[1]
                planes = torch.stack([planes[:, i // 4, i % 4 // 2 :: 2, i % 2 :: 2] for i in range(4 * c)], 1)
            if planes.shape[-1] != GRID:
                planes = F.interpolate(planes, size=(GRID, GRID), mode="bilinear", align_corners=True)
            parts.append(planes[0].flatten(1).T)
        return torch.cat(parts, 1)

    def visual(self, pixels: Tensor) -> Tensor:
        """[3, 256, 256] -> [64, D] as the language model gets it."""
        return self.projector(self.joined(pixels))  # type: ignore[no-any-return]


def pix2struct_rows(pixels: Tensor, max_patches: int, patch: int) -> Tensor:
    """[max_patches, 2 + 3·patch²]: the published preprocessing of normalised pixels, value by value."""
    x = (pixels * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]) * 255
    x = (x - x.mean()) / max(float(x.std(correction=0)), x.numel() ** -0.5)
    side = int((max_patches * (patch / x.shape[1]) * (patch / x.shape[2])) ** 0.5 * x.shape[1] / patch)
    size = (side * patch, side * patch)
    x = F.interpolate(x[None], size=size, mode="bilinear", align_corners=False, antialias=True)[0]
    out = torch.zeros(max_patches, 2 + 3 * patch**2)
    for row in range(side):
        for column in range(side):
            cut = x[:, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch]
            out[row * side + column, 0], out[row * side + column, 1] = row + 1, column + 1
            out[row * side + column, 2:] = cut.permute(1, 2, 0).flatten()
    return out


def llama_sizes(vocabulary: int) -> dict[str, Any]:
    """A language model with grouped keys."""
    return {
        "vocab_size": vocabulary,
        "hidden_size": 48,
        "intermediate_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }


@cache
def plain(tags: tuple[str, ...] = X5, vocabulary: int = 340) -> Plain:
    """Random weights large enough that tokens, heads and answers differ."""
    torch.manual_seed(0)
    model = cast("Plain", enliven(Plain(tags, llama_sizes(vocabulary)), 5))
    for name, p in model.named_parameters():
        if name.endswith("gamma"):  # 1e-6 would hide the convolutions
            p.fill_(0.5)
    return model
