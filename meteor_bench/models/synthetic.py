"""A model of real shape that computes nothing: what a method's own decisions cost, without the model around them.

Its towers and its language model hand on what they get, clustered random features; where a probe is active it reads
queries and keys of the real shape. The engine and the methods cannot tell it from a model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from meteor_bench.core.attention_probe import Probe
from meteor_bench.core.model import VLM, Decoder, KVCache, Processor, Prompt, VisionTower
from meteor_bench.core.pick import pick
from meteor_bench.core.tokens import Grid, Tokens
from meteor_bench.models.fusions import Independent

__all__ = ["WORDS", "Shape", "clustered", "synthetic_model", "vit"]

PATCH = 14  # pixels, as in CLIP-L/14
VOCABULARY = 64
WORDS = 32  # of a question


def clustered(rows: int, n: int, dim: int, seed: int = 0) -> Tensor:
    """[rows, n, dim] float32: each token near one of n/8 centres, whose sizes fall off as in an image's spectrum."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(rows, max(2, n // 8), dim, generator=generator)
    centres = centres / (1 + torch.arange(centres.shape[1]))[:, None] ** 0.5
    which = torch.randint(centres.shape[1], (rows, n), generator=generator)
    points = centres.gather(1, which[..., None].expand(-1, -1, dim))
    return points + 0.05 * torch.randn(rows, n, dim, generator=generator)


def _read(probe: Probe | None, x: Tensor, keys: Tensor, heads: int, mask: Tensor | None, *, causal: bool) -> None:
    """Let the probe read attention of ``x`` [R, Q, D] to ``keys`` [R, K, D], as the attention kernel would."""
    if probe is None:
        return
    # [R, H, Q or K, d], as a model's projections leave them
    query, key = (part.reshape(*part.shape[:2], heads, -1).transpose(1, 2).contiguous() for part in (x, keys))
    with nullcontext() if probe.clock is None else probe.clock.stage("prune"):
        probe.read(query, key, mask, None, causal, 1, key)


