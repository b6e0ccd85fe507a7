"""The pocket world: reproducible, within its vocabulary, and its labels say what the questions ask."""

import numpy as np
import pytest

from scripts.pocket.batches import FAMILIES
from scripts.pocket.sample import COLOR, KIND, STEPS
from scripts.pocket.scores import FAMILY_BENCHMARK
from scripts.pocket.words import COLORS, SHAPES, check_known, vocabulary
from scripts.pocket.world import BENCHMARK_KINDS, KINDS, SPLITS, make, split_rng


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("kind", KINDS)
def test_samples_are_reproducible_and_in_vocabulary(kind: str, split: str) -> None:
    vocab = vocabulary()
    for seed in range(3):
        sample, again = (make(kind, split_rng(split, seed), split) for _ in range(2))
        assert np.array_equal(sample.image, again.image)
        assert sample.qas == again.qas
        assert sample.image.dtype == np.uint8
        assert sample.image.shape == ((4, 64, 64, 3) if sample.is_clip else (128, 128, 3))
        for qa in sample.qas:
            check_known(f"{qa.question} {qa.target}", vocab)
            assert bool(qa.chain) == qa.question.endswith(STEPS)
            assert not qa.options or qa.answer in qa.options
            if qa.benchmark:
                assert BENCHMARK_KINDS[qa.benchmark] == kind


def test_every_family_is_known_to_training_and_to_the_scores() -> None:
    asked = {qa.family for kind in KINDS for seed in range(8) for qa in make(kind, split_rng("eval", seed), "eval").qas}
    assert asked == set(FAMILIES)
    assert set(FAMILY_BENCHMARK) == set(FAMILIES) - {"helper"}


def test_labels_hold_the_answers() -> None:
    for seed in range(20):
        sample = make("scene", split_rng("train", seed), "train", draw=False)
        for qa in sample.qas:
            if qa.family == "color":
                shape = SHAPES.index(qa.question.removesuffix("?").split()[-1])
                colors = set(sample.labels[COLOR][sample.labels[KIND] == 1 + shape])
                assert colors == {1 + COLORS.index(qa.answer)}


def test_yes_and_no_are_balanced() -> None:
    answers = [
        qa.answer
        for seed in range(40)
        for qa in make("scene", split_rng("eval", seed), "eval").qas
        if qa.family in ("relation", "presence")
    ]
    assert 0.42 < answers.count("yes") / len(answers) < 0.58
