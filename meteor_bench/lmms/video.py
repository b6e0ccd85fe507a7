"""Frames of a video, uniform in time: the number that was asked for, whatever the container.

lmms-eval's own reader ignores the number of frames for Matroska and WebM, so videos are read here.

The clip from the first to the last frame's time is cut into equal steps, ends included, and at each step the frame that
is on the screen is taken. At a constant frame rate that is frame ⌊i·(F−1)/(n−1)⌋ of F, as LLaVA-Video samples; at a
variable one it stays uniform in time (times are good to a container's tick, one millisecond in Matroska: a frame that
starts within one tick after a step counts as on the screen). A clip shorter than n frames repeats some.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from meteor_bench.core.errors import DataError
from meteor_bench.lmms.upright import upright, upright_frame

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from PIL.Image import Image

    from meteor_bench.core.processing import Clip

__all__ = ["read_clip", "sample_frames", "uniform", "video_key"]

FOLDER_FPS = 3  # of a video that is stored as a folder of frames: TVQA's, in MVBench
EDGE = 1 << 20  # bytes at both ends of a file that tell it from others


class _Index(NamedTuple):
    """What the container says without decoding: times of all frames, and of those that decoding can start at."""

    times: list[int]
    keys: list[int]


def sample_frames(path: str | Path, count: int) -> list[Image]:
    """``count`` RGB pictures from a video, in order.

    Where the container's times are good, only the stretches from a key frame to a wanted frame are decoded. Where they
    are missing or wrong, or packets do not decode, the whole clip is decoded and what can be seen is sampled.

    Raises:
        DataError: the file is missing, holds no video, or none of its frames decodes.
    """
    import av

    if not Path(path).is_file():
        raise DataError(f"{path} is missing")
    try:
        index = _index(path)
        pictures = _by_seeking(path, index, count) if index else None
        if pictures is None:
            pictures = _by_decoding_all(path, count)
    except av.FFmpegError as error:
        raise DataError(f"{path} is no video that can be read: {error.strerror}") from error
    if not pictures:
        raise DataError(f"{path}: none of its frames decodes")
    return pictures


def read_clip(path: str | Path, count: int) -> Clip:
    """``count`` frames of a video, or of a folder of its frames, with the rate at which they were taken.

    Raises:
        DataError: as for `sample_frames`; or the folder holds no picture that can be read.
    """
    from meteor_bench.core.processing import Clip

    if Path(path).is_dir():
        clip, seconds = Clip(_of_folder(Path(path), count)), (len(_frame_files(Path(path))) - 1) / FOLDER_FPS
    else:
        clip, seconds = Clip(sample_frames(path, count)), _seconds(path)
    if count > 1 and seconds > 0:
        clip.fps = (count - 1) / seconds
    return clip


def uniform(times: Sequence[int], count: int) -> list[int]:
    """Indices [count] of the frames on the screen at ``count`` equal steps; the middle one for a single frame.

    Args:
        times: ascending, in the container's ticks.
    """
    first, last = times[0], times[-1]
    steps = [Fraction(1, 2)] if count == 1 else [Fraction(i, count - 1) for i in range(count)]
    gaps = [b - a for a, b in pairwise(times)]
    # Uneven gaps: times may be rounded to ticks, and a frame that starts within one of a step belongs to it.
    slack = min(Fraction(1), Fraction(median(gaps)) / 4) if len(set(gaps)) > 1 else Fraction(0)
    return [max(bisect_right(times, first + (last - first) * step + slack) - 1, 0) for step in steps]


def video_key(path: str | Path) -> str:
    """The same for the same file: hash of its size and both its ends (a benchmark's videos are 100 GB in all)."""
    file = Path(path)
    if file.is_dir():
        named = (f"{frame.name} {frame.stat().st_size}\n" for frame in _frame_files(file))
        return hashlib.sha256("".join(named).encode()).hexdigest()[:16]
    try:
        size = file.stat().st_size
        total = hashlib.sha256(str(size).encode())
        with file.open("rb") as stream:
            total.update(stream.read(EDGE))
            stream.seek(max(size - EDGE, 0))
            total.update(stream.read(EDGE))
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing") from error
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    return total.hexdigest()[:16]


def _frame_files(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.suffix.lower() in (".jpg", ".jpeg", ".png"))


def _of_folder(folder: Path, count: int) -> list[Image]:
    from PIL import Image

    files = _frame_files(folder)
    if not files:
        raise DataError(f"{folder} holds no frames")
    pictures = []
    for i in uniform(range(len(files)), count):
        try:
            with Image.open(files[i]) as picture:
                pictures.append(upright(picture))
        except (OSError, SyntaxError) as error:
            raise DataError(f"{files[i]} is no picture that can be read: {error}") from error
    return pictures


def _seconds(path: str | Path) -> float:
    """From the first frame to the last; what the container says where frames have no times."""
    index = _index(path)
    with _open(path) as container:
        tick, whole = container.streams.video[0].time_base, container.duration
    if index and tick:
        return float((index.times[-1] - index.times[0]) * tick)
    return (whole or 0) / 1_000_000


def _open(path: str | Path) -> InputContainer:
    import av

    container: InputContainer = av.open(str(path))
    if not container.streams.video:
        container.close()
        raise DataError(f"{path} holds no video stream")
    container.streams.video[0].thread_type = "AUTO"
    return container


def _index(path: str | Path) -> _Index | None:
    """None where a packet has no time, or two have the same."""
    import av

    times, keys = [], []
    with _open(path) as container:
        try:
            for packet in container.demux(container.streams.video[0]):
                if packet.size == 0 or packet.is_discard:
                    continue
                if packet.pts is None:
                    return None
                times.append(packet.pts)
                if packet.is_keyframe:
                    keys.append(packet.pts)
        except av.FFmpegError:
            pass  # cut off: what was read so far stands
    if not keys or len(set(times)) < len(times):
        return None
    return _Index(sorted(times), sorted(keys))


def _by_seeking(path: str | Path, index: _Index, count: int) -> list[Image] | None:
    """None where the container's times do not lead to the frames."""
    import av

    wanted = [index.times[i] for i in uniform(index.times, count)]
    found: dict[int, Image] = {}
    with _open(path) as container:
        stream = container.streams.video[0]
        frames: Iterator[VideoFrame] = iter(())
        at: int | None = None
        try:
            for time in dict.fromkeys(wanted):
                key = index.keys[max(bisect_right(index.keys, time) - 1, 0)]
                if at is None or key > at:
                    container.seek(key, stream=stream)
                    frames = container.decode(stream)
                for frame in frames:
                    at = frame.pts
                    if at is None or at >= time:
                        break
                if at != time:
                    return None
                found[time] = upright_frame(frame)
        except av.FFmpegError:
            return None
    return [found[time] for time in wanted]


def _by_decoding_all(path: str | Path, count: int) -> list[Image]:
    """Twice through the clip, so that no more than ``count`` pictures are held."""
    times = []
    for number, frame in enumerate(_decodable(path)):
        times.append(number if frame.pts is None else frame.pts)
    if not times:
        return []
    if times != sorted(times):
        times = list(range(len(times)))
    wanted = uniform(times, count)
    chosen = set(wanted)
    found = {i: upright_frame(frame) for i, frame in enumerate(_decodable(path)) if i in chosen}
    return [found[i] for i in wanted]


def _decodable(path: str | Path) -> Iterator[VideoFrame]:
    """All frames that decode, past packets that do not, up to where the file ends or breaks off."""
    import av

    with _open(path) as container:
        packets = container.demux(container.streams.video[0])
        while True:
            try:
                packet = next(packets)
            except (StopIteration, av.FFmpegError):
                return
            try:
                frames = packet.decode()
            except av.FFmpegError:
                continue
            yield from frames
