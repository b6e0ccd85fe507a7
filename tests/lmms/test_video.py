"""Frames of videos that the tests make: each shows its number as black and white bars."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from meteor_bench.core.errors import DataError
from meteor_bench.lmms.video import sample_frames, uniform, video_key

BITS = 8


def write(path: Path, codec: str, times: list[int], rate: int = 25, gop: int = 10, **options: str) -> Path:
    """A clip whose i-th frame is shown at ``times[i]``, in frames."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        stream.gop_size = gop
        stream.codec_context.time_base = Fraction(1, rate)
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(_bars(number), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def _bars(number: int) -> np.ndarray:
    bits = np.array([number >> bit & 1 for bit in range(BITS)], np.uint8)
    return np.broadcast_to((255 * bits).repeat(64 // BITS)[None, :, None], (64, 64, 3)).copy()


def numbers(pictures: list) -> list[int]:
    """Which frames they are."""
    means = [np.asarray(picture).mean((0, 2)).reshape(BITS, -1).mean(1) for picture in pictures]
    return [int(sum(1 << bit for bit in range(BITS) if bars[bit] > 128)) for bars in means]


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "libx264"),  # with B frames: decoding order is not the order of time
        ("a.mkv", "libx264"),
        ("a.webm", "libvpx-vp9"),
        ("a.avi", "mpeg4"),
        ("a.mov", "mjpeg"),
    ],
)
@pytest.mark.parametrize("count", [1, 2, 8, 40, 64])
def test_constant_rate_is_the_plain_formula(tmp_path: Path, name: str, codec: str, count: int) -> None:
    options = {"libx264": {"bf": "2"}, "mjpeg": {"color_range": "pc"}}.get(codec, {})
    path = write(tmp_path / name, codec, list(range(40)), **options)
    tick = 1 / 40 if name.endswith(("mkv", "webm")) else 0.0  # a millisecond, in frames
    expected = [int(i * 39 / (count - 1) + tick + 1e-9) for i in range(count)] if count > 1 else [19]
    assert numbers(sample_frames(path, count)) == expected


def test_a_variable_rate_is_uniform_in_time(tmp_path: Path) -> None:
    times = [*range(10), 50, *range(100, 110)]  # half the clip is one still
    path = write(tmp_path / "v.mp4", "libx264", times)
    expected = []
    for i in range(12):  # the last frame that had begun, by looking at all of them
        moment = 109 * i / 11
        expected.append(max(n for n, time in enumerate(times) if time <= moment + 0.25))
    assert numbers(sample_frames(path, 12)) == expected


def test_a_clip_of_one_frame_is_repeated(tmp_path: Path) -> None:
    assert numbers(sample_frames(write(tmp_path / "one.mp4", "libx264", [0]), 4)) == [0, 0, 0, 0]


def test_a_cut_off_tail_is_left_out(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.mkv", "mpeg4", list(range(40)), gop=5)
    cut = tmp_path / "cut.mkv"
    data = whole.read_bytes()
    cut.write_bytes(data[: len(data) * 6 // 10])
    seen = numbers(sample_frames(cut, 8))
    assert len(seen) == 8
    assert seen == sorted(seen)
    assert seen[0] == 0
    assert 10 < seen[-1] < 39


def test_packets_that_do_not_decode_are_left_out(tmp_path: Path) -> None:
    """The container's table is whole, so that only decoding shows that the second half is noise."""
    path = write(tmp_path / "noise.avi", "mjpeg", list(range(20)), color_range="pc")
    data = bytearray(path.read_bytes())
    start, end = data.find(b"movi"), data.rfind(b"idx1")
    middle = (start + end) // 2
    at = data.find(b"00dc", middle)
    while 0 <= at < end:  # blank the pictures, keep the chunks
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        data[at + 8 : at + 8 + size] = bytes(size)
        at = data.find(b"00dc", at + 8 + size)
    path.write_bytes(bytes(data))
    seen = numbers(sample_frames(path, 5))
    assert len(seen) == 5
    assert seen[0] == 0
    assert seen[-1] < 12


def test_uniform_against_all_frames() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        times = np.unique(rng.integers(0, 5000, rng.integers(1, 60))).tolist()
        count = int(rng.integers(2, 70))
        got = uniform(times, count)
        gaps = np.diff(times)
        slack = min(1.0, float(np.median(gaps)) / 4) if len(set(gaps)) > 1 else 0.0
        moments = np.linspace(times[0], times[-1], count)
        # A moment within rounding of the next frame may go either way.
        for moment, index in zip(moments, got, strict=True):
            on_screen = max(n for n, time in enumerate(times) if time <= moment + slack + 1e-6)
            before = max((n for n, time in enumerate(times) if time <= moment + slack - 1e-6), default=0)
            assert index in (on_screen, before)


@pytest.mark.parametrize(
    ("content", "said"), [(None, "is missing$"), (b"no video at all" * 50, "can be read"), (b"", "can be read")]
)
def test_what_is_no_video_is_one_line(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "x.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        sample_frames(path, 4)
    assert "\n" not in str(caught.value)


def test_the_key_is_the_contents(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(b"x" * 3_000_000)
    b.write_bytes(b"x" * 3_000_000)
    assert video_key(a) == video_key(b)
    b.write_bytes(b"x" * 2_999_999 + b"y")
    assert video_key(a) != video_key(b)
