"""Methods that hand an encoder's class token on to the language model, in the place of a patch that does not stay."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from meteor_bench.core.host import places
from meteor_bench.core.rows import ordered

if TYPE_CHECKING:
    from meteor_bench.core.model import VLM

__all__ = ["handed_on", "without_class_token"]

NO_CLASS_TOKEN = "one more patch takes the place of the class token, which {} does not hand on"


def without_class_token(vlm: VLM) -> tuple[str, ...]:
    """What is recorded where there is no class token to hand on, or no place for one in a shared fusion's grid."""
    shared = vlm.fusion.kind == "shared"
    without = [f"tower '{name}'" for name, tower in vlm.towers.items() if not tower.has_cls]
    who = "a shared fusion" if shared else ", ".join(without)
    return (NO_CLASS_TOKEN.format(who),) if who else ()


def handed_on(special: Tensor, kept: Tensor, head: Tensor | None, into: Tensor | None, width: int) -> Tensor:
    """[R, K, N] what each kept token is made of: of itself and the mean of what joined it, or of the class token.

    Args:
        special, kept: [R, N] bool.
        head: [R, N] bool, the patch whose place the class token takes; None where no row has one.
        into: [R, N] long, the token that one joins, -1 for none; None: none joins any.
        width: the most tokens that a row keeps.
    """
    n = kept.shape[1]
    row = ordered(kept, True)[:, :width]  # [R, K] the kept ones, in order
    own = places(n, kept.device)
    whole = (row[..., None] == own).float()
    if into is not None:
        joined = (into[:, None] == row[..., None]).float()
        whole = whole + joined / joined.sum(2, keepdim=True).clamp(min=1)
    if n == 0 or head is None:
        return whole
    first = (special.to(torch.uint8).argmax(1, keepdim=True) == own).float()  # [R, N]
    return torch.where(head.gather(1, row)[..., None], first[:, None], whole)
