"""Pictures, videos and frames of a benchmark's documents."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from meteor_bench.core.errors import (
    DataError,
    MediaError,
    UnsupportedError,
)
from meteor_bench.core.processing import NO_PICTURE
from meteor_bench.data.stored_media import outside
from meteor_bench.lmms.encoded import Encoded
from meteor_bench.lmms.harness import strict_pictures
from meteor_bench.lmms.upright import upright
from meteor_bench.lmms.video import read_clip, video_key

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Broken", "Documents", "Media"]

# How its tasks end the process where a video is not there.
_NOT_THERE = re.compile(r"video path: ?(.+) does not exist, please check", re.IGNORECASE | re.DOTALL)


class Broken(MediaError):
    """A document whose picture or video cannot be read."""


class Media(NamedTuple):
    """What a document shows.

    Attributes:
        key: the same for documents that show the same.
        read: decodes it: RGB pictures, or the frames of a video as a `Clip`, nothing for a question alone; raises
            `Broken`.
    """

    key: str
    read: Callable[[], Sequence[Any]]


class Documents:
    """Pictures and videos of a task's documents.

    Args:
        frames: taken of each video.
        remedy: what to do where one cannot be read.
        otherwise: ends the message of `Broken`: what else can be done.
        root: where videos must lie; None where nothing says.
    """

    def __init__(
        self,
        task: str,
        dataset: Any,
        frames: int,
        remedy: str = "fetch the data again",
        otherwise: str = "",
        root: Path | None = None,
    ) -> None:
        strict_pictures()
        self._root = root.resolve() if root is not None else None
        self._task, self._dataset, self._frames = task, dataset, frames
        self._remedy, self._otherwise = remedy, otherwise
        # Our own tasks state the digest of their pictures.
        self._keys = dataset["media_key"][:] if "media_key" in dataset.features else None
        self._encoded = Encoded(dataset)

    def media(self, doc_id: int, to_visual: Callable[..., Any]) -> Media:
        """What a document shows; its pictures are decoded only where a task crops or draws, say by question.

        Raises:
            Broken: that is found out here. Otherwise it is when the media are read.
            UnsupportedError: it is neither pictures nor a video.
        """
        key = self._encoded.key(doc_id, to_visual) if self._keys is None else str(self._keys[doc_id])
        if key is not None:
            return Media(key, partial(self._pictures, doc_id, to_visual, key))
        visuals = self._visuals(doc_id, to_visual)
        if visuals and isinstance(visuals[0], str):
            (path,) = visuals
            if self._root is not None and outside(str(Path(path).absolute()), self._root):
                raise self._broken(doc_id, f"its video {path} lies outside the data root")
            try:
                key = f"{video_key(path)}x{self._frames}"
            except DataError as error:
                raise self._broken(doc_id, f"{error}; {self._remedy}") from error
            return Media(key, partial(self._clip, doc_id, path, key))
        if not visuals:
            return Media(NO_PICTURE, list)
        digest = hashlib.sha256()
        for picture in self._checked(visuals):
            digest.update(f"{picture.size}".encode() + picture.tobytes())
        key = digest.hexdigest()[:16]
        return Media(key, partial(self._pictures, doc_id, to_visual, key))

    def unasked(self, doc_id: int, why: str) -> Broken:
        """The error of a document for which its task makes no question."""
        return self._broken(doc_id, f"its row is not what the task expects ({why}); {self._remedy}")

    def _pictures(self, doc_id: int, to_visual: Callable[..., Any], key: str) -> Sequence[Any]:
        """Several are images of their own; in our own tasks the frames of a clip."""
        from meteor_bench.core.processing import Clip

        pictures = self._checked(self._visuals(doc_id, to_visual, key))
        return pictures if self._keys is None or len(pictures) == 1 else Clip(pictures)

    def _checked(self, visuals: Sequence[Any]) -> list[Image]:
        from PIL.Image import Image

        if not all(isinstance(visual, Image) for visual in visuals):
            kind = next(type(visual).__name__ for visual in visuals if not isinstance(visual, Image))
            raise UnsupportedError(f"task {self._task} shows the model {kind} where this model needs pictures")
        return [upright(visual) for visual in visuals]

    def _clip(self, doc_id: int, path: str, key: str) -> Sequence[Any]:
        try:
            return read_clip(path, self._frames)
        except DataError as error:
            raise self._broken(doc_id, f"{error}; {self._remedy}", key) from error

    def _visuals(self, doc_id: int, to_visual: Callable[..., Any], key: str = "") -> Sequence[Any]:
        doc = self._decoded(doc_id, key)
        try:
            visuals: Sequence[Any] = to_visual(doc) or []
        except (OSError, SyntaxError) as error:  # what Pillow raises, for PNGs the latter
            raise self._unreadable(doc_id, error, key) from error
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:  # no picture, no text
            said = " ".join(f"{type(error).__name__}: {error}".split())
            raise self._broken(doc_id, f"its row is not what the task expects ({said}); {self._remedy}", key) from error
        except SystemExit as error:  # lmms-eval's way to say that a video is not there
            raise self._broken(doc_id, f"{_missing(error)}; {self._remedy}", key) from error
        return visuals

    def _decoded(self, doc_id: int, key: str) -> Any:
        from PIL.Image import DecompressionBombError

        try:
            return self._dataset[doc_id]
        except (OSError, SyntaxError, TypeError, ValueError, DecompressionBombError) as error:  # all of damaged files
            raise self._unreadable(doc_id, error, key) from error

    def _unreadable(self, doc_id: int, error: Exception, key: str) -> Broken:
        from PIL import UnidentifiedImageError

        # Pillow's own words name an address in memory, another one in every run.
        why = "of no known format" if isinstance(error, UnidentifiedImageError) else str(error)
        return self._broken(doc_id, f"its picture cannot be read ({why}); {self._remedy}", key)

    def _broken(self, doc_id: int, why: str, key: str = "") -> Broken:
        message = f"{self._task}: row {doc_id}: {why}{self._otherwise}"
        return Broken(message, key or f"broken {self._task}/{doc_id}")


def _missing(error: SystemExit) -> str:
    """What lmms-eval says is missing, as we say it; other words of its tasks stay."""
    found = _NOT_THERE.fullmatch(str(error))
    return f"{found[1]} is missing" if found else " ".join(str(error).split())
