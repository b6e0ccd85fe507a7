"""A text expert: the convolutions of PP-OCRv4's recogniser as a tower, which sees a whole picture instead of a line.

The recogniser (of `rapidocr-onnxruntime`) gets a line of text of 48 pixels' height and makes of it one row of columns,
each 8 pixels wide, which two transformer blocks and a classifier read. What is taken here ends before that row is
made: 14 blocks of a depthwise and a pointwise convolution. Their map is a 16th of the picture high, a 4th of it wide.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import hardsigmoid, hardswish, interpolate, relu

from meteor_bench.core import flops
from meteor_bench.core.tokens import Grid, Tokens
from meteor_bench.models.checkpoint import place_buffers
from meteor_bench.models.composed import parts
from meteor_bench.models.composed.towers import prepared
from meteor_bench.models.natural.map_tower import MapPart, MapTower, patches
from meteor_bench.models.natural.onnx_weights import read_graph
from meteor_bench.models.natural.packages import PP_OCR, weights_file

__all__ = ["CELL", "ColumnsTower", "Reader", "ReaderTower", "TextTrunk", "reader_tower", "text_trunk"]

COLUMNS = 4
"""Columns of the map that make a token, so that tokens are square."""
WIDTH = 480
"""Channels of the map."""
CELL = 16
"""Pixels of a token's side."""


@dataclass(frozen=True, kw_only=True)
class Reader(MapPart):
    """PP-OCRv4's recogniser without its transformer. Lines were 48 pixels high where it learned."""

    about: ClassVar[str] = "PP-OCRv4's recogniser, its convolutions"
    stride: ClassVar[int] = CELL
    channels: ClassVar[int] = COLUMNS * WIDTH
    pixels: parts.Normal = "siglip"
    image_size: int = 256


class _Block(NamedTuple):
    """Depthwise kernel, channels in and out, strides down and across, whether channels are weighed by their means."""

    kernel: int
    inputs: int
    outputs: int
    stride: tuple[int, int] = (1, 1)
    weighed: bool = False


BLOCKS = (
    _Block(3, 16, 32),
    _Block(3, 32, 64),
    _Block(3, 64, 64),
    _Block(3, 64, 128, (2, 1)),
    _Block(3, 128, 128),
    _Block(3, 128, 240, (1, 2)),
    *4 * (_Block(5, 240, 240),),
    _Block(5, 240, 480, (2, 1), weighed=True),
    _Block(5, 480, 480, weighed=True),
    _Block(5, 480, 480, (2, 1)),
    _Block(5, 480, 480),
)
"""The layout of the graph's own convolutions, in the order in which they run."""


class _Affine(nn.Module):
    """One factor and one shift for all channels."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(1)), nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift


class _Convolution(nn.Module):
    """With an affine map before and behind its hard swish."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: tuple[int, int], groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups)
        self.before, self.behind = _Affine(), _Affine()

    def forward(self, x: Tensor) -> Tensor:
        return cast("Tensor", self.behind(hardswish(self.before(self.conv(x)))))


class _Weighed(nn.Module):
    """Squeeze and excitation: each channel times a number made of all channels' means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze, self.excite = nn.Conv2d(channels, channels // 4, 1), nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * hardsigmoid(self.excite(relu(self.squeeze(x.mean((2, 3), keepdim=True)))))


class TextTrunk(nn.Module):
    """[R, 3, H, W], blue first, in -1..1 -> [R, 480, H / 16, W / 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        layers: list[nn.Module] = []
        for block in BLOCKS:
            layers.append(_Convolution(block.inputs, block.inputs, block.kernel, block.stride, block.inputs))
            if block.weighed:
                layers.append(_Weighed(block.inputs))
            layers.append(_Convolution(block.inputs, block.outputs, 1, (1, 1), 1))
        self.layers = nn.Sequential(*layers)

    def forward(self, pixels: Tensor) -> Tensor:
        return cast("Tensor", self.layers(self.norm(self.stem(pixels))))


class ReaderTower(MapTower[Reader]):
    """The trunk on a square picture; four neighbouring columns of its map are the channels of a token."""

    def embed(self, pixels: Tensor) -> Tokens:
        features = self.model(self.prepare(pixels).flip(1)).unflatten(3, (-1, COLUMNS))  # [R, D, h, w, 4]
        x = features.permute(0, 2, 3, 4, 1).flatten(3).flatten(1, 2)
        return Tokens.dense(x, self.grid(0, 0))

    def flops_embed(self, height: int, width: int) -> int:
        return self._flops(self.part.image_size)

    def _flops(self, side: int) -> int:
        h = w = side // 2
        total = flops.conv2d(h, w, 3, 16, 3)
        for block in BLOCKS:
            h, w = h // block.stride[0], w // block.stride[1]
            total += flops.conv2d(h, w, block.inputs, block.inputs, block.kernel, block.inputs)
            total += flops.conv2d(h, w, block.inputs, block.outputs, 1)
            if block.weighed:
                total += 2 * flops.conv2d(1, 1, block.inputs, block.inputs // 4, 1)
        return total


class ColumnsTower(ReaderTower):
    """The trunk with a token for each of the ViT's patches: of a picture of 224 pixels, enlarged to 256, 16x16.

    A token is the mean of its four columns: single letters are told as well by it (`scripts/natural_letters.py`), at a
    quarter of the channels.
    """

    def __init__(self, name: str, model: Any) -> None:
        super().__init__(name, model, Reader(), enlarged)
        self.dim = WIDTH

    def grid(self, height: int, width: int) -> Grid:
        return Grid(1, patches(height), patches(width))

    def embed(self, pixels: Tensor) -> Tokens:
        features = self.model(self.prepare(pixels).flip(1)).unflatten(3, (-1, COLUMNS)).mean(4)  # [R, D, h, w]
        return Tokens.dense(features.flatten(2).transpose(1, 2), self.grid(*pixels.shape[-2:]))

    def flops_embed(self, height: int, width: int) -> int:
        return self._flops(CELL * self.grid(height, width).h)


def enlarged(pixels: Tensor) -> Tensor:
    """Pixels [R, 3, H, W] in -1..1 -> each of the ViT's patches as large as a token."""
    size = [CELL * patches(length) for length in pixels.shape[-2:]]
    return interpolate(pixels, size=size, mode="bilinear", align_corners=False)


def text_trunk() -> TextTrunk:
    """The package's weights in torch's modules; both list them in the order in which they are used.

    Raises:
        ModelError: the package is missing or another one.
    """
    taken = read_graph(weights_file(PP_OCR)).in_order(until="AveragePool")
    model = TextTrunk()
    names = [name for name in model.state_dict() if not name.endswith("num_batches_tracked")]
    model.load_state_dict(dict(zip(names, taken, strict=True)), strict=False)
    place_buffers(model, "cpu")
    return model.eval().requires_grad_(False)


def reader_tower(name: str = "reader", part: Reader | None = None) -> ReaderTower:
    """The text expert at its default size, or at another one."""
    part = part or Reader()
    return ReaderTower(name, text_trunk(), part, partial(prepared, part=part))
