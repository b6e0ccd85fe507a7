"""The two phases of training: the language model on labels, then fusion and language model on cached features.

What the pocket models' phases are made of does the work: curriculum, packed questions, optimiser, clock, symbols.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from meteor_bench.models.natural.modules import TOWERS, NaturalConfig, NaturalTrained
from meteor_bench.models.pocket.model import WEIGHTS
from meteor_bench.models.pocket.modules import load_pocket
from meteor_bench.models.pocket.tokenizer import PocketTokenizer
from scripts.natural.cache import Cache
from scripts.natural.words import PLURALS, label_words
from scripts.natural.world import FAMILIES, FAMILY_KIND, make, split_rng
from scripts.pocket.attention import use_lean_attention
from scripts.pocket.batches import Curriculum, Packed, choose_questions, labels_of, pack, right_answers
from scripts.pocket.joint import Visual
from scripts.pocket.loop import Progress, log
from scripts.pocket.optim import MasterWeights
from scripts.pocket.sample import CHAR, KIND, Sample
from scripts.pocket.scores import scored
from scripts.pocket.stages import take
from scripts.pocket.symbolic import SymbolEmbedding, answer_logits, choose_cells, gather_cells

SYMBOLIC_RATE, JOINT_RATE = 1.5e-3, 1.5e-3
ALIGN_WEIGHT = 0.3
FULL_SHARE = 0.25  # share of the steps without any dropping
KEPT = (0.15, 0.7)  # share of the visual tokens in the others
NOISE = 0.1  # on symbols
# Share of an encoder's channels that training hides: there are few photographs to learn by heart.
HIDDEN = {"vit": 0.2, "efficientnet": 0.5}
EVERY = 10.0  # minutes between looks at the calibration pictures


class NaturalModel(nn.Module):
    """What ships, and the symbols that it is aligned with at first."""

    def __init__(self, config: NaturalConfig, tokenizer: PocketTokenizer) -> None:
        super().__init__()
        self.vlm = NaturalTrained(config)
        self.symbols = SymbolEmbedding(tokenizer, config.hidden_size, label_words(tokenizer))
        use_lean_attention(self.vlm.decoder)

    def start_from_pocket(self, tokenizer: PocketTokenizer) -> None:
        """The pocket model's Llama and tables of positions.

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

    @property
    def embedding(self) -> Tensor:
        return self.vlm.decoder.model.embed_tokens.weight

    @property
    def total(self) -> int:
        return self.vlm.config.visual_tokens

    def tables(self, clips: Tensor) -> Tensor:
        """Positions of the whole sequence, image or clip as each sample needs: [batch, N, hidden]."""
        fusion = self.vlm.fusion
        return torch.stack([fusion.positions(False), fusion.positions(True).flatten(0, 1)])[clips.long()]

    def symbolic(self, labels: Tensor, clips: Tensor, index: Tensor) -> Tensor:
        """Labels [batch, 6, k] of the chosen cells and their index -> tokens."""
        plain = self.symbols(labels, self.embedding)
        plain = plain + NOISE * torch.randn_like(plain)
        return plain + take(self.tables(clips), index)

    def look(self, features: dict[str, Tensor], clip: bool, index: Tensor | None = None) -> Visual:
        """Cached features of images, or of clips -> those visual tokens [batch, k] of all, or all."""
        batch = len(features["vit"])
        if index is None:
            index = torch.arange(self.total).expand(batch, -1)
        at = {"vit": index, "efficientnet": self._coarse(clip)[index]}
        kept = {name: take(features[name], at[name]).to(self.embedding.dtype) for name in TOWERS}
        kept = {name: F.dropout(x, HIDDEN[name], self.training) for name, x in kept.items()}
        plain = self.vlm.fusion.join(kept)
        return Visual(plain + take(self.tables(torch.full((batch,), clip)), index), plain, index)

    def _coarse(self, clip: bool) -> Tensor:
        """[N]: the token of EfficientNet that covers each of the ViT's."""
        frames = self.vlm.config.frames if clip else 1
        side = self.vlm.config.grids["vit"] // (2 if clip else 1)
        cells = torch.arange((side // 2) ** 2).view(side // 2, side // 2)
        cells = cells.repeat_interleave(2, 0).repeat_interleave(2, 1).flatten()
        return torch.cat([cells + frame * (side // 2) ** 2 for frame in range(frames)])

    def align_loss(self, visual: Visual, samples: list[Sample]) -> Tensor:
        """Distance of the projected tokens to the symbols; labelled and empty cells weigh the same."""
        labels = labels_of(samples).gather(2, visual.index[:, None].expand(-1, 6, -1))
        with torch.no_grad():
            wanted = self.symbols(labels, self.embedding).float()
        plain = visual.plain.float()
        gap = 1 - F.cosine_similarity(plain, wanted, dim=-1) + (plain - wanted).square().mean(-1)
        full = (labels > 0).any(1)
        return (gap * full).sum() / full.sum().clamp(min=1) + 0.5 * (gap * ~full).sum() / (~full).sum().clamp(min=1)


def some_cells(rng: np.random.Generator, batch: int, total: int, keep: float) -> Tensor:
    """Index [batch, k] of a uniformly random share of the tokens, in order: neutral to every method."""
    return torch.as_tensor(rng.random((batch, total))).topk(round(total * keep), dim=1).indices.sort(dim=1).values


def thinned(labels: Tensor, rng: np.random.Generator) -> Tensor:
    """Cells of things and signs dropped at random, those of characters not: what a pruned picture may look like."""
    gone = torch.as_tensor(rng.random((len(labels), labels.shape[2])) < rng.uniform(0, 0.7, (len(labels), 1)))
    return labels.masked_fill((gone & (labels[:, CHAR] == 0) & (labels[:, KIND] > 0))[:, None], 0)


def train_symbolic(
    folder: Path,
    tokenizer: PocketTokenizer,
    config: NaturalConfig,
    minutes: float,
    seed: int,
    batch: int,
    questions: int,
) -> None:
    """The pocket model's Llama on labels of natural pictures that are not drawn."""
    torch.manual_seed(seed)
    progress = Progress("symbolic", folder, minutes, families=FAMILIES)
    model = NaturalModel(config, tokenizer)
    saved = progress.resume()
    if not saved:
        model.start_from_pocket(tokenizer)
    parts = ["vlm.decoder", "vlm.fusion.image", "vlm.fusion.video", "symbols"]
    weights, curriculum = MasterWeights(model, SYMBOLIC_RATE, parts), Curriculum(FAMILY_KIND)
    if saved:
        weights.restore(saved)
        curriculum.load(saved["curriculum"])
    rng = split_rng("train", 20_000_000 + seed * 1_000_003 + progress.step)
    while progress.fraction < 1:
        kinds = rng.choice(curriculum.kinds, batch, p=curriculum.kind_probabilities())
        samples = [make(str(kind), rng, "train", draw=False) for kind in kinds]
        asked = [choose_questions(sample, rng, curriculum, questions) for sample in samples]
        labels, clips = thinned(labels_of(samples), rng), torch.tensor([sample.is_clip for sample in samples])
        packed = pack(asked, tokenizer, FAMILIES)
        index = choose_cells(labels, rng)
        visual = model.symbolic(gather_cells(labels, index), clips, index)
        logits = answer_logits(model.vlm.decoder, visual, index, model.total, packed)
        F.cross_entropy(logits, packed.target[packed.target >= 0]).backward()
        norm = weights.step(progress.factor)
        families, right = right_answers(packed, logits.argmax(-1))
        curriculum.record(families, right)
        progress.count(batch, families, right, norm=norm, tokens=float(index.shape[1]))
        progress.line()
        progress.save({**weights.state(), "curriculum": curriculum.state()})


def train_joint(
    folder: Path,
    tokenizer: PocketTokenizer,
    config: NaturalConfig,
    caches: tuple[Cache, Cache],
    minutes: float,
    seed: int,
    batch: int,
    questions: int,
) -> None:
    """Fusion and Llama on cached features; three of four steps drop tokens at random, which favours no method."""
    torch.manual_seed(seed)
    progress = Progress("joint", folder, minutes, decay_from=0.4, families=FAMILIES)
    model = NaturalModel(config, tokenizer)
    saved = progress.resume()
    if saved:
        model.load_state_dict(saved["model"], strict=False)  # before the masters, which copy what they find
    else:
        symbolic = torch.load(folder / "symbolic.pt", weights_only=True)["masters"]
        model.load_state_dict(symbolic, strict=False)
    weights, curriculum = MasterWeights(model, JOINT_RATE, ["vlm"]), Curriculum(FAMILY_KIND)
    if saved:
        weights.restore(saved)
        curriculum.load(saved["curriculum"])
    frozen = {n: p for n, p in model.state_dict().items() if n not in weights.masters}
    train, calibration = caches
    calibration.refresh()
    rng = split_rng("train", 30_000_000 + seed * 1_000_003 + progress.step)
    last = progress.elapsed
    while progress.fraction < 1:
        if progress.step % 200 == 0 or not train.samples:
            log.info("%d pictures", train.refresh())
        kinds = rng.choice(curriculum.kinds, batch, p=curriculum.kind_probabilities())
        chosen = [int(rng.choice(train.kinds[str(kind)])) for kind in kinds]
        prune, keep = rng.random() > FULL_SHARE, float(rng.uniform(*KEPT))
        numbers: dict[str, float] = {}
        results = []
        for clip in (False, True):
            part = [i for i in chosen if train.samples[i].is_clip == clip]
            if not part:
                continue
            samples = [train.samples[i] for i in part]
            index = some_cells(rng, len(part), model.total, keep) if prune else None
            visual = model.look(train.features(part), clip, index)
            packed = pack([choose_questions(s, rng, curriculum, questions) for s in samples], tokenizer, FAMILIES)
            logits = answer_logits(model.vlm.decoder, visual.tokens, visual.index, model.total, packed)
            loss = F.cross_entropy(logits, packed.target[packed.target >= 0])
            align = model.align_loss(visual, samples)
            numbers |= {"loss": loss.item(), "align": align.item()}
            ((loss + ALIGN_WEIGHT * align) * len(part) / batch).backward()
            results.append(right_answers(packed, logits.argmax(-1)))
        families, right = (np.concatenate(r) for r in zip(*results, strict=True))
        if not prune:  # what dropping made unanswerable says nothing about what to practise
            curriculum.record(families, right)
        norm = weights.step(progress.factor)
        progress.count(batch, None if prune else families, None if prune else right, norm=norm, **numbers)
        progress.line()
        if progress.elapsed - last > EVERY or progress.fraction == 1:
            last = progress.elapsed
            model.eval()
            scores = scores_of(model, tokenizer, calibration)
            log.info("joint EVAL %.3f %s", np.mean(list(scores.values())), json.dumps(scores))
            model.train()
        progress.save({**weights.state(), "model": frozen, "curriculum": curriculum.state()})


def few(sample: Sample) -> Sample:
    """The same with two questions of each family."""
    chosen = [[qa for qa in sample.qas if qa.family == family][:2] for family in FAMILIES]
    return replace(sample, qas=[qa for some in chosen for qa in some])


def scores_of(
    model: NaturalModel, tokenizer: PocketTokenizer, cache: Cache, *, keep: float = 1.0, blind: bool = False
) -> dict[str, float]:
    """Share of a cache's questions answered right, by family."""
    rng = np.random.default_rng(0)
    batches, at = [], {}
    for kind, index in cache.kinds.items():
        for start in range(0, len(index), 20):
            batches.append([few(cache.samples[i]) for i in index[start : start + 20]])
            at[id(batches[-1])] = (index[start : start + 20], kind == "clip")

    def logits(samples: list[Sample], packed: Packed) -> Tensor:
        index, clip = at[id(samples)]
        cells = some_cells(rng, len(index), model.total, 0.0 if blind else keep)
        visual = model.look(cache.features(index), clip, cells)
        return answer_logits(model.vlm.decoder, visual.tokens, visual.index, model.total, packed)

    return scored(tokenizer, batches, logits, FAMILIES)
