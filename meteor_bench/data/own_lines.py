"""Lines of a file of somebody's own questions: what each may say, read and checked, the first mistakes named.

Its keys are those of `KEYS`. Pictures are read and decoded to their end and videos digested, from its folder only.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from meteor_bench.core.errors import DataError
from meteor_bench.utils.plain_text import shortened
from meteor_bench.utils.safe_files import LARGE, UnsafeFile, json_value, open_regular, read_bytes

__all__ = ["KEYS", "METRICS", "Question", "Read", "read", "undecodable"]

KEYS = ("image", "images", "video", "question", "answer", "answers", "choices", "metric", "group")
METRICS: Mapping[str, Mapping[str, Any]] = {
    "exact": {"metric": "exact_match,none"},
    "vqa": {"metric": "exact_match,none"},
    "anls": {"metric": "anls,none"},
    "relaxed": {"metric": "relaxed_overall,none"},
    "choice": {"metric": "exact_match,none"},
    "pope": {
        "metric": "pope_f1_score,none",
        "per_sample": "pope_accuracy",
        "extra": ["pope_yes_ratio_of_answers"],
    },
}
"""Each with its part of the row in the benchmark table."""
CONSENSUS = 4  # answers below which no answer to a question of VQA's kind can count fully
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
PIXELS = 178_956_970  # of a picture; Pillow calls more a bomb
_NAMED = 5  # lines with mistakes that a message lists


class _Mistake(Exception):
    """What is wrong with a line."""


@dataclass(frozen=True)
class Question:
    """A line that is right.

    Attributes:
        images: the pictures as they are stored.
        video: its place, and the digest of what is there.
    """

    line: int
    question: str
    answers: tuple[str, ...]
    images: tuple[bytes, ...] = ()
    video: tuple[str, str] | None = None
    choices: tuple[str, ...] = ()
    group: str | None = None


class Read(NamedTuple):
    """All lines of a file, and the one metric that they have."""

    questions: Sequence[Question]
    metric: str


@dataclass
class _Reader:
    """Line after line: the metric is that of the first line, and pictures that were looked at need not be again."""

    folder: Path
    metric: str = ""
    _pictures: dict[Path, bytes] = field(default_factory=dict)

    def question(self, number: int, line: bytes) -> Question:
        """Raises `_Mistake`, or UnsafeFile where it is no JSON."""
        row = json_value(line)
        if not isinstance(row, dict):
            raise _Mistake("expected a table of keys and values, {...}")
        if unknown := sorted(row.keys() - set(KEYS)):
            raise _Mistake(f"unknown key '{shortened(unknown[0], 40)}'; known: {', '.join(KEYS)}")
        row = {key: value for key, value in row.items() if value is not None}
        choices = _texts(row, "choices") if "choices" in row else ()
        self._settle(row, choices)
        question, answers = _text(row, "question"), _answers(row)
        group = _text(row, "group") if "group" in row else None
        images, video = self._shown(row)
        answers = _checked(self.metric, answers, choices)
        return Question(number, question, answers, images, video, choices, group)

    def _settle(self, row: Mapping[str, Any], choices: Sequence[str]) -> None:
        metric = _text(row, "metric") if "metric" in row else ""
        if metric and metric not in METRICS:
            raise _Mistake(f"unknown metric '{shortened(metric, 40)}'; one of {', '.join(METRICS)}")
        if not self.metric:
            self.metric = metric or ("choice" if choices else "exact")
        elif metric and metric != self.metric:
            raise _Mistake(f"metric {metric} in a file of metric {self.metric}; a file has one metric")
        if choices and self.metric != "choice":
            raise _Mistake(f"choices belong to metric choice, not to {self.metric}")

    def _shown(self, row: Mapping[str, Any]) -> tuple[tuple[bytes, ...], tuple[str, str] | None]:
        given = [key for key in ("image", "images", "video") if key in row]
        if len(given) != 1:
            raise _Mistake(f"expected one of image, images and video, found {' and '.join(given) or 'none'}")
        if given == ["video"]:
            return (), self._video(_text(row, "video"))
        names = _texts(row, "images") if given == ["images"] else (_text(row, "image"),)
        return tuple(self._picture(name) for name in names), None

    def _place(self, name: str) -> Path:
        if "://" in name:
            raise _Mistake(f"{shortened(name, 60)}: nothing is taken from the network; give a path or a data: URI")
        if Path(name).is_absolute():
            raise _Mistake(f"{shortened(name, 60)}: paths are relative to the file's folder")
        try:
            place = (self.folder / name).resolve()
        except (OSError, RuntimeError, ValueError):
            raise _Mistake(f"{shortened(name, 60)} is no path") from None
        if not place.is_relative_to(self.folder):
            raise _Mistake(f"{shortened(name, 60)} lies outside the file's folder")
        return place

    def _picture(self, name: str) -> bytes:
        if name.startswith("data:"):
            return _decodable(_of_uri(name), "its data: URI")
        place = self._place(name)
        if place not in self._pictures:
            try:
                self._pictures[place] = _decodable(read_bytes(place, LARGE), name)
            except OSError as error:
                raise _Mistake(f"picture {shortened(name, 60)}: {error.strerror}") from None
            except UnsafeFile as error:
                raise _Mistake(f"picture {shortened(name, 60)}: {error}") from None
        return self._pictures[place]

    def _video(self, name: str) -> tuple[str, str]:
        if name.startswith("data:"):
            raise _Mistake("a video is given by its path; data: URIs are for pictures")
        place = self._place(name)
        try:
            with open_regular(place) as stream:
                return str(place), hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise _Mistake(f"video {shortened(name, 60)}: {error.strerror}") from None
        except UnsafeFile as error:
            raise _Mistake(f"video {shortened(name, 60)}: {error}") from None


def read(file: Path, named: str) -> Read:
    """All lines in one pass.

    Args:
        named: the file as the user wrote it.
    """
    try:
        content = read_bytes(file, LARGE)
    except UnsafeFile as error:
        raise DataError(f"{named}: {error}") from None
    reader = _Reader(file.parent)
    questions: list[Question] = []
    mistakes: dict[int, str] = {}
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if line.strip():
            try:
                questions.append(reader.question(number, line))
            except (_Mistake, UnsafeFile) as error:
                mistakes[number] = str(error)
    if mistakes:
        first, *others = mistakes
        rest = ", ".join(map(str, others[:_NAMED])) + ", ..." * (len(others) > _NAMED)
        more = f" (also wrong: line{'s' * (len(others) > 1)} {rest})" if others else ""
        raise DataError(f"{named}:{first}: {mistakes[first]}{more}")
    if not questions:
        raise DataError(f"{named} holds no question")
    return Read(questions, reader.metric)


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    if value is None:
        raise _Mistake(f"{key} is missing")
    if not isinstance(value, str) or not value.strip():
        raise _Mistake(f"{key}: expected text, found {shortened(json.dumps(value), 40)}")
    return value


def _texts(row: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = row[key]
    if not isinstance(value, list) or not value or not all(isinstance(one, str) and one.strip() for one in value):
        raise _Mistake(f"{key}: expected a list of texts, found {shortened(json.dumps(value), 40)}")
    return tuple(value)


def _answers(row: Mapping[str, Any]) -> tuple[str, ...]:
    if "answer" in row and "answers" in row:
        raise _Mistake("expected answer or answers, found both")
    if "answers" in row:
        return _texts(row, "answers")
    if "answer" not in row:
        raise _Mistake("its answer is missing; give answer, or answers where several are right")
    return (_text(row, "answer"),)


def _checked(metric: str, answers: tuple[str, ...], choices: Sequence[str]) -> tuple[str, ...]:
    """The answers as the metric takes them; a choice by its words."""
    if metric == "vqa" and len(answers) < CONSENSUS:
        raise _Mistake(
            f"metric vqa asks for agreement with several people's answers (ten in VQAv2): {len(answers)} given, at "
            f"least {CONSENSUS} needed; metric exact takes any of the answers"
        )
    if metric == "pope":
        if len(answers) > 1 or answers[0].strip().lower() not in ("yes", "no"):
            raise _Mistake("metric pope takes one answer, yes or no")
    if metric != "choice":
        return answers
    if not 2 <= len(choices) <= len(LETTERS) or len(set(choices)) < len(choices):
        raise _Mistake(f"metric choice needs 2 to {len(LETTERS)} different choices")
    if len(answers) > 1:
        raise _Mistake("metric choice takes one answer")
    (answer,) = answers
    if answer in choices:
        return answers
    at = LETTERS.find(answer.upper()) if len(answer) == 1 else -1
    if not 0 <= at < len(choices):
        raise _Mistake(f"answer '{shortened(answer, 40)}' is none of the choices, and no letter of one")
    return (choices[at],)


def _of_uri(uri: str) -> bytes:
    head, comma, body = uri.partition(",")
    if not comma or not head.startswith("data:image/") or not head.endswith(";base64"):
        raise _Mistake(f"expected data:image/...;base64,..., found {shortened(uri, 40)}")
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise _Mistake("its data: URI is not base64") from None


def _decodable(content: bytes, name: str) -> bytes:
    """A picture that can be decoded to its end."""
    if why := undecodable(content):
        raise _Mistake(f"picture {shortened(name, 60)} {why}")
    return content


def undecodable(content: bytes) -> str:
    """Why a picture cannot be decoded to its end; "" for one that can."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content)) as picture:
            if picture.width * picture.height > PIXELS:
                return f"has more than {PIXELS} pixels"
            picture.load()
    except UnidentifiedImageError:
        return "is of no known format"
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return f"cannot be decoded ({error})"
    return ""
