"""What the engine asks of a model: towers, fusion, decoder, processor. Adapters compose library modules behind it.

A model is described as data (`ModelCard`) and built lazily. Nothing here knows about pruning methods.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from meteor_bench.core.attention_probe import Probe
from meteor_bench.core.processing import PLAIN, Clip, Look, Processor, Prompt, Scene
from meteor_bench.core.tokens import Block, Grid, Tokens

__all__ = [
    "PLAIN",
    "VLM",
    "Clip",
    "Decoder",
    "Fusion",
    "FusionKind",
    "KVCache",
    "Look",
    "ModelCard",
    "Processor",
    "Prompt",
    "Scene",
    "VisionTower",
]


FusionKind = Literal["independent", "shared"]


class VisionTower(nn.Module, ABC):
    """A vision encoder cut into blocks. Rows are frames: a clip of 4 frames is 4 rows.

    Attributes:
        name: key of the tower in the model.
        dim: width of its features.
        depth: number of transformer blocks; 0 for an opaque (convolutional) tower that is run whole by `embed`.
        has_cls: whether its first token is a class token.
        halves: whether a block can be interrupted between attention and MLP.
        opens: whether a probe can read the values and the logits of its attention.
        weighable: whether its attention takes a mask of numbers, so that merged tokens can count for several.
        taps: blocks, ascending, behind each of which the tokens' features go into `Tokens.deep`, for the fusion to
            project with those of the last; of towers of independent fusions.
    """

    name: str
    dim: int
    depth: int
    has_cls: bool
    halves: bool
    opens: bool = False
    weighable: bool = True
    taps: tuple[int, ...] = ()

    @property
    def inside(self) -> int:
        """Width of the sequence between two blocks."""
        return self.dim

    @property
    def specials(self) -> int:
        """Class and register tokens, which stand first."""
        return int(self.has_cls)

    @abstractmethod
    def grid(self, height: int, width: int) -> Grid:
        """Token grid (t = 1) of one frame of that many pixels, as the processor delivers it."""

    @abstractmethod
    def embed(self, pixels: Tensor) -> Tokens:
        """[R, 3, H, W] -> tokens before the first block (the whole encoder when ``depth`` is 0)."""

    def where(self, tokens: Tokens) -> Any:
        """What the blocks must know about where the tokens stand (rotations, windows), for `attend`.

        It is asked for once between two points. By default nothing.
        """
        return None

    @abstractmethod
    def attend(self, block: int, x: Tensor, mask: Tensor | None, probe: Probe | None, where: Any = None) -> Tensor:
        """Attention half of a block with its residual: [R, N, D] -> [R, N, D].

        Args:
            mask: [R, 1, N, N] bool, True where a query may see a key, or float, added to the logits; None when
                nothing is padded.
            where: what `where` gave for these tokens.
        """

    @abstractmethod
    def feed(self, block: int, x: Tensor) -> Tensor:
        """MLP half of a block with its residual: [R, N, D] -> [R, N, D]."""

    @abstractmethod
    def finish(self, tokens: Tokens) -> Tokens:
        """Final norm; class tokens are removed here."""

    @abstractmethod
    def flops_embed(self, height: int, width: int) -> int:
        """FLOPs of `embed` for one frame."""

    def windows(self, tokens: Tokens) -> Tensor | None:
        """[R, N] index of the window in which most blocks see a token, -1 for padding; None: all see everything."""
        return None

    def in_windows(self, tokens: Tokens) -> Tensor | None:
        """[R, W] long on the CPU, tokens in each window, where there are `windows`."""
        return None

    def pairs(self, block: int, where: Any) -> Tensor | None:
        """[R] query-key pairs that a block's attention computes; None: every token with every token.

        Or whatever else `flops_block` can tell the block's FLOPs from.
        """
        return None

    @abstractmethod
    def flops_block(self, attention: int, mlp: int, pairs: int | None = None) -> int:
        """FLOPs of one block for one frame, given the sequence lengths of its two halves, specials included.

        Args:
            pairs: query-key pairs of its attention (see `pairs`); None: ``attention`` squared.
        """

    def flops_finish(self, tokens: int) -> int:
        """FLOPs of `finish` for that many tokens of one frame; a norm alone counts nothing."""
        return 0


class Fusion(nn.Module, ABC):
    """Brings the towers' tokens into the language model's space.

    Attributes:
        kind: "independent": one projector per tower, sequence concatenation in tower order. "shared": towers
            resampled to one grid, concatenated along channels, one projector.
    """

    kind: FusionKind

    @abstractmethod
    def align(self, towers: Mapping[str, Tensor], grids: Mapping[str, Grid]) -> Tensor:
        """Shared only: dense per-sample features {tower: [B, G_l, D_l]} -> [B, N, sum of D_l] on the common grid."""

    @abstractmethod
    def common(self, grids: Mapping[str, Grid]) -> Grid:
        """Shared only: the grid that the towers are resampled to."""

    def cells(self, grids: Mapping[str, Grid]) -> Mapping[str, Tensor]:
        """Shared only: see `Layout.cells`."""
        return {}

    @abstractmethod
    def project(self, tokens: Tokens, tower: str | None = None) -> Tokens:
        """Features -> [B, N, D_llm]. ``tower`` names the projector of an independent fusion."""

    def place(self, tokens: Tokens, tower: str | None = None) -> Tokens:
        """Add what a model adds after projection (position tables); by default nothing."""
        return tokens

    @abstractmethod
    def partials(self, aligned: Tensor) -> dict[str, Tensor]:
        """Shared only: W·concat(f_l) split by tower, {tower: [B, N, hidden]}; they sum to W·f (bias left out)."""

    def flops_align(self, grids: Mapping[str, Grid]) -> int:
        """Shared only: FLOPs of `align` for a sample; resampling alone counts nothing."""
        return 0

    @abstractmethod
    def flops(self, counts: Mapping[str, int]) -> int:
        """FLOPs of projecting that many tokens per tower (shared: the key "fused")."""


class KVCache(Protocol):
    """What a library attention module calls; see `engine.kv_cache`."""

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append [B, H, n, d] to a layer's cache; returns everything cached in it."""
        ...


