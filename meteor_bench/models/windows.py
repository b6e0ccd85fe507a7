"""Windowed attention over whatever tokens are left: who is in which window, where in it, and the way back.

A grid is cut into windows of ``side`` x ``side`` cells, the last ones filled up with padding cells behind the grid's
edge, as the libraries do. Pruning takes tokens away: a window is then as wide as the fullest one of its row. One with
fewer tokens is filled up with its own padding cells, which is what the unpruned encoder sees there, and what is still
empty is masked. With the same number of tokens in every window nothing is empty and nothing is masked.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from meteor_bench.core import flops
from meteor_bench.core.attention_probe import Probe
from meteor_bench.core.host import made_once, on_device, places
from meteor_bench.core.model import VisionTower
from meteor_bench.core.tokens import Grid, Later, Tokens
from meteor_bench.models.window_places import Cells, known_cells, padding_cells, placed

__all__ = ["WindowedTower", "Windows", "beside", "count_in_windows", "read_beside", "window_of"]


def window_of(origin: Tensor, grid: Grid, side: int) -> Tensor:
    """Index of the window of each token, from its origin; -1 for padding."""
    return known_cells(grid, side, origin.device).window[origin]


@dataclass(frozen=True)
class Windows:
    """R sequences of N tokens in W windows of S places.

    Attributes:
        whole: whether every cell of the grid has its token: nothing was pruned.
        solid: whether there is a token at every place.
        origin: [R, N].
        index: [R, W, S] the token at a place, 0 where there is none.
        token: [R, W, S] bool, whether a token is there; for whoever asks.
        cell: [R, W, S] the place's cell in its window, raster order.
        place: [R, N] a token's place in [W·S].
        mask: [R·W, 1, S, S] bool, what a place may see; None where no place is empty.
        share: [R, N] tokens in a token's window; of padding, how many no window has; for whoever asks.
        size: [R, N] patches that a token stands for, maybe not worked out yet.
        lengths, widths: R tokens, and S, of each row alone.
    """

    whole: bool
    solid: bool
    origin: Tensor
    index: Tensor
    token: Later[Tensor]
    cell: Tensor
    place: Tensor
    mask: Tensor | None
    share: Later[Tensor]
    size: Tensor | Later[Tensor]
    lengths: tuple[int, ...]
    widths: tuple[int, ...]

    @classmethod
    def of(cls, tokens: Tokens, side: int) -> Windows:
        """Put tokens into windows of ``side`` x ``side`` cells."""
        if tokens.whole:
            found = _whole(tokens.grid, side, len(tokens.x), tokens.x.device)
            return replace(found, size=tokens.raw("size"))
        return _placed_windows(tokens, side, count_in_windows(tokens, side))

    @property
    def count(self) -> int:
        """W."""
        return self.index.shape[1]

    def gather(self, x: Tensor) -> Tensor:
        """[R, N, D] -> [R·W, S, D]; zeros where no token is."""
        out = x.gather(1, self.index.flatten(1)[..., None].expand(-1, -1, x.shape[-1]))
        out = out if self.solid else out * self.token.get().flatten(1)[..., None]
        return out.reshape(-1, self.index.shape[2], x.shape[-1])

    def scatter(self, x: Tensor) -> Tensor:
        """[R·W, S, D] -> [R, N, D]."""
        flat = x.reshape(len(self.index), -1, x.shape[-1])
        return flat.gather(1, self.place[..., None].expand(-1, -1, x.shape[-1]))

    def seen(self, mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
        """The mask of the windows' attention, given that of the whole sequence (see `VisionTower.attend`)."""
        if mask is None or mask.dtype == torch.bool:
            return self.mask
        size = self.size.get() if isinstance(self.size, Later) else self.size
        weight = self.gather(size.clamp(min=1).log()[..., None]).to(dtype)  # a padding cell's is 0
        weight = weight.transpose(1, 2)[:, None].expand(-1, 1, weight.shape[1], -1)
        return weight if self.mask is None else weight.masked_fill(~self.mask, -torch.inf)

    def read(self, probe: Probe, query: Tensor, key: Tensor, mask: Tensor | None) -> None:
        """Let a probe of the whole sequence read the windows' attention.

        Args:
            query, key: [R·W, H, S, d].
            mask: as for the attention itself.
        """
        part = replace(probe, queries=None if self.solid else self.token.get().flatten(0, 1))
        read_beside(part, query, key, mask)
        if part.attention is not None:  # the mean over all queries, of which a window holds its share
            spread = self.scatter(part.attention[..., None])[..., 0] * self.share.get()
            if len(set(self.lengths)) == 1:
                probe.attention = spread / max(1, self.lengths[0])
            else:
                every = torch.tensor(self.lengths, dtype=torch.long)
                probe.attention = spread / on_device(every, spread.device).clamp(min=1)[:, None]
        if part.keys is not None:
            probe.keys = self.scatter(part.keys)


def beside(probe: Probe) -> AbstractContextManager[None]:
    """What runs inside is the probe's work, not the encoder's."""
    return nullcontext() if probe.clock is None else probe.clock.stage("prune")


def read_beside(probe: Probe, query: Tensor, key: Tensor, mask: Tensor | None) -> None:
    """Let a probe read [B, H, N, d] queries and keys of an attention that does not run through our kernel."""
    with beside(probe):
        probe.read(query, key, mask, None, False, 1)


@made_once(64)
def _itself(count: int, device: torch.device) -> Tensor:
    """[S, S] bool, the diagonal; not to be written to."""
    return on_device(torch.eye(count, dtype=torch.bool), device)


