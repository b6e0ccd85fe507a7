"""What the joint phase trains: cached features to visual tokens of a Llama, by the fusion of either natural model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from meteor_bench.models.natural.model import trained
from meteor_bench.models.natural.modules import NaturalConfig, NaturalTrained
from meteor_bench.models.pocket.model import WEIGHTS
from meteor_bench.models.pocket.modules import load_pocket
from meteor_bench.models.pocket.tokenizer import PocketTokenizer
from scripts.natural.staged import LEAST, Kept, informative
from scripts.natural.words import PLURALS, label_words
from scripts.pocket.attention import use_lean_attention
from scripts.pocket.batches import labels_of
from scripts.pocket.joint import Sequenced, Visual
from scripts.pocket.sample import Sample
from scripts.pocket.stages import least_redundant, take
from scripts.pocket.symbolic import SymbolEmbedding

# Share of an encoder's channels that training hides: there are few photographs to learn by heart.
HIDDEN = {"vit": 0.2, "efficientnet": 0.5, "reader": 0.2}

FEWEST = 48  # tokens that stage 2 leaves


class NaturalModel(Sequenced):
    """What both fusions have in common.

    Attributes:
        phase: name of the joint phase's checkpoint.
        parts: prefixes of what that phase trains.
        dropping: share of the steps that drop tokens at random.
        stages: share of the steps that drop them by METEOR's first two stages.
        align: weight of `align_loss`.
    """

    phase: str
    parts: list[str]
    dropping, stages, align = 0.75, 0.0, 0.3

    def __init__(self, config: NaturalConfig) -> None:
        super().__init__()
        self.vlm = NaturalTrained(config)
        use_lean_attention(self.vlm.decoder)

    def start(self, folder: Path) -> None:
        """Weights that the joint phase begins with; in ``folder`` are checkpoints."""
        raise NotImplementedError

    def project(self, features: dict[str, Tensor], clip: bool, index: Tensor) -> Tensor:
        """Features [batch, n, d] of each tower -> the tokens [batch, k, hidden] of an index, without positions."""
        raise NotImplementedError

    def wanted(self, samples: list[Sample], features: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """[batch, total, hidden], what each token is to be near; [batch, total] bool, whether its cell has anything."""
        raise NotImplementedError

    def through_stages(self, features: dict[str, Tensor], kept: Kept, clip: bool, rng: np.random.Generator) -> Visual:
        """Those visual tokens that METEOR's first two stages leave at random ratios; ``kept`` is what the ViT has."""
        raise NotImplementedError

    def look(self, features: dict[str, Tensor], clip: bool, index: Tensor | None = None) -> Visual:
        """Cached features of images, or of clips -> those visual tokens [batch, k] of all, or all."""
        batch = len(features["vit"])
        if index is None:
            index = torch.arange(self.total).expand(batch, -1)
        plain = self.project(features, clip, index)
        return Visual(plain + take(self.tables(torch.full((batch,), clip)), index), plain, index)

    def hide(self, name: str, x: Tensor) -> Tensor:
        """A tower's features as training shows them."""
        return F.dropout(x.to(self.embedding.dtype), HIDDEN[name], self.training)

    def coarse(self, clip: bool) -> Tensor:
        """[256]: the token of EfficientNet that covers each of the ViT's."""
        frames = self.vlm.config.frames if clip else 1
        side = self.vlm.config.grids["vit"] // (2 if clip else 1)
        cells = torch.arange((side // 2) ** 2).view(side // 2, side // 2)
        cells = cells.repeat_interleave(2, 0).repeat_interleave(2, 1).flatten()
        return torch.cat([cells + frame * (side // 2) ** 2 for frame in range(frames)])

    def align_loss(self, visual: Visual, samples: list[Sample], features: dict[str, Tensor]) -> Tensor:
        """Distance of the projected tokens to what is wanted; cells with things in them and empty ones weigh the same.

        Args:
            features: what ``visual`` was made of.
        """
        with torch.no_grad():
            wanted, full = self.wanted(samples, features)
            there, at = visual.index >= 0, visual.index.clamp(min=0)
            wanted, full = take(wanted, at).float(), full.gather(1, at) & there
            empty = ~full & there
        plain = visual.plain.float()
        gap = 1 - F.cosine_similarity(plain, wanted, dim=-1) + (plain - wanted).square().mean(-1)
        return (gap * full).sum() / full.sum().clamp(min=1) + 0.5 * (gap * empty).sum() / empty.sum().clamp(min=1)


class SharedModel(NaturalModel):
    """`natural`: fusion and Llama, and the symbols that they are aligned with."""

    phase, parts = "joint", ["vlm"]

    def __init__(self, config: NaturalConfig, tokenizer: PocketTokenizer) -> None:
        super().__init__(config)
        self.symbols = SymbolEmbedding(tokenizer, config.hidden_size, label_words(tokenizer))

    def start_from_pocket(self, tokenizer: PocketTokenizer) -> None:
        """The pocket model's Llama and tables of positions, for the symbolic phase.

        New words begin unlike old ones, a plural like its singular.
        """
        pocket = load_pocket(WEIGHTS / "pocket")
        state = pocket.decoder.state_dict()
        old = state.pop("model.embed_tokens.weight")
        state.pop("lm_head.weight", None)
        self.vlm.decoder.load_state_dict(state, strict=False)
        with torch.no_grad():
            table = self.vlm.decoder.model.embed_tokens.weight
            table[: len(old)] = old
            table[len(old) :] = torch.randn(len(table) - len(old), table.shape[1]) * old.std()
            for one, many in PLURALS.items():
                table[tokenizer.id_of(many)] = table[tokenizer.id_of(one)]
            self.vlm.fusion.image_positions.copy_(pocket.fusion.image_positions)
            self.vlm.fusion.video_positions.copy_(pocket.fusion.video_positions)

    def start(self, folder: Path) -> None:
        """What the symbolic phase trained."""
        symbolic = torch.load(folder / "symbolic.pt", weights_only=True)["masters"]
        self.load_state_dict(symbolic, strict=False)

    def project(self, features: dict[str, Tensor], clip: bool, index: Tensor) -> Tensor:
        cells = {"efficientnet": self.coarse(clip)[index]}
        seen = {name: take(features[name], cells.get(name, index)) for name in self.vlm.config.towers}
        out: Tensor = self.vlm.fusion.join({name: self.hide(name, x) for name, x in seen.items()})
        return out

    def wanted(self, samples: list[Sample], features: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The symbols of the labels."""
        labels = labels_of(samples)
        return self.symbols(labels, self.embedding), (labels > 0).any(1)


class WholeModel(SharedModel):
    """The shipped `natural` trained on with all its tokens: does its ranking of methods hang on the dropping before?"""

    phase, dropping, align = "whole", 0.0, 0.0

    def start(self, folder: Path) -> None:
        """What ships; its symbols do not, so that nothing is aligned."""
        self.vlm.load_state_dict(trained(WEIGHTS / "natural").state_dict())


class IndependentModel(NaturalModel):
    """`natural-independent`: a projector per encoder before the Llama of `natural`, which stays as it is.

    The ViT's tokens stand last, as far from the question as in `natural`. Projectors begin as parts of the shared one
    and are aligned with the tokens that it makes of all encoders: with a cell's own, EfficientNet's with the mean of
    its four cells.
    """

    phase, parts = "joint-independent", ["vlm.fusion"]
    dropping, stages = 0.25, 0.5

    def __init__(self, config: NaturalConfig) -> None:
        super().__init__(config)
        base = trained(WEIGHTS / config.base)
        self.vlm.decoder.load_state_dict(base.decoder.state_dict())
        self.shared = base.fusion

    @torch.no_grad()
    def start(self, folder: Path) -> None:
        """Of the shared projector each gets the columns of its own channels, and all that comes behind them."""
        shared, own = self.shared, self.vlm.fusion
        widths = [norm.normalized_shape[0] for norm in shared.norm.values()]
        columns = dict(zip(shared.norm, shared.mlp[0].weight.split(widths, dim=1), strict=True))
        for name in self.vlm.config.towers:
            own.mlp[name].load_state_dict(shared.mlp.state_dict() | {"0.weight": columns[name]})
            own.norm[name].load_state_dict(shared.norm[name].state_dict())
        for clip, tables in ((False, own.image_positions), (True, own.video_positions)):
            table = shared.positions(clip)
            for name, mine in tables.items():
                coarse = name == "efficientnet"
                mine.copy_(self._merged(table.flatten(0, -2), clip).view_as(mine) if coarse else table)

    def project(self, features: dict[str, Tensor], clip: bool, index: Tensor) -> Tensor:
        return take(torch.cat([self._projected(name, features[name]) for name in self.vlm.config.towers], 1), index)

    def wanted(self, samples: list[Sample], features: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The shared fusion's tokens of each encoder's cells."""
        clip = samples[0].is_clip
        seen = {name: features[name].to(self.embedding.dtype) for name in self.shared.norm}
        tokens = self.shared.join(seen | {"efficientnet": seen["efficientnet"][:, self.coarse(clip)]})
        full = (labels_of(samples) > 0).any(1)
        coarse = self._merged(tokens, clip), self._merged(full[..., None].float(), clip)[..., 0] > 0
        each = [coarse if name == "efficientnet" else (tokens, full) for name in self.vlm.config.towers]
        wanted, somewhere = zip(*each, strict=True)
        return torch.cat(wanted, 1), torch.cat(somewhere, 1)

    def through_stages(self, features: dict[str, Tensor], kept: Kept, clip: bool, rng: np.random.Generator) -> Visual:
        frames = self.vlm.config.frames if clip else 1
        tokens: dict[str, Tensor] = {}
        index, before = [], 0
        for name in self.vlm.config.towers:
            x = features[name]
            left = kept if name == "vit" else informative(x, frames, float(rng.uniform(LEAST, 1)))
            tokens[name] = self._projected(name, left.features)
            index.append(torch.where(left.cells < 0, -1, left.cells.long() + before))
            before += x.shape[1]
        places = torch.cat(index, 1)
        there = places >= 0
        with torch.no_grad():
            chosen = least_redundant(tokens, int(rng.integers(*_between(there))), there)
        plain, places = take(torch.cat(list(tokens.values()), 1), chosen), places.gather(1, chosen)
        return Visual(plain + take(self.tables(torch.full((len(plain),), clip)), places), plain, places)

    def _projected(self, name: str, x: Tensor) -> Tensor:
        out: Tensor = self.vlm.fusion.project(name, self.hide(name, x))
        return out

    def _merged(self, cells: Tensor, clip: bool) -> Tensor:
        """[..., 256, d] -> [..., 64, d], the mean of the four cells of each of EfficientNet's tokens."""
        return cells[..., self.coarse(clip).sort(stable=True).indices, :].unflatten(-2, (-1, 4)).mean(-2)


def _between(there: Tensor) -> tuple[int, int]:
    """Fewest and (not included) most tokens that stage 2 may keep of each row."""
    most = int(there.sum(1).min())
    return min(FEWEST, most), most + 1


def model_of(config: NaturalConfig, tokenizer: PocketTokenizer) -> NaturalModel:
    """The one of a configuration's fusion."""
    return SharedModel(config, tokenizer) if config.fusion == "shared" else IndependentModel(config)
