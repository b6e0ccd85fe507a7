"""Images at any resolution (LLaVA-NeXT, LLaVA-OneVision): a small copy and tiles of the whole, each a row of the tower.

The tiles' maps are put together, what lies in the padding is cut off, and a newline ends each row of the result. Where
the result is too large, LLaVA-OneVision shrinks it behind the projector. A cell of the padding is never a visual token,
whatever is pruned; the encoder runs it as the library does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from transformers.models.llava_next.modeling_llava_next import (
    get_anyres_image_grid_shape,
    image_size_to_num_patches,
    unpad_image,
)

from meteor_bench.core.host import on_device, upload
from meteor_bench.core.model import VLM, Decoder, Fusion, Scene, VisionTower
from meteor_bench.core.tokens import Block, Grid, Tokens
from meteor_bench.models.decoders import CausalLM, LlamaDecoder
from meteor_bench.models.fusions import linear_flops
from meteor_bench.models.hub_processor import HubProcessor

__all__ = ["Picture", "TileFusion", "Tiling", "assemble", "newline_block"]

SHRINK_FROM = 1.1  # LLaVA-OneVision's threshold on the ratio of sides


@dataclass(frozen=True)
class Picture:
    """How an image's cells become visual tokens.

    Attributes:
        base: [h·w] cells of the small copy.
        whole: [H, W] cells of the tiles put together, padding cut off; None for an image without tiles.
        shrunk: height and width that it is resampled to, None where it is not.
    """

    base: Tensor
    whole: Tensor | None = None
    shrunk: tuple[int, int] | None = None

    @property
    def shape(self) -> tuple[int, int] | None:
        """Height and width of what the tiles become."""
        return self.shrunk or (None if self.whole is None else (self.whole.shape[0], self.whole.shape[1]))

    @property
    def count(self) -> int:
        """Visual tokens."""
        return len(self.base) + (0 if self.shape is None else self.shape[0] * self.shape[1])

    def nearest(self) -> Tensor:
        """[count] the cell that each visual token is made of, the nearest one where it is resampled."""
        if self.whole is None or self.shape is None:
            return self.base
        (height, width), (h, w) = self.whole.shape, self.shape
        rows = (2 * torch.arange(h) + 1) * height // (2 * h)
        columns = (2 * torch.arange(w) + 1) * width // (2 * w)
        return torch.cat([self.base, self.whole[rows][:, columns].flatten()])


@dataclass(frozen=True)
class Tiling:
    """A model's way of cutting images.

    Attributes:
        pinpoints: sizes (height, width) in pixels that an image may be resized to.
        tile: side of a tile in pixels.
        side: of its grid of cells.
        most: tiles' worth of cells that an image may have before it is shrunk; None for any.
    """

    pinpoints: list[list[int]]
    tile: int
    side: int
    most: int | None = None

    def rows(self, size: tuple[int, int]) -> int:
        """Tower rows of an image of that height and width: the small copy and the tiles."""
        return int(image_size_to_num_patches(list(size), self.pinpoints, self.tile))

    def pictures(self, sizes: Sequence[tuple[int, int]], *, tiled: bool = True) -> list[Picture]:
        """The images of a sample, one after another; without tiles each is its small copy."""
        cells, out, first = self.side**2, [], 0
        for size in sizes:
            base = torch.arange(first, first + cells)
            rows = self.rows(size) if tiled else 1
            whole = self._whole(size, first + cells) if rows > 1 else None
            out.append(Picture(base, whole, None if whole is None else self._shrunk(whole)))
            first += rows * cells
        return out

    def _whole(self, size: tuple[int, int], first: int) -> Tensor:
        down, across = get_anyres_image_grid_shape(list(size), self.pinpoints, self.tile)
        cells = torch.arange(first, first + down * across * self.side**2)
        tiles = cells.view(down, across, self.side, self.side).transpose(1, 2)
        whole: Tensor = unpad_image(tiles.reshape(1, down * self.side, across * self.side), list(size))[0]
        return whole

    def _shrunk(self, whole: Tensor) -> tuple[int, int] | None:
        if self.most is None:
            return None
        height, width = whole.shape
        ratio = sqrt(height * width / (self.most * self.side**2))
        return (int(height // ratio), int(width // ratio)) if ratio > SHRINK_FROM else None


class TileFusion(Fusion):
    """One projector over the cells of all pictures of a sample.

    Its grid is that of the rows where no picture has tiles, else a sequence: `cells` says what it is made of.
    """

    kind = "shared"

    def __init__(self, projector: nn.Module, tower: str, pictures: Sequence[Picture], side: int) -> None:
        super().__init__()
        self.projector, self.tower, self.pictures, self.side = projector, tower, tuple(pictures), side
        self.shrinks = any(p.shrunk for p in pictures)

    def common(self, grids: Mapping[str, Grid]) -> Grid:
        if all(p.whole is None for p in self.pictures):
            return grids[self.tower]
        return Grid(1, 1, sum(p.count for p in self.pictures))

    def cells(self, grids: Mapping[str, Grid]) -> dict[str, Tensor]:
        if all(p.whole is None for p in self.pictures):
            return {}
        device = next(self.projector.parameters()).device
        return {self.tower: on_device(torch.cat([p.nearest() for p in self.pictures]), device)}

    def align(self, towers: Mapping[str, Tensor], grids: Mapping[str, Grid]) -> Tensor:
        x = towers[self.tower]
        if not self.shrinks:
            cells = self.cells(grids)
            return x[:, cells[self.tower]] if cells else x
        x = self.projector(x)
        parts = []
        for picture in self.pictures:
            parts.append(x[:, on_device(picture.base, x.device)])
            if picture.whole is None:
                continue
            planes = (
                x[:, on_device(picture.whole.flatten(), x.device)].unflatten(1, picture.whole.shape).permute(0, 3, 1, 2)
            )
            if picture.shrunk is not None:
                planes = interpolate(planes, picture.shrunk, mode="bilinear")
            parts.append(planes.flatten(2).transpose(1, 2))
        return torch.cat(parts, 1)

    def project(self, tokens: Tokens, tower: str | None = None) -> Tokens:
        return tokens if self.shrinks else tokens.with_x(self.projector(tokens.x))

    def partials(self, aligned: Tensor) -> dict[str, Tensor]:
        return {self.tower: aligned if self.shrinks else self.projector(aligned)}

    def flops_align(self, grids: Mapping[str, Grid]) -> int:
        return linear_flops(self.projector, grids[self.tower].n) if self.shrinks else 0

    def flops(self, counts: Mapping[str, int]) -> int:
        return 0 if self.shrinks else sum(linear_flops(self.projector, n) for n in counts.values())


def newline_block(
    decoder: Decoder, pictures: Sequence[Picture], newline: Tensor, between: Sequence[Sequence[int]]
) -> Block:
    """Each picture's small copy, then its rows with a newline behind each; one newline behind a picture without tiles.

    Args:
        newline: [D].
        between: ids of the text between each two pictures.
    """
    newline = newline.to(next(decoder.parameters()).device)  # a model may be spread over several
    slots: list[int] = []
    special: list[int] = []
    pieces: list[Tensor] = []
    for i, picture in enumerate(pictures):
        start = len(slots) + len(special)
        slots += range(start, start + len(picture.base))
        start += len(picture.base)
        rows, width = picture.shape or (1, 0)
        for row in range(rows):
            slots += range(start + row * (width + 1), start + row * (width + 1) + width)
        special += [start + row * (width + 1) + width for row in range(rows)]
        pieces.append(newline.expand(rows, -1))
        if i + 1 < len(pictures) and between[i]:
            start = len(slots) + len(special)
            special += range(start, start + len(between[i]))
            pieces.append(decoder.embed(upload(between[i], newline.device)))
    places = [upload(part, newline.device, torch.long) for part in (slots, special)]
    return Block(places[0], torch.cat(pieces), places[1])


def assemble(
    name: str,
    model: Any,
    tower: VisionTower,
    processor: HubProcessor,
    tiling: Tiling,
    *,
    each: bool,
    clip: Callable[[], Mapping[str, Any]] | None = None,
) -> VLM:
    """The library's modules in the engine's terms.

    Args:
        each: whether each of several images is cut into tiles, or only a single one.
        clip: gives what `VLM.scenes` says of a video; None where a video is images.
    """
    body = model.model
    decoder = LlamaDecoder(CausalLM(body.language_model, model.lm_head))

    def fusion(pictures: Sequence[Picture]) -> TileFusion:
        return TileFusion(body.multi_modal_projector, tower.name, pictures, tiling.side)

    def scenes(scene: Scene) -> Mapping[str, Any]:
        if clip is not None and scene.clip:
            return clip()
        pictures = tiling.pictures(scene.sizes, tiled=each or len(scene.sizes) == 1)
        between = processor.between(len(pictures))
        return {
            "fusion": fusion(pictures),
            "reference": lambda grid: sum(p.count for p in pictures),
            "block": lambda grid: newline_block(decoder, pictures, body.image_newline, between),
        }

    return VLM(
        name=name,
        towers={tower.name: tower},
        fusion=fusion(()),
        decoder=decoder,
        processor=processor,
        reference=lambda grid: grid.n,
        native=(tiling.tile, tiling.tile),
        resizable=False,
        scenes=scenes,
    )