class Decoder(nn.Module, ABC):
    """The language model, one layer at a time.

    Attributes:
        dim, depth, heads, kv_heads: its shape.
        axes: of its position ids.
    """

    dim: int
    depth: int
    heads: int
    kv_heads: int
    axes: int = 1

    @abstractmethod
    def embed(self, ids: Tensor) -> Tensor:
        """[B, T] ids -> [B, T, D]."""

    @abstractmethod
    def rotary(self, h: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines of ids [B, T], or [B, T, A] where a token stands on A axes, in the dtype of ``h``."""

    @abstractmethod
    def layer(
        self,
        index: int,
        h: Tensor,
        rotary: tuple[Tensor, Tensor],
        mask: Tensor | None,
        cache: KVCache,
        probe: Probe | None,
    ) -> Tensor:
        """Run one layer on [B, T, D]; keys and values are appended to ``cache``.

        Args:
            mask: [B, 1, T, K] bool over cached plus new keys; None: causal, nothing padded.
        """

    def peek(
        self,
        index: int,
        h: Tensor,
        rotary: tuple[Tensor, Tensor],
        mask: Tensor | None,
        probe: Probe | None,
        scratch: KVCache,
    ) -> None:
        """Let the probe read one layer's attention on [B, T, D]; no output is kept.

        Args:
            scratch: an empty cache for a decoder that cannot do without one; thrown away afterwards.
        """
        self.layer(index, h, rotary, mask, scratch, probe)

    def fill(self, index: int, h: Tensor, rotary: tuple[Tensor, Tensor], cache: KVCache) -> None:
        """Append one layer's keys and values of [B, T, D] to ``cache``; its output is not wanted."""
        self.layer(index, h, rotary, None, cache, None)

    @abstractmethod
    def norm(self, h: Tensor) -> Tensor:
        """Final norm: [..., D] -> [..., D]."""

    @abstractmethod
    def head(self, h: Tensor) -> Tensor:
        """Final norm and vocabulary projection: [B, D] -> [B, V]."""

    @abstractmethod
    def flops_layer(self, queries: int, keys: int) -> int:
        """FLOPs of one layer for that many new tokens over ``keys`` keys (cached plus new), no causal discount."""

    @abstractmethod
    def flops_head(self, tokens: int) -> int:
        """FLOPs of the vocabulary projection."""


@dataclass
class VLM:
    """A plain container.

    Attributes:
        name: row of the model table.
        towers: in the order of the model's configuration.
        reference: `grid` of a sample -> N, the visual tokens that the unpruned reference model feeds its LLM.
        reference_fusion: where that is another model, its fusion, of which only the FLOPs are asked; None: this one's.
        native: height and width in pixels of an image as the processor delivers it.
        digest: hash of the checkpoint's bytes, for records.
        folder: of the checkpoint; a method's trained parts for this model lie in folders of their own in there.
        resizable: whether the encoders also take smaller images than the processor delivers, with smaller grids.
        block: grid of the visual tokens -> how they stand in the language model; None in either place: one
            after another.
        scenes: scene -> the fields (`towers`, `fusion`, `reference`, `block`) that differ there from those of a single
            image; None where none does.
    """

    name: str
    towers: dict[str, VisionTower]
    fusion: Fusion
    decoder: Decoder
    processor: Processor
    reference: Callable[[Grid], int]
    native: tuple[int, int]
    reference_fusion: Fusion | None = None
    digest: str = ""
    folder: Path | None = None
    resizable: bool = True
    block: Callable[[Grid], Block | None] | None = None
    scenes: Callable[[Scene], Mapping[str, Any]] | None = None

    def at(self, scene: Scene) -> VLM:
        """The model as it is for samples of a scene."""
        return self if self.scenes is None else replace(self, **self.scenes(scene))

    @property
    def lead(self) -> str:
        """The tower with the most tokens on an image (the first of equals)."""
        return max(self.towers, key=lambda name: self.towers[name].grid(*self.native).n)

    def grid(self, frames: int, height: int, width: int) -> Grid:
        """The lead tower's grid of a sample of that many frames and pixels."""
        return Grid(frames, *self.towers[self.lead].grid(height, width)[1:])

    @property
    def device(self) -> torch.device:
        """Where the decoder lives."""
        return next(self.decoder.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The decoder's dtype."""
        return next(self.decoder.parameters()).dtype

    def modules(self) -> dict[str, nn.Module]:
        """Every module by name, for digests and laws."""
        return {**{f"towers.{k}": t for k, t in self.towers.items()}, "fusion": self.fusion, "decoder": self.decoder}


@dataclass(frozen=True)
class ModelCard:
    """A row of `list models`: what a model is, without building it.

    Attributes:
        build: (device, dtype, source) -> VLM; ``source`` is a checkpoint's folder, None for the shipped weights.
        variants: fusion kind -> name of the model that offers it, for methods that prefer one.
        weights: folder or hub id of the weights, None where they are shipped, or not published.
        published: whether there are weights that ``build`` could read.
        random: (device, dtype) -> VLM of the real size with random weights; the device may be "meta". Needs no file
            but those of the package.
        shallow: number of layers -> the same with the first of its language model alone, for random weights; None where
            the family cannot say it.
    """

    name: str
    fusion: FusionKind
    towers: Mapping[str, str]
    llm: str
    tokens: int
    licence: str
    build: Callable[..., VLM]
    variants: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    weights: str | None = None
    published: bool = True
    random: Callable[[str, torch.dtype], VLM] | None = None
    shallow: Callable[[int], ModelCard] | None = None
