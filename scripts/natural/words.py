"""The closed vocabulary of the natural suite: the pocket world's words, in their places, then those for photographs."""

from torch import Tensor, full, tensor

from meteor_bench.models.pocket.tokenizer import PocketTokenizer
from scripts.natural.photographs import CLASSES
from scripts.pocket import words
from scripts.pocket.sample import CHAR, COLOR, KIND

THINGS = tuple(CLASSES.values())
# Of these there are six photographs and more to learn from; of the others five or fewer, too few to know new ones by.
ASKED = ("bird", "mammal", "fruit", "instrument", "tool", "flower", "vehicle")
# To be read: the frozen encoders tell words apart, but not one character from another.
TEXTS = ("BANK", "CAFE", "EXIT", "GATE", "HALL", "LIFT", "MENU", "PARK", "STOP", "TAXI")
PLURALS = {thing: thing if thing == "fish" else f"{thing}s" for thing in THINGS}
# What ScienceQA-like questions ask for.
KINDS = {
    "animal": ("bird", "fish", "insect", "mammal"),
    "food": ("fruit", "vegetable"),
    "plant": ("flower",),
    "object": ("instrument", "tool", "ball", "coin", "vehicle"),
}
COUNTED = {"animal": "animals", "object": "objects"}
KIND_OF = {thing: kind for kind, things in KINDS.items() for thing in things}
SIGN = len(THINGS) + 1  # value of the label KIND


def vocabulary() -> dict[str, int]:
    """Word -> id; the first are the pocket models'."""
    new = (*THINGS, *PLURALS.values(), *KINDS, *COUNTED.values(), "kind")
    known = list(words.vocabulary())
    return {word: index for index, word in enumerate(dict.fromkeys([*known, *new]))}


def label_words(tokenizer: PocketTokenizer) -> Tensor:
    """As `scripts.pocket.symbolic.label_words`: the word for each value of each label channel; -1 for none."""
    table = full((7, 48), -1)
    for channel, start, names in (
        (KIND, 1, THINGS),
        (KIND, SIGN, ("sign",)),
        (COLOR, 1, words.COLORS),
        (CHAR, 1, tuple(words.CHARS)),
    ):
        table[channel, start : start + len(names)] = tensor([tokenizer.id_of(name) for name in names])
    return table
