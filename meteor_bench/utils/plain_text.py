"""Text for a terminal: nothing in a name moves the cursor, and every character can be printed."""

from __future__ import annotations

import codecs
import re
import unicodedata

__all__ = ["ERRORS", "csv_value", "one_line", "shortened", "visible"]

ERRORS = "meteor-bench-plain"
"""Name of the error handler for streams that cannot hold all characters."""

# Controls (a tab and a newline excepted), what turns the direction of writing, and half of a surrogate pair.
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_PLAIN = {
    "─": "-", "│": "|", "━": "-", "┃": "|", "═": "=", "╸": "-", "╺": "-", "╹": "|", "╻": "|",
    "–": "-", "—": "-", "−": "-", "‑": "-", "±": "+-", "×": "x", "·": "*", "•": "*", "…": "...",
    "→": "->", "←": "<-", "▸": ">", "≤": "<=", "≥": ">=", "≈": "~", "≠": "!=",
    "†": "+", "‡": "++", "§": "S", "°": "o", "“": '"', "”": '"', "‘": "'", "’": "'", "√": "sqrt", "∞": "inf",
}  # fmt: skip


def visible(text: str) -> str:
    r"""The text with what a terminal would obey written as an escape: ``\x1b[31m`` is six letters."""
    return _HIDDEN.sub(lambda match: _escaped(match[0]), text)


def one_line(error: BaseException, most: int = 300) -> str:
    """What an error says, on one line of so many characters; its name where it says nothing."""
    return " ".join(str(error).split())[:most] or type(error).__name__


def shortened(text: str, most: int) -> str:
    """The text, its end an ellipsis where it is longer than so many characters."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _escaped(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    plain = "".join(map(_plain, error.object[error.start : error.end]))
    return plain, error.end


def _plain(character: str) -> str:
    if character in _PLAIN:
        return _PLAIN[character]
    bare = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return bare or "?"


codecs.register_error(ERRORS, _replace)


_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


def csv_value(value: object) -> object:
    """A value for a CSV file: text that a spreadsheet would take for a formula begins with an apostrophe."""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value
