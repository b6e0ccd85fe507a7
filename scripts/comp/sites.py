"""Where `pocket` can be made narrower, which mode a place belongs to, and what its units cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from meteor_bench.core.model import VLM
from meteor_bench.core.tower_flops import tower_flops
from meteor_bench.models.pocket.narrow import HEAD_OUT, WAYS_IN

__all__ = ["MODES", "TOKENS", "Bill", "Site", "sites"]

VISION, LANGUAGE, CROSS, TOKENS = MODES = ("vision", "language", "cross-modal", "tokens")
TEXT = 15  # tokens beside the picture: a question of usual length, its marks and the first token
VISUAL, CLASS_A, CELLS_C = 256, 257, 64  # tokens that encoders and the language model see of a picture
CELLS_B = {0: 1024, 1: 256}  # cells of the ConvNeXt's stages


@dataclass(frozen=True)
class Site:
    """A layer that units leave by.

    Attributes:
        name: of the layer, in `PocketVLM`.
        mode: of `MODES`.
        units, size: how many, and channels of each.
        least: units that always stay.
        layer: of the language model; -1 elsewhere.
        tokens: that go through it in an encoder or the fusion.
        widths: of the layers around it: what a channel costs is twice their sum for each token.
        pairs: whether the units are heads.
    """

    name: str
    mode: str
    units: int
    size: int
    least: int
    layer: int
    tokens: int
    widths: int
    pairs: bool

    def unit_flops(self, tokens: int) -> int:
        """FLOPs of one unit on that many tokens."""
        return 2 * tokens * self.size * self.widths + (4 * tokens * tokens * self.size if self.pairs else 0)


def sites(vlm: nn.Module) -> list[Site]:
    """All places of a `PocketVLM`."""
    found, layers = [], dict(vlm.named_modules())
    for name, module in layers.items():
        above, _, last = name.rpartition(".")
        if last not in WAYS_IN or not isinstance(module, nn.Linear):
            continue
        heads = last in HEAD_OUT
        size = int(layers[above].head_dim) if heads else 1
        units = module.in_features // size
        ways = sum(layers[f"{above}.{way}"].in_features for way in WAYS_IN[last])
        part, _, rest = name.partition(".")
        mode = {"towers": VISION, "decoder": LANGUAGE, "fusion": CROSS}[part]
        numbers = [int(word) for word in rest.split(".") if word.isdecimal()]
        tokens = {"a": CLASS_A, "b": CELLS_B.get(numbers[0], 0), "c": CELLS_C}.get(rest[0], VISUAL)
        layer = numbers[0] if mode == LANGUAGE else -1
        least = 1 if heads else units // 16
        found.append(Site(name, mode, units, size, least, layer, tokens, ways + module.out_features, heads))
    return found


class Bill:
    """FLOPs to the first token of a picture, without what a token's score takes.

    Args:
        model: the unpruned one.
        before: layer of the language model that tokens are dropped before.
    """

    def __init__(self, model: VLM, places: list[Site], before: int) -> None:
        self.places, self.before = places, before
        decoder = model.decoder
        length = VISUAL + TEXT
        encoders = sum(tower_flops(tower, *model.native) for tower in model.towers.values())
        self.whole = encoders + model.fusion.flops({"fused": VISUAL}) + decoder.flops_head(1)
        self.whole += decoder.depth * decoder.flops_layer(length, length)
        self.fixed = 0
        self.fixed = self.whole - self.flops({}, VISUAL)

    def length(self, site: Site, tokens: int) -> int:
        """Tokens that go through a place when the language model goes on with so many visual ones."""
        if site.layer < 0:
            return site.tokens
        return TEXT + (tokens if site.layer >= self.before else VISUAL)

    def flops(self, keep: Mapping[str, Tensor], tokens: int) -> int:
        """With the units that stay (all, where nothing is said)."""
        total = self.fixed
        for site in self.places:
            units = int(keep[site.name].sum()) if site.name in keep else site.units
            total += units * site.unit_flops(self.length(site, tokens))
        return total

    def of(self, mode: str) -> int:
        """FLOPs of the unpruned model that a mode can remove, as if nothing had to stay."""
        if mode == TOKENS:
            return self.flops({}, VISUAL) - self.flops({}, 0)
        return sum(site.units * site.unit_flops(self.length(site, VISUAL)) for site in self.places if site.mode == mode)

    def removed(self, keep: Mapping[str, Tensor], tokens: int) -> float:
        """Share of the unpruned model's FLOPs."""
        return 1 - self.flops(keep, tokens) / self.whole
