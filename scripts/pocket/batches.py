"""From samples to tensors: which pictures and questions to draw next, and several questions packed into one row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from meteor_bench.models.pocket.tokenizer import PocketTokenizer
from scripts.pocket.sample import QA, Sample
from scripts.pocket.world import make

IGNORE = -100
FAMILY_KIND = {
    "color": "scene", "shape": "scene", "count": "scene", "relation": "scene", "neighbour": "scene",
    "presence": "scene", "location": "scene", "size": "scene", "which": "scene", "helper": "scene",
    "sum": "sums", "plate": "plates", "plate_color": "plates", "ocr": "scene_text", "document": "document",
    "bar": "chart", "extreme": "chart", "points_to": "diagram", "pointed_by": "diagram",
    "direction": "clip", "order": "clip", "before": "clip",
}  # fmt: skip
FAMILIES = tuple(FAMILY_KIND)


# Looking up a thing by its shape comes before everything that names things by colour and shape: asked too early, the
# latter only teach the decoder its prior.
FIRST, LATER = "color", ("presence", "which")


class Curriculum:
    """Asks more of what is still answered wrongly; every family keeps a floor."""

    FLOOR, CAP, KEEP = 0.07, 0.8, 0.97
    LEARNED, BOOST = 0.8, 3.0
    HARD = 3.0  # choosing among three named things is several look-ups at once and comes last

    def __init__(self, family_kind: Mapping[str, str] = FAMILY_KIND) -> None:
        self.family_kind, self.families = dict(family_kind), tuple(family_kind)
        self.kinds = tuple(dict.fromkeys(family_kind.values()))
        self.right = np.zeros(len(self.families))
        self.asked = np.full(len(self.families), 1e-3)

    def state(self) -> dict[str, torch.Tensor]:
        """What a checkpoint keeps of it."""
        return {"right": torch.from_numpy(self.right.copy()), "asked": torch.from_numpy(self.asked.copy())}

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        self.right, self.asked = state["right"].numpy().copy(), state["asked"].numpy().copy()

    def record(self, families: np.ndarray, right: np.ndarray) -> None:
        self.right *= self.KEEP
        self.asked *= self.KEEP
        np.add.at(self.right, families, right)
        np.add.at(self.asked, families, 1)

    @property
    def weights(self) -> dict[str, float]:
        error = 1 - self.right / self.asked
        values = self.FLOOR + np.minimum(error, self.CAP)
        for family, factor in (("helper", 0.7), ("which", self.HARD)):
            if family in self.families:
                values[self.families.index(family)] *= factor
        if self.needs_drill:
            values[self.families.index(FIRST)] *= self.BOOST
            values[[self.families.index(family) for family in LATER if family in self.families]] = self.FLOOR
        return dict(zip(self.families, values.tolist(), strict=True))

    @property
    def needs_drill(self) -> bool:
        """Whether things cannot be looked up by their shape yet; in a world without shapes never."""
        if FIRST not in self.families:
            return False
        first = self.families.index(FIRST)
        return bool(self.right[first] / self.asked[first] < self.LEARNED)

    def kind_probabilities(self) -> np.ndarray:
        """Of `kinds`, in their order."""
        weights = self.weights
        total = np.full(len(self.kinds), 0.15)
        for family, kind in self.family_kind.items():
            total[self.kinds.index(kind)] += weights[family]
        return total / total.sum()


@dataclass
class Packed:
    """Questions of each row one behind another: [batch, length] each."""

    ids: Tensor
    segment: Tensor  # 0 padding, 1.. question
    offset: Tensor  # position within its question
    target: Tensor  # next token to predict, or IGNORE
    family: Tensor

    def rows(self) -> int:
        return self.ids.shape[0]


def pack(rows: list[list[QA]], tokenizer: PocketTokenizer, families: Sequence[str] = FAMILIES) -> Packed:
    width = -(-max(sum(_length(qa, tokenizer) for qa in row) for row in rows) // 8) * 8
    out = np.zeros((5, len(rows), width), np.int64)
    out[3] = IGNORE
    for b, row in enumerate(rows):
        at = 0
        for number, qa in enumerate(row, start=1):
            question, answer = tokenizer.encode_cached(qa.question), tokenizer.encode_cached(qa.target)
            inputs = (tokenizer.question_id, *question, tokenizer.answer_id, *answer)
            n = len(inputs)
            out[0, b, at : at + n] = inputs
            out[1, b, at : at + n] = number
            out[2, b, at : at + n] = np.arange(n)
            out[3, b, at + len(question) + 1 : at + n] = (*answer, tokenizer.eos_id)
            out[4, b, at : at + n] = families.index(qa.family)
            at += n
    return Packed(*torch.as_tensor(out))


def _length(qa: QA, tokenizer: PocketTokenizer) -> int:
    return 2 + len(tokenizer.encode_cached(qa.question)) + len(tokenizer.encode_cached(qa.target))


def draw_samples(
    rng: np.random.Generator, count: int, curriculum: Curriculum, *, draw: bool, max_objects: int, split: str = "train"
) -> list[Sample]:
    """Pictures first, clips last, so that each half of the batch is one tensor."""
    kinds = rng.choice(curriculum.kinds, count, p=curriculum.kind_probabilities())
    samples = [make(str(kind), rng, split, draw=draw, max_objects=max_objects) for kind in kinds]
    return sorted(samples, key=lambda sample: sample.is_clip)


def choose_questions(sample: Sample, rng: np.random.Generator, curriculum: Curriculum, count: int) -> list[QA]:
    """`count` questions without replacement, by family weight."""
    weights = curriculum.weights
    keys = [rng.random() ** (1 / weights[qa.family]) for qa in sample.qas]
    return [sample.qas[i] for i in np.argsort(keys)[::-1][:count]]


def drill(rng: np.random.Generator, count: int) -> tuple[list[Sample], list[list[QA]]]:
    """Small scenes in which things are asked for by their shape, most of them."""
    samples = [make("scene", rng, "train", draw=False, max_objects=4) for _ in range(count)]
    return samples, [[qa for qa in sample.qas if qa.family in (FIRST, "helper")] for sample in samples]


def labels_of(samples: list[Sample]) -> Tensor:
    """[batch, 6, 256]: cells in raster order, a clip frame by frame."""
    return torch.as_tensor(np.stack([s.labels.reshape(6, 256) for s in samples]))


def block_mask(visual: int, segment: Tensor, dtype: torch.dtype) -> Tensor:
    """Additive [batch, 1, n, n] for <bos> + visual tokens + packed questions: causal, and no question sees another."""
    batch = segment.shape[0]
    everywhere = torch.zeros(batch, 1 + visual, dtype=torch.long)
    seg = torch.cat([everywhere, segment], dim=1)
    n = seg.shape[1]
    prefix = torch.arange(n) < 1 + visual
    allowed = torch.ones(n, n, dtype=torch.bool).tril() & (prefix[None, None] | (seg[:, :, None] == seg[:, None]))
    return torch.zeros(batch, 1, n, n, dtype=dtype).masked_fill_(~allowed[:, None], -1e4)


def learn(
    logits: Tensor,
    packed: Packed,
    share: float,
    numbers: dict[str, float],
    name: str = "loss",
    align: Tensor | None = None,
    weight: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Gradients of a part of a batch; the questions' families and which answers are right.

    Args:
        logits: see `answer_logits`.
        share: of the batch that the part is.
        numbers: where its losses go, that of the answers as ``name``.
        align: a second loss, of a weight.
    """
    loss = F.cross_entropy(logits, packed.target[packed.target >= 0])
    numbers[name] = loss.item()
    if align is not None:
        numbers["align"] = align.item()
        loss = loss + weight * align
    (loss * share).backward()
    return right_answers(packed, logits.argmax(-1))


def right_answers(packed: Packed, predicted: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(family index, all target tokens right) per question; `predicted` holds the tokens where a target is set."""
    wanted = packed.target != IGNORE
    row, _ = wanted.nonzero(as_tuple=True)
    question = (row * 1000 + packed.segment[wanted]).cpu().numpy()
    _, first, inverse = np.unique(question, return_index=True, return_inverse=True)
    right = np.ones(len(first))
    np.minimum.at(right, inverse, (predicted == packed.target[wanted]).cpu().numpy())
    return packed.family[wanted].cpu().numpy()[first], right
