"""Phase 2: pictures to visual tokens in the decoder's space, with random dropping on the way."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from meteor_bench.models.pocket.modules import (
    TOWERS,
    IndependentFusion,
    PocketConfig,
    PocketVLM,
    SharedFusion,
    normalise,
)
from meteor_bench.models.pocket.tokenizer import PocketTokenizer
from scripts.pocket.attention import use_lean_attention
from scripts.pocket.batches import labels_of
from scripts.pocket.sample import CHAR, COLOR, Sample
from scripts.pocket.stages import Seen, least_redundant, meteor_points, run_towers, take
from scripts.pocket.symbolic import FUSED, TOWER_A, TOWER_B, TOWER_C, SymbolEmbedding, TiedPositions

TOWER_KIND = {"a": TOWER_A, "b": TOWER_B, "c": TOWER_C}


@dataclass(frozen=True)
class Visual:
    """Tokens [batch, k, hidden] with their index [batch, k] in the unpruned sequence; `plain` is without positions."""

    tokens: Tensor
    plain: Tensor
    index: Tensor


class Sequenced(nn.Module):
    """A model in training, seen from its visual sequence.

    Attributes:
        vlm: its `config`, `fusion` and `decoder`.
    """

    vlm: Any

    @property
    def embedding(self) -> Tensor:
        return self.vlm.decoder.model.embed_tokens.weight

    @property
    def total(self) -> int:
        return self.vlm.config.visual_tokens

    def tables(self, clips: Tensor) -> Tensor:
        """Positions of the whole sequence, image or clip as each sample needs: [batch, N, hidden]."""
        fusion, towers = self.vlm.fusion, self.vlm.config.grids
        if isinstance(fusion, SharedFusion):
            image, clip = fusion.positions(False), fusion.positions(True).flatten(0, 1)
        else:
            image = torch.cat([fusion.positions(n, False) for n in towers])
            clip = torch.cat([fusion.positions(n, True).flatten(0, 1) for n in towers])
        return torch.stack([image, clip])[clips.long()]


class JointModel(Sequenced):
    """The shipped model plus the symbols it is aligned with at first."""

    def __init__(self, config: PocketConfig, tokenizer: PocketTokenizer, train_towers: bool = False) -> None:
        super().__init__()
        self.vlm = PocketVLM(config)
        self.symbols = SymbolEmbedding(tokenizer, config.hidden_size)
        self.tied = TiedPositions(tokenizer, config.hidden_size)
        self.train_towers = train_towers
        self.shared = isinstance(self.vlm.fusion, SharedFusion)
        use_lean_attention(self.vlm.decoder, self.vlm.towers["a"], self.vlm.towers["c"])

    def start_from(self, symbolic: dict[str, Tensor], encoders: dict[str, Tensor]) -> None:
        """Weights of phases 1a and 1b; the tied positions become the plain tables that ship."""
        state = {f"vlm.{n}": w for n, w in symbolic.items() if n.startswith("decoder.")}
        state |= {n: w for n, w in symbolic.items() if n.startswith("symbols.")}
        state |= {n.replace("positions.", "tied.", 1): w for n, w in symbolic.items() if n.startswith("positions.")}
        state |= {f"vlm.{n}": w for n, w in encoders.items() if n.startswith("towers.")}
        unused = set(state) - set(self.state_dict())
        if unused:
            raise ValueError(f"weights without a place: {sorted(unused)[:5]}")
        self.load_state_dict(state, strict=False)
        embedding, fusion, frames = self.embedding, self.vlm.fusion, self.vlm.config.frames
        with torch.no_grad():
            if isinstance(fusion, SharedFusion):
                fusion.image_positions.copy_(self.tied(embedding, FUSED, False))
                fusion.video_positions.copy_(self.tied(embedding, FUSED, True).unflatten(0, (frames, -1)))
            else:
                for name, kind in TOWER_KIND.items():
                    fusion.image_positions[name].copy_(self.tied(embedding, kind, False))
                    fusion.video_positions[name].copy_(self.tied(embedding, kind, True).unflatten(0, (frames, -1)))

    def look(
        self, samples: list[Sample], stages: np.random.Generator | None = None, stage2: int | None = None
    ) -> Visual:
        """Samples of one kind (images, or clips) -> visual tokens; with `stages`, METEOR's pruning at random ratios.

        `stage2` tokens are left, if given, by its second stage.
        """
        clip = samples[0].is_clip
        pixels = torch.as_tensor(np.stack([s.image for s in samples]))
        rows = normalise(pixels).to(self.embedding.dtype)
        with torch.set_grad_enabled(self.train_towers and torch.is_grad_enabled()):
            seen, _ = run_towers(self.vlm.towers, rows, meteor_points(stages) if stages else {})
        batch = len(samples)
        if self.shared:
            plain = self.vlm.fusion.project({n: s.features for n, s in seen.items()}).reshape(batch, self.total, -1)
            index = torch.arange(self.total).expand(batch, -1)
        else:
            plain, index = self._concatenate(seen, batch, clip, stages, stage2)
        tables = self.tables(torch.full((batch,), clip))
        return Visual(plain + take(tables, index), plain, index)

    def _concatenate(
        self, seen: dict[str, Seen], batch: int, clip: bool, stages: np.random.Generator | None, stage2: int | None
    ) -> tuple[Tensor, Tensor]:
        fusion = self.vlm.fusion
        if not isinstance(fusion, IndependentFusion):
            raise TypeError("only the independent fusion concatenates sequences")
        frames, start, parts, places = (self.vlm.config.frames if clip else 1), 0, {}, []
        for name in TOWERS:
            tower = seen[name]
            cells = self.vlm.config.grids[name] ** 2 // frames
            parts[name] = fusion.project(name, tower.features).reshape(batch, -1, self.vlm.config.hidden_size)
            frame = torch.arange(frames)[None, :, None] * cells
            places.append((tower.cells.reshape(batch, frames, -1) + frame).flatten(1) + start)
            start += cells * frames
        plain, index = torch.cat(list(parts.values()), dim=1), torch.cat(places, dim=1)
        if stages is not None:
            left = int(stages.integers(48, plain.shape[1] + 1)) if stage2 is None else stage2
            kept = least_redundant({n: z.detach() for n, z in parts.items()}, left)
            plain, index = take(plain, kept), index.gather(1, kept)
        return plain, index

    def full_labels(self, samples: list[Sample]) -> Tensor:
        """[batch, 6, N]: what each visual token should say; tower b sees no colour, tower c only coarse things."""
        labels = labels_of(samples)
        if self.shared:
            return labels
        b = labels.clone()
        b[:, COLOR] = 0
        shape = (len(samples), 6, 4, 4, 2, 4, 2) if samples[0].is_clip else (len(samples), 6, 8, 2, 8, 2)
        c = labels.reshape(shape).amax(dim=(-3, -1)).flatten(2)
        c[:, CHAR] = 0
        c[:, CHAR + 2 :] = 0
        return torch.cat([labels, b, c], dim=2)

    def align_loss(self, visual: Visual, samples: list[Sample]) -> Tensor:
        """Distance of the projected tokens to the symbols; labelled and empty cells weigh the same."""
        labels = self.full_labels(samples).gather(2, visual.index[:, None].expand(-1, 6, -1))
        with torch.no_grad():
            wanted = self.symbols(labels, self.embedding).float()
        plain = visual.plain.float()
        gap = 1 - F.cosine_similarity(plain, wanted, dim=-1) + (plain - wanted).square().mean(-1)
        full = (labels > 0).any(1)
        sides = (gap * full).sum() / full.sum().clamp(min=1), (gap * ~full).sum() / (~full).sum().clamp(min=1)
        return sides[0] + 0.5 * sides[1]


def drop_at_random(visual: Visual, rng: np.random.Generator, keep: float) -> Visual:
    """Uniform, hence neutral to every method."""
    batch, n = visual.index.shape
    index = torch.as_tensor(rng.random((batch, n))).topk(max(round(n * keep), 1), dim=1).indices.sort(dim=1).values
    return Visual(take(visual.tokens, index), take(visual.plain, index), visual.index.gather(1, index))