@made_once(16)
def _whole(grid: Grid, side: int, rows: int, device: torch.device) -> Windows:
    """The windows of a grid that is all there, worked out once."""
    tokens = Tokens.dense(torch.empty(rows, grid.n, 0, device=device), grid)
    return _placed_windows(tokens, side, count_in_windows(tokens, side))


def count_in_windows(tokens: Tokens, side: int) -> Tensor:
    """[R, W] long on the CPU, tokens in each window; a GPU is waited for where the host does not know."""
    grid = tokens.grid
    if tokens.in_windows is not None:
        return tokens.in_windows
    windows = -(-grid.h // side) * -(-grid.w // side)
    if windows == 1:
        return torch.tensor([[length.visual] for length in tokens.host])
    if tokens.whole:
        window = window_of(torch.arange(grid.n), grid, side)
        return torch.bincount(window, minlength=windows).expand(len(tokens.x), -1)
    return _counted(tokens, side).cpu()


def _counted(tokens: Tokens, side: int) -> Tensor:
    """[R, W] long, tokens in each window, which nobody but the device knows."""
    cells = known_cells(tokens.grid, side, tokens.x.device)
    window = cells.counted[tokens.origin]
    counts = torch.zeros(len(window), len(cells.padding) + 1, dtype=torch.long, device=window.device)
    return counts.scatter_add_(1, window, torch.ones_like(window))[:, :-1]


def _placed_windows(tokens: Tokens, side: int, counts: Tensor) -> Windows:
    """The windows of tokens of which ``counts`` [R, W] (on the CPU) are in each."""
    grid, origin, device = tokens.grid, tokens.origin, tokens.x.device
    room = (padding_cells(grid, side) >= 0).sum(1)  # [W]
    windows = len(room)
    lengths = counts.sum(1)
    width = torch.where(lengths == grid.n, side**2, counts.amax(1)) if windows else lengths
    s = int(width.max()) if len(width) else 0
    filled = torch.minimum(width[:, None] - counts, room)  # [R, W] padding cells that are there
    full, solid = bool((counts + filled == s).all()), bool((counts == s).all())
    # Where a window begins, less the tokens before it; padding goes behind everything.
    start = s * torch.arange(windows + 1) - torch.cat([counts.cumsum(1) - counts, lengths[:, None]], 1)  # [R, W + 1]
    known = on_device(torch.cat([start, counts, filled], 1), device)
    cells = known_cells(grid, side, device)
    place, token, cell = placed(origin, known, cells, s)
    there, more = torch.split(known[:, windows + 1 :], windows, 1)
    mask = None
    if not full:
        used = (places(s, device) < (there + more)[..., None]).flatten(0, 1)
        mask = (used[:, None] | _itself(s, device))[:, None]
    of_none = origin.shape[1] - lengths
    return Windows(
        whole=tokens.whole,
        solid=solid,
        origin=origin,
        index=token.view(-1, windows, s),
        token=Later(partial(_taken, s, there)),
        cell=cell.view(-1, windows, s),
        place=place.clamp(max=windows * s - 1) if tokens.padded else place,
        mask=mask,
        share=Later(partial(_shares, cells, origin, counts, of_none)),
        size=tokens.raw("size"),
        lengths=tuple(lengths.tolist()),
        widths=tuple(width.tolist()),
    )


def _taken(width: int, there: Tensor) -> Tensor:
    """[R, W, S] bool, of windows [R, W] with so many tokens."""
    return places(width, there.device) < there[..., None]


def _shares(cells: Cells, origin: Tensor, counts: Tensor, of_none: Tensor) -> Tensor:
    """[R, N] tokens in each token's window; of padding ``of_none`` [R], on the CPU as ``counts`` [R, W]."""
    known = on_device(torch.cat([counts, of_none[:, None]], 1), origin.device)
    return known.gather(1, cells.counted[origin])


class WindowedTower(VisionTower):
    """A ViT of which some blocks attend within windows, the others to everything.

    Attributes:
        width: of the sequence inside.
        side: of a window, in cells.
        open: blocks that attend to everything.
        cells: side of the grid.
    """

    has_cls = False
    halves = True
    width: int
    side: int
    open: frozenset[int]
    cells: int

    @property
    def inside(self) -> int:
        return self.width

    def grid(self, height: int, width: int) -> Grid:
        return Grid(1, self.cells, self.cells)

    def where(self, tokens: Tokens) -> Windows:
        return Windows.of(tokens, self.side)

    def windows(self, tokens: Tokens) -> Tensor:
        return window_of(tokens.origin, tokens.grid, self.side)

    def in_windows(self, tokens: Tokens) -> Tensor:
        return count_in_windows(tokens, self.side)

    def left_in_windows(self, tokens: Tokens) -> Tensor | None:
        known = tokens.in_windows is not None or tokens.whole or -(-self.cells // self.side) == 1
        return None if known else _counted(tokens, self.side)

    def pairs(self, block: int, where: Windows) -> Tensor:
        """[R] FLOPs of the block's attention half."""
        if block in self.open:
            return torch.tensor([self.flops_attention(n, 1, self.cells) for n in where.lengths])
        return torch.tensor([self.flops_attention(s, where.count, self.side) for s in where.widths])

    def flops_attention(self, length: int, count: int, side: int) -> int:
        """Attention half of a block on ``count`` windows of ``length`` tokens, cut from ``side`` x ``side`` cells."""
        tokens = count * length
        return 4 * flops.linear(tokens, self.width, self.width) + count * flops.attention(length, length, self.width)
