"""The visual block of the language model: visual tokens and what a model puts between them.

A model may put newlines between the rows of an image, or text between two images. Those tokens are special: they are
never pruned and never counted as visual tokens, and no method sees them. A newline stays when every token of its row
is gone, so that the language model always finds the same frame around what is left.
"""

from __future__ import annotations

import torch
from torch import Tensor

from meteor_bench.core.join import beside
from meteor_bench.core.pick import pick
from meteor_bench.core.rows import ordered
from meteor_bench.core.tokens import Block, Length, Tokens

__all__ = ["arrange", "split", "with_specials"]


def arrange(tokens: Tokens, block: Block) -> Tokens:
    """Visual tokens [B, N] in their slots, with the special tokens between them."""
    slot = block.slots[tokens.origin.clamp(min=0)].masked_fill(~tokens.valid, -1)
    tokens = tokens.changed(slot=slot)
    count = len(block.special_slots)
    if count == 0:
        return tokens
    rows = tokens.x.shape[0]
    yes = torch.ones(rows, count, dtype=torch.bool, device=tokens.x.device)
    special = tokens.changed(
        x=block.special.to(tokens.x.dtype).expand(rows, -1, -1),
        deep=None,
        valid=yes,
        special=yes,
        origin=torch.full_like(yes, -1, dtype=torch.long),
        size=torch.ones_like(yes, dtype=tokens.size.dtype),
        slot=block.special_slots.expand(rows, -1),
        lengths=(Length(0, count),) * rows,
    )
    return with_specials(tokens, special)


def with_specials(visual: Tokens, special: Tokens) -> Tokens:
    """One sequence of both [B, N + S]: in the order of their slots, visual tokens in the order they came in.

    A visual token that a method moved behind others stays behind them, before the next special token.
    """
    assert visual.slot is not None and special.slot is not None
    if visual.x.shape[1] == 0:
        return special
    order = torch.cat([visual.slot.cummax(1).values, special.slot], 1)
    lengths = tuple(Length(v.visual, s.special) for v, s in zip(visual.host, special.host, strict=True))
    both = visual.changed(
        x=torch.cat([visual.x, special.x], 1),
        deep=beside([visual, special]),
        valid=torch.cat([visual.valid, special.valid], 1),
        origin=torch.cat([visual.origin, special.origin], 1),
        special=torch.cat([visual.special, special.special], 1),
        size=torch.cat([visual.size, special.size], 1),
        slot=torch.cat([visual.slot, special.slot], 1),
        lengths=lengths,
    )
    return pick(both, both.valid, order, lengths)


def split(tokens: Tokens) -> tuple[Tensor, Tokens, Tokens]:
    """Slots taken apart again: [B, N] index of the visual tokens in the sequence, the visual and the special ones."""
    width = max((row.visual for row in tokens.host), default=0)
    index = ordered(tokens.visual, True)[:, :width]
    return (
        index,
        pick(tokens, tokens.visual),
        pick(tokens, tokens.special & tokens.valid, lengths=tuple(Length(0, row.special) for row in tokens.host)),
    )
