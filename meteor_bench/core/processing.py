"""Media and text on their way into a model: what a processor makes of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

__all__ = ["NO_PICTURE", "PLAIN", "Clip", "Look", "Processor", "Prompt", "Scene"]


NO_PICTURE = "no picture"
"""The `Request.media_key` of all questions that show nothing."""


class Clip(list[Any]):
    """Frames of one video, for models that tell a video from several images. A plain sequence is images.

    Attributes:
        fps: frames per second at which they were taken.
    """

    fps: float = 2.0


class Scene(NamedTuple):
    """What a sample is besides its pixels; only samples of equal shape and scene are run together.

    Attributes:
        sizes: height and width of each image as it came, where the token layout depends on it; () elsewhere.
        clip: whether the rows are frames of a video.
        seconds: time between two rows of a video, where positions depend on it.
        times: of each row of a video in seconds, where the text says it.
        apart: whether the rows are several images of equal size, no frames of one.
    """

    sizes: tuple[tuple[int, int], ...] = ()
    clip: bool = False
    seconds: float = 0.0
    times: tuple[float, ...] = ()
    apart: bool = False

    @property
    def framed(self) -> bool:
        """Whether rows may be a clip's frames: they are known to be, or nothing says that they are images or tiles."""
        return self.clip or not (self.sizes or self.apart)


PLAIN = Scene()


class Look(NamedTuple):
    """One sample as the engine takes it: pixels [F, C, H, W], and its scene."""

    pixels: Tensor
    scene: Scene


class Prompt(NamedTuple):
    """Token ids around the visual tokens of one request."""

    before: tuple[int, ...]
    after: tuple[int, ...]


class Processor(ABC):
    """Media and text into tensors, ids into text.

    Attributes:
        eos: ids that end an answer.
        frames: how many are taken of a video, where the user does not say.
    """

    eos: frozenset[int]
    frames: int = 8

    @abstractmethod
    def pixels(self, media: Sequence[Any]) -> Tensor:
        """RGB PIL images of one sample -> [F, C, H, W], normalised, one row for each image, frame or tile.

        Args:
            media: one image, several, or the frames of a video (`Clip`).

        Raises:
            UnsupportedError: media that the model cannot take together.
        """

    def scene(self, media: Sequence[Any]) -> Scene:
        """What else the model must know about the same media."""
        return Scene(apart=len(media) > 1 and not isinstance(media, Clip))

    def look(self, media: Sequence[Any]) -> Look:
        """Both of one sample."""
        return Look(self.pixels(media), self.scene(media))

    @abstractmethod
    def prompt(self, question: str) -> Prompt:
        """Ids of the template and question; the visual tokens stand between the two parts."""

    def words(self, question: str) -> tuple[int, ...]:
        """Ids of the template and a question without a picture."""
        before, after = self.prompt(question)
        return (*before, *after)

    @abstractmethod
    def continuation(self, text: str) -> tuple[int, ...]:
        """Ids of an answer, as they would follow the prompt."""

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """Answer ids -> text, special tokens left out."""
