"""The training loop of phase 1a."""

from pathlib import Path

import torch
import torch.nn.functional as F

from meteor_bench.models.pocket.modules import PocketConfig, build_decoder
from meteor_bench.models.pocket.tokenizer import PocketTokenizer
from scripts.pocket.attention import use_lean_attention
from scripts.pocket.batches import Curriculum, choose_questions, draw_samples, drill, labels_of, pack, right_answers
from scripts.pocket.loop import Progress
from scripts.pocket.optim import MasterWeights
from scripts.pocket.symbolic import (
    FUSED,
    INDEPENDENT_TOKENS,
    TOWER_A,
    TOWER_B,
    TOWER_C,
    SymbolicModel,
    answer_logits,
    choose_cells,
    gather_cells,
    split_labels,
)  # fmt: skip
from scripts.pocket.world import split_rng

LEARNING_RATE = 2e-3
DRILL_FROM = 300  # steps; three batches of four from then on, until things can be looked up by their shape


def max_objects(fraction: float) -> int:
    """Few things first: a decoder that starts with crowded pictures stays at its prior."""
    return 4 if fraction < 0.12 else 6 if fraction < 0.3 else 9


def train_symbolic(
    folder: Path, tokenizer: PocketTokenizer, minutes: float, seed: int, batch: int, questions: int
) -> None:
    torch.manual_seed(seed)
    progress = Progress("symbolic", folder, minutes)
    model = SymbolicModel(build_decoder(PocketConfig(vocab_size=len(tokenizer))), tokenizer)
    use_lean_attention(model.decoder)
    weights = MasterWeights(model, LEARNING_RATE)
    curriculum = Curriculum()
    saved = progress.resume()
    if saved:
        weights.restore(saved)
        curriculum.load(saved["curriculum"])
    rng = split_rng("train", seed * 1_000_003 + progress.step)
    while progress.goes_on:
        drilling = curriculum.needs_drill and progress.step % 4 > 0 and progress.step > DRILL_FROM
        if drilling:
            samples, asked = drill(rng, batch)
        else:
            samples = draw_samples(rng, batch, curriculum, draw=False, max_objects=max_objects(progress.fraction))
            asked = [choose_questions(s, rng, curriculum, questions) for s in samples]
        labels = labels_of(samples)
        clips = torch.tensor([sample.is_clip for sample in samples])
        packed = pack(asked, tokenizer)
        split = not drilling and progress.step % 2 == 0 and progress.fraction > 0.1
        kinds, total = ((TOWER_A, TOWER_B, TOWER_C), INDEPENDENT_TOKENS) if split else ((FUSED,), 256)
        if split:
            labels = split_labels(labels, clips, rng)
        index = choose_cells(labels, rng)
        visual = model.visual(gather_cells(labels, index), kinds, clips, index)
        logits = answer_logits(model.decoder, visual, index, total, packed)
        loss = F.cross_entropy(logits, packed.target[packed.target >= 0])
        loss.backward()
        norm = weights.step(progress.factor)
        families, right = right_answers(packed, logits.argmax(-1))
        curriculum.record(families, right)
        progress.count(batch, families, right, loss=loss.item(), norm=norm, tokens=float(index.shape[1]))
        progress.line()
        progress.save({**weights.state(), "curriculum": curriculum.state()})
