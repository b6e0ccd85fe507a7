"""A clip as one sequence for decisions, and as frames, each a row of its own, for the blocks of an encoder.

A decision about a whole clip may merge tokens across frames; an encoder's attention stays within a frame. Frames that
have no visual token left are no rows any more, so that they cost nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from meteor_bench.core.host import upload
from meteor_bench.core.tokens import Grid, Later, Length, Tokens

__all__ = ["FramesApart", "apart"]


@dataclass(frozen=True)
class FramesApart:
    """The frames of B clips of F frames that have visual tokens, as rows [R', N'], padded on the right.

    Attributes:
        tokens: the rows; origins count within a frame. They have no groups: those lead across frames.
        seat: [B, N] long, where each token of the clips stands among the R'·N' places; R'·N' for padding, and for the
            special tokens of frames that have nothing else.
        lengths: B·F, tokens of each frame; nothing where it is no row.
        rows: R', the frames that are rows, of B·F.
    """

    tokens: Tokens
    seat: Tensor
    lengths: tuple[Length, ...]
    rows: tuple[int, ...]

    @property
    def there(self) -> Tensor:
        """[B, N] bool, the tokens that have a place."""
        return self.seat < len(self.rows) * self.tokens.x.shape[1]

    def with_x(self, x: Tensor) -> FramesApart:
        """The same with other features [R', N', D]."""
        return replace(self, tokens=self.tokens.with_x(x))

    def split(self, values: Tensor) -> Tensor:
        """[B, N, ...] of the clips' tokens -> [R', N', ...], zero for padding."""
        return _placed(values, self.seat, (len(self.rows), self.tokens.x.shape[1]))

    def join(self, values: Tensor, otherwise: Tensor | None = None) -> Tensor:
        """[R', N', ...] -> [B, N, ...]; tokens that are no row's have what ``otherwise`` [B, N, ...] has, or zero."""
        flat = values.flatten(0, 1)
        seat = self.seat.clamp(max=len(flat) - 1)
        out = flat.index_select(0, seat.flatten()).view(*seat.shape, *values.shape[2:])
        there = self.there.reshape(*seat.shape, *[1] * (out.ndim - 2))
        return torch.where(there, out, out.new_zeros(()) if otherwise is None else otherwise)


def apart(clips: Tokens) -> FramesApart:
    """The frames of clips [B, N]; waits for the device to say how many tokens each frame has, unless all are there.

    Each frame has equally many special tokens, which stand before its others.
    """
    (b, n), frames, each = clips.x.shape[:2], clips.grid.t, clips.grid.h * clips.grid.w
    specials, device = clips.host[0].special // frames, clips.x.device
    if specials:
        of_special = (clips.special.long().cumsum(1) - 1) // specials
        frame = torch.where(clips.special, of_special, clips.origin // each)
    else:
        frame = clips.origin // each
    row = frame + frames * torch.arange(b, device=device)[:, None]
    row = torch.where(clips.valid, row, b * frames)  # padding behind everything
    visual = torch.where(clips.special, b * frames, row) if specials else row
    found = [each] * (b * frames)
    if any(length.visual != frames * each for length in clips.host):
        found = torch.bincount(visual.flatten(), minlength=b * frames + 1)[: b * frames].tolist()
    rows = tuple(r for r, count in enumerate(found) if count > 0)
    lengths = tuple(Length(count, specials if count > 0 else 0) for count in found)
    width = max((length.all for length in lengths), default=0)
    # Frame after frame, in each the order of the sequence; where a frame begins, the host knows.
    order = row.flatten().argsort(stable=True)
    sizes = [count + specials for count in found]
    starts = upload([sum(sizes[:r]) for r in range(b * frames)] + [0], device)
    place = torch.empty_like(order).scatter_(0, order, torch.arange(b * n, device=device)).view(b, n) - starts[row]
    number = {r: i for i, r in enumerate(rows)}
    table = upload([number.get(r, -1) for r in range(b * frames)] + [-1], device)[row]
    seat = torch.where(table >= 0, table * width + place, len(rows) * width)
    live, shape = tuple(lengths[r] for r in rows), (len(rows), width)
    tokens = Tokens(
        x=_placed(clips.x, seat, shape),
        valid=Later(lambda: torch.arange(width, device=device) < upload([k.all for k in live], device)[:, None]),
        origin=Later(lambda: _placed(torch.where(clips.visual, clips.origin % each, -1) + 1, seat, shape) - 1),
        special=Later(lambda: _placed(clips.special.to(torch.uint8), seat, shape).bool()),
        size=Later(lambda: _placed(clips.size, seat, shape)),
        group=Later(_no_groups),
        grid=Grid(1, clips.grid.h, clips.grid.w),
        lengths=live,
        merged=clips.merged,
        raster=clips.raster,
    )
    return FramesApart(tokens, seat, lengths, rows)


def _placed(values: Tensor, seat: Tensor, shape: tuple[int, int]) -> Tensor:
    """[B, N, ...] laid out in ``shape`` by the place [B, N] of each; the place behind the last is nobody's."""
    flat = values.new_zeros(shape[0] * shape[1] + 1, *values.shape[2:])
    flat.index_copy_(0, seat.flatten(), values.flatten(0, 1))
    return flat[:-1].view(*shape, *values.shape[2:])


def _no_groups() -> Tensor:
    raise RuntimeError("a clip's frames have no groups of their own: merges lead across frames")
