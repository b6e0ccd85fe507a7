"""Pictures, videos and frames of a benchmark's documents."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from meteor_bench.errors import DataError, UnsupportedError
from meteor_bench.lmms.video import read_clip, video_key

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Broken", "Documents", "Media"]


class Broken(DataError):
    """A document whose picture or video cannot be read.

    Attributes:
        media_key: of all requests that cannot be answered for it.
    """

    def __init__(self, message: str, media_key: str) -> None:
        super().__init__(message)
        self.media_key = media_key


class Media(NamedTuple):
    """What a document shows.

    Attributes:
        key: the same for documents that show the same.
        read: decodes it: RGB pictures, or the frames of a video as a `Clip`; raises `Broken`.
    """

    key: str
    read: Callable[[], Sequence[Any]]


class Documents:
    """Pictures and videos of a task's documents.

    Args:
        frames: taken of each video.
    """

    def __init__(self, task: str, dataset: Any, frames: int) -> None:
        self._task, self._dataset, self._frames = task, dataset, frames
        # Our own tasks state the digest of their pictures, so that none has to be decoded to be told apart.
        self._keys = list(dataset["media_key"]) if "media_key" in dataset.features else None

    def media(self, doc_id: int, to_visual: Callable[..., Any]) -> Media:
        """What a document shows. A task may crop or draw by question, so of pictures the pixels make the key.

        Raises:
            Broken: it cannot be read. Of a video that is found out only when it is decoded.
            UnsupportedError: it is neither pictures nor a video.
        """
        if self._keys is not None:
            return Media(str(self._keys[doc_id]), partial(self._pictures, doc_id, to_visual))
        visuals = self._visuals(doc_id, to_visual)
        if visuals and isinstance(visuals[0], str):
            (path,) = visuals
            try:
                key = f"{video_key(path)}x{self._frames}"
            except DataError as error:
                raise self._broken(doc_id, str(error)) from error
            return Media(key, partial(self._clip, doc_id, path, key))
        digest = hashlib.sha256()
        for picture in self._checked(visuals):
            digest.update(f"{picture.size}".encode() + picture.tobytes())
        return Media(digest.hexdigest()[:16], partial(self._pictures, doc_id, to_visual))

    def _pictures(self, doc_id: int, to_visual: Callable[..., Any]) -> Sequence[Any]:
        """Several are images of their own; in our own tasks the frames of a clip."""
        from meteor_bench.models.processing import Clip

        pictures = self._checked(self._visuals(doc_id, to_visual))
        return pictures if self._keys is None or len(pictures) == 1 else Clip(pictures)

    def _checked(self, visuals: Sequence[Any]) -> list[Image]:
        from PIL.Image import Image

        if not visuals or not all(isinstance(visual, Image) for visual in visuals):
            kind = type(visuals[0]).__name__ if visuals else "nothing"
            raise UnsupportedError(f"task {self._task} shows the model {kind} where this model needs pictures")
        return [visual.convert("RGB") for visual in visuals]

    def _clip(self, doc_id: int, path: str, key: str) -> Sequence[Any]:
        try:
            return read_clip(path, self._frames)
        except DataError as error:
            raise self._broken(doc_id, str(error), key) from error

    def _visuals(self, doc_id: int, to_visual: Callable[..., Any]) -> Sequence[Any]:
        try:
            visuals: Sequence[Any] = to_visual(self._dataset[doc_id]) or []
        except (OSError, SyntaxError) as error:  # what Pillow raises, for PNGs the latter
            raise self._broken(doc_id, f"its picture cannot be read ({error}); fetch the data again") from error
        except SystemExit as error:  # lmms-eval's way to say that a video is not there
            raise self._broken(doc_id, f"{error}; fetch the data again") from error
        return visuals

    def _broken(self, doc_id: int, why: str, key: str = "") -> Broken:
        message = f"{self._task}: row {doc_id}: {why}, or give --skip-broken"
        return Broken(message, key or f"broken {self._task}/{doc_id}")