class HollowTower(VisionTower):
    """A ViT with a class token whose blocks hand on their input.

    Args:
        features: [pictures, 1 + grid.n, D]; a picture is a constant image, its value the row.
    """

    has_cls = True
    halves = True
    opens = True

    def __init__(self, name: str, features: Tensor, grid: Grid, depth: int, heads: int) -> None:
        super().__init__()
        self.name, self.depth, self.dim = name, depth, features.shape[-1]
        self.features, self.full, self.heads = features, grid, heads

    def grid(self, height: int, width: int) -> Grid:
        return Grid(1, height // PATCH, width // PATCH)

    def embed(self, pixels: Tensor) -> Tokens:
        grid = self.grid(*pixels.shape[-2:])
        x = self.features[pixels[:, 0, 0, 0].round().long()]
        cells = x[:, 1:].reshape(len(x), self.full.h, self.full.w, -1)[:, : grid.h, : grid.w].flatten(1, 2)
        return Tokens.dense(torch.cat([x[:, :1], cells], 1), grid, specials=1)

    def attend(self, block: int, x: Tensor, mask: Tensor | None, probe: Probe | None, where: Any = None) -> Tensor:
        _read(probe, x, x, self.heads, mask, causal=False)
        return x

    def feed(self, block: int, x: Tensor) -> Tensor:
        return x

    def finish(self, tokens: Tokens) -> Tokens:
        return pick(tokens, tokens.visual)

    def flops_embed(self, height: int, width: int) -> int:
        return 0

    def flops_block(self, attention: int, mlp: int, pairs: int | None = None) -> int:
        return 0


class HollowFusion(Independent):
    """One random linear map [D, D_llm] for all towers."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = weight

    def project(self, tokens: Tokens, tower: str | None = None) -> Tokens:
        return tokens.with_x(tokens.x @ self.weight)

    def flops(self, counts: Mapping[str, int]) -> int:
        return 0


class HollowDecoder(Decoder):
    """A language model whose layers hand on their input, which is also their keys."""

    def __init__(self, dim: int, depth: int, heads: int, seed: int = 0) -> None:
        super().__init__()
        self.dim, self.depth, self.heads, self.kv_heads = dim, depth, heads, heads
        words = torch.randn(VOCABULARY, dim, generator=torch.Generator().manual_seed(seed))
        self.words = nn.Parameter(words, requires_grad=False)

    def embed(self, ids: Tensor) -> Tensor:
        return self.words[ids]

    def rotary(self, h: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        width = self.dim // self.heads
        frequency = 10000.0 ** -(torch.arange(0, width, 2, device=h.device) / width)
        angle = (positions[..., None] * frequency).repeat(1, 1, 2)
        return angle.cos().to(h.dtype), angle.sin().to(h.dtype)

    def layer(
        self,
        index: int,
        h: Tensor,
        rotary: tuple[Tensor, Tensor],
        mask: Tensor | None,
        cache: KVCache,
        probe: Probe | None,
    ) -> Tensor:
        keys, _ = cache.update(h[:, None], h[:, None, :, :1], index)
        _read(probe, h, keys[:, 0], self.heads, mask, causal=True)
        return h

    def norm(self, h: Tensor) -> Tensor:
        return F.rms_norm(h, (self.dim,))

    def head(self, h: Tensor) -> Tensor:
        return h @ self.words.T

    def flops_layer(self, queries: int, keys: int) -> int:
        return 0

    def flops_head(self, tokens: int) -> int:
        return 0


class HollowProcessor(Processor):
    """A picture is its number; a question that many words."""

    eos = frozenset({0})

    def __init__(self, height: int, width: int) -> None:
        self.size = (height, width)

    def pixels(self, media: Sequence[Any]) -> Tensor:
        return torch.stack([torch.full((3, *self.size), float(number)) for number in media])

    def prompt(self, question: str) -> Prompt:
        return Prompt((1,), tuple(2 + i % (VOCABULARY - 2) for i in range(int(question))))

    def continuation(self, text: str) -> tuple[int, ...]:
        return ()

    def decode(self, ids: Sequence[int]) -> str:
        return ""


@dataclass(frozen=True)
class Shape:
    """What a synthetic model is like: CLIP-L and a language model as wide as a 7B Llama, with a quarter of its layers.

    Attributes:
        grid: of each encoder, t = 1.
        towers: how many encoders.
        tower_dim, tower_depth, tower_heads: of each.
        dim, depth, heads: of the language model.
    """

    grid: Grid
    towers: int = 1
    tower_dim: int = 1024
    tower_depth: int = 24
    tower_heads: int = 16
    dim: int = 4096
    depth: int = 8
    heads: int = 32


def synthetic_model(
    shape: Shape, pictures: int, *, device: str = "cpu", dtype: torch.dtype = torch.float32, seed: int = 0
) -> VLM:
    """A synthetic model that knows that many pictures.

    On several encoders the reference of a budget is one encoder's tokens.
    """
    place: dict[str, Any] = {"device": device, "dtype": dtype}
    towers: dict[str, VisionTower] = {}
    for i in range(shape.towers):
        features = clustered(pictures, 1 + shape.grid.n, shape.tower_dim, seed + i).to(**place)
        name = f"vit{i}"
        towers[name] = HollowTower(name, features, shape.grid, shape.tower_depth, shape.tower_heads)
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(shape.tower_dim, shape.dim, generator=generator) / shape.tower_dim**0.5
    height, width = shape.grid.h * PATCH, shape.grid.w * PATCH
    return VLM(
        name=f"a synthetic model with {shape.towers} encoder{'s' * (shape.towers > 1)}",
        towers=towers,
        fusion=HollowFusion(weight.to(**place)),
        decoder=HollowDecoder(shape.dim, shape.depth, shape.heads, seed).to(**place),
        processor=HollowProcessor(height, width),
        reference=lambda grid: grid.n,
        native=(height, width),
    )


def vit(shape: Shape, batch: int, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Callable[[], object]:
    """A real ViT of the shape's encoder, with random weights: call it to encode a batch of pictures of noise."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    height, width = shape.grid.h * PATCH, shape.grid.w * PATCH
    config = CLIPVisionConfig(
        hidden_size=shape.tower_dim,
        intermediate_size=4 * shape.tower_dim,
        num_hidden_layers=shape.tower_depth,
        num_attention_heads=shape.tower_heads,
        image_size=height,
        patch_size=PATCH,
    )
    model = CLIPVisionModel(config).eval().requires_grad_(False).to(device, dtype)
    pixels = torch.randn(batch, 3, height, width).to(device, dtype)

    def encode() -> object:
        with torch.inference_mode():
            return model(pixels).last_hidden_state

    return encode
