"""The closed vocabulary of the pocket world and its tokenizer file."""

import re
from pathlib import Path

from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split

SPECIALS = ("<pad>", "<bos>", "<eos>", "<q>", "<a>", "<unk>")
SHAPES = ("circle", "square", "triangle", "diamond", "star", "cross", "ring", "heart")
COLORS = ("red", "green", "blue", "yellow", "purple", "orange", "cyan", "pink")
CHARS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
# Strings to be read leave out pairs that even a person confuses at 14 pixels (0/O, 1/I, 2/Z, 8/B).
LETTERS = "ABCDEFGHJKLMNPRSTUVWXY"
DIGITS = "1345679"
SIZES = ("small", "large")
OUT = ("out-left", "out-right", "out-up", "out-down")
IN = ("in-left", "in-right", "in-up", "in-down")
DIRECTIONS = ("left", "right", "up", "down")
ROWS = ("row1", "row2", "row3", "row4")
COLS = ("col1", "col2", "col3", "col4")
FRAMES = ("frame1", "frame2", "frame3", "frame4")
CORNERS = ("top-left", "top-right", "bottom-left", "bottom-right")
OTHER = (
    "what color shape size is the a an of in are there how many things thing image which where does do "
    "move first last appear appears before after above below just left-of right-of plus sum value bar sign says "
    "that read text line top center bottom tallest shortest node nodes point points to arrow yes no step by "
    "row column at number from and or with on it an one direction word clip frame"
).split()
PUNCTUATION = ("?", ",", ".", ":")
PATTERN = r"[a-z]+(?:-[a-z]+)*[0-9]?|[A-Z0-9]|[^\sA-Za-z0-9]"


def vocabulary() -> dict[str, int]:
    groups = (SPECIALS, SHAPES, COLORS, tuple(CHARS), SIZES, OUT, IN, ROWS, COLS, FRAMES, CORNERS)
    words = [word for group in (*groups, DIRECTIONS, tuple(OTHER), PUNCTUATION) for word in group]
    return {word: index for index, word in enumerate(dict.fromkeys(words))}


def check_known(text: str, vocab: dict[str, int]) -> None:
    unknown = [word for word in re.findall(PATTERN, text) if word not in vocab]
    if unknown:
        raise ValueError(f"words outside the vocabulary: {unknown} in {text!r}")


def write_tokenizer(path: Path, vocab: dict[str, int] | None = None) -> None:
    tokenizer = Tokenizer(WordLevel(vocab or vocabulary(), unk_token="<unk>"))
    tokenizer.pre_tokenizer = Split(Regex(PATTERN), behavior="removed", invert=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(path))
