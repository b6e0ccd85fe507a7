"""METEOR's first two stages as training runs them, beside the engine's own run of the method and plain loops."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch.nn.functional import cosine_similarity

from meteor_bench.models.natural.towers import PatchesTower, vit
from scripts.natural import staged
from scripts.natural.cache import rows_of
from scripts.natural.world import make, split_rng
from scripts.pocket.stages import least_redundant


@cache
def tower() -> PatchesTower:
    return PatchesTower("vit", vit())


class Whole:
    """In place of a generator: shares of tokens that are kept, one after another."""

    def __init__(self, *shares: float) -> None:
        self.shares = shares

    def uniform(self, low: float, high: float, count: int) -> np.ndarray:
        assert (low, high, count) == (staged.LEAST, 1, len(self.shares))
        return np.array(self.shares)


@pytest.mark.parametrize("kind", ["scene", "clip"])
@torch.inference_mode()
def test_with_nothing_dropped_it_is_the_library_s_forward(kind: str) -> None:
    rows = rows_of([make(kind, split_rng("test", 3), "test")], torch.float32)
    kept = staged.staged(tower(), rows, Whole(1, 1, 1))  # type: ignore[arg-type]
    expected = vit()(tower().prepare(rows)).last_hidden_state[:, 1:]
    assert (kept.features - expected).abs().max() < 1e-4
    assert (kept.cells == torch.arange(expected.shape[1])).all()
    clips = kept.of_samples(1)
    assert torch.equal(clips.cells, torch.arange(256)[None])
    assert torch.equal(clips.features[0], kept.features.flatten(0, 1))


@torch.inference_mode()
def test_what_goes_is_chosen_at_the_end_of_each_third() -> None:
    """By what the library's own layers make of the tokens that are left."""
    rows = rows_of([make("scene", split_rng("test", seed), "test") for seed in (5, 6)], torch.float32)
    kept = staged.staged(tower(), rows, Whole(0.75, 0.5, 0.5))  # type: ignore[arg-type]
    model = vit()
    model.set_attn_implementation("eager")
    for row, cells in enumerate(kept.cells):
        x = model.embeddings(tower().prepare(rows[row : row + 1]))
        left = list(range(256))
        for number, layer in enumerate(model.encoder.layer, start=1):
            _, rows_of_attention = layer.attention(layer.norm1(x), attention_mask=None)
            x = layer(x)
            if number % 4:
                continue
            if number < 12:
                mean = x[0, 1:].mean(0)
                score = [-float(cosine_similarity(token, mean, dim=0)) for token in x[0, 1:]]
            else:
                score = rows_of_attention[0].mean(0)[0, 1:].tolist()
            count = round(len(left) * {4: 0.75, 8: 0.5, 12: 0.5}[number])
            best = sorted(sorted(range(len(left)), key=lambda at: -score[at])[:count])
            x = torch.cat([x[:, :1], x[:, 1:][:, best]], 1)
            left = [left[at] for at in best]
        same = len(set(left) & set(cells.tolist()))
        assert len(left) == len(cells) == 48 and same >= 47, "rounding may turn one tie"


def test_an_encoder_without_attention_keeps_of_each_frame_what_is_unlike_its_mean() -> None:
    x = torch.randn(3, 2 * 10, 5, generator=torch.Generator().manual_seed(0))
    kept = staged.informative(x, 2, 0.4)
    for clip, cells in zip(x, kept.cells, strict=True):
        expected = []
        for frame in range(2):
            own = clip[10 * frame : 10 * frame + 10]
            like = [float(cosine_similarity(token, own.mean(0), dim=0)) for token in own]
            expected += sorted(10 * frame + at for at in sorted(range(10), key=lambda at: like[at])[:4])
        assert cells.tolist() == expected
    assert torch.equal(kept.features, torch.stack([clip[cells] for clip, cells in zip(x, kept.cells, strict=True)]))


def test_stage_two_drops_what_other_encoders_say_as_well_and_never_takes_padding() -> None:
    draw = torch.Generator().manual_seed(1)
    tokens = {name: torch.randn(2, n, 6, generator=draw) for name, n in (("a", 7), ("b", 4), ("c", 9))}
    valid = torch.rand(2, 20, generator=draw) < 0.7
    chosen = least_redundant(tokens, 8, valid)
    which = [0] * 7 + [1] * 4 + [2] * 9
    for row in range(2):
        every = torch.cat([part[row] for part in tokens.values()])
        redundancy = {}
        for i in valid[row].nonzero()[:, 0].tolist():
            others = [j for j in valid[row].nonzero()[:, 0].tolist() if which[j] != which[i]]
            redundancy[i] = sum(float(cosine_similarity(every[i], every[j], dim=0)) for j in others)
        assert chosen[row].tolist() == sorted(sorted(redundancy, key=lambda i: redundancy[i])[:8])
