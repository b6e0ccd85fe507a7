"""Pictures and videos that are stored turned, against numpy's own turning; files that are cut."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import av
import datasets
import numpy as np
import pytest
from PIL import Image, ImageFile

from meteor_bench.lmms.harness import load_evaluator
from meteor_bench.lmms.media import Broken, Documents
from meteor_bench.lmms.video import read_clip, sample_frames

ONE = 1 << 16
# x' = a x + c y, y' = b x + d y of a track's header -> what is seen, of what is stored, as numpy says it.
MATRICES = {
    "as it is": ((ONE, 0, 0, ONE), lambda seen: seen),
    "a quarter clockwise": ((0, ONE, -ONE, 0), lambda seen: np.rot90(seen, -1)),
    "a quarter back": ((0, -ONE, ONE, 0), lambda seen: np.rot90(seen, 1)),
    "upside down": ((-ONE, 0, 0, -ONE), lambda seen: np.rot90(seen, 2)),
    "mirrored": ((-ONE, 0, 0, ONE), lambda seen: seen[:, ::-1]),
    "mirrored and turned": ((0, ONE, ONE, 0), lambda seen: seen.swapaxes(0, 1)),
}


def quarters() -> np.ndarray:
    """[32, 64, 3]: four colours that tell every way to lay it."""
    seen = np.zeros((32, 64, 3), np.uint8)
    seen[:16, :32], seen[:16, 32:], seen[16:, :32] = (250, 0, 0), (0, 250, 0), (0, 0, 250)
    return seen


def video(path: Path, matrix: tuple[int, int, int, int], codec: str = "mpeg4") -> Path:
    """A film of `quarters` whose track header says how it is shown (ISO 14496-12, 8.3.2)."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        for _ in range(12):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(quarters(), format="rgb24")))
        container.mux(stream.encode())
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # version 0: four bytes of it, 20 of times and ids, 16 of others
    assert struct.unpack(">9i", data[at : at + 36]) == (ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30)
    a, b, c, d = matrix
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(bytes(data))
    return path


@pytest.mark.parametrize("how", MATRICES)
def test_a_video_is_seen_as_its_track_says(tmp_path: Path, how: str) -> None:
    matrix, seen = MATRICES[how]
    for picture in sample_frames(video(tmp_path / "v.mp4", matrix), 3):
        assert np.abs(np.asarray(picture).astype(int) - seen(quarters())).mean() < 8


def test_so_is_one_that_is_decoded_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meteor_bench.lmms.video._index", lambda path: None)
    (picture,) = sample_frames(video(tmp_path / "v.mov", (0, ONE, -ONE, 0)), 1)
    assert picture.size == (32, 64)
    assert np.abs(np.asarray(picture).astype(int) - np.rot90(quarters(), -1)).mean() < 8


# EXIF's orientation -> what is seen, of what is stored.
ORIENTATIONS = {1: lambda x: x, 3: lambda x: x[::-1, ::-1], 6: lambda x: np.rot90(x, -1), 8: lambda x: np.rot90(x, 1)}


def noted(orientation: int, kind: str = "PNG") -> bytes:
    stream, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(quarters()).save(stream, kind, exif=exif)
    return stream.getvalue()


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_frames_in_a_folder_are_seen_as_their_exif_says(tmp_path: Path, orientation: int) -> None:
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(noted(orientation))
    for picture in read_clip(tmp_path, 2):
        assert np.array_equal(np.asarray(picture), ORIENTATIONS[orientation](quarters()))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_so_are_pictures_that_a_task_opens(orientation: int) -> None:
    rows = datasets.Dataset.from_dict({"n": [0]})

    def opened(doc: dict[str, int]) -> list[Image.Image]:
        return [Image.open(io.BytesIO(noted(orientation)))]

    (picture,) = Documents("task", rows, 1).media(0, opened).read()
    assert np.array_equal(np.asarray(picture), ORIENTATIONS[orientation](quarters()))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_exif_that_is_no_exif_is_passed_over() -> None:
    rows = datasets.Dataset.from_dict({"n": [0]})

    def opened(doc: dict[str, int]) -> list[Image.Image]:
        stream = io.BytesIO()
        Image.fromarray(quarters()).save(stream, "JPEG", exif=b"Exif\0\0" + b"MM\0*" + b"\xff" * 40)
        return [Image.open(stream)]

    (picture,) = Documents("task", rows, 1).media(0, opened).read()
    assert picture.size == (64, 32)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_half_a_picture_is_broken_and_named(kind: str) -> None:
    load_evaluator()  # which has Pillow hand out what there is
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, kind)
    half = stream.getvalue()[: len(stream.getvalue()) // 2]
    rows = datasets.Dataset.from_dict(
        {"image": [{"bytes": half, "path": None}]}, features=datasets.Features({"image": datasets.Image()})
    )
    ImageFile.LOAD_TRUNCATED_IMAGES = True  # as where lmms-eval was there first
    media = Documents("task", rows, 1).media(0, lambda doc: [doc["image"].convert("RGB")])
    with pytest.raises(Broken, match=r"^task: row 0: its picture cannot be read .*truncated"):
        media.read()


def test_half_a_frame_of_a_folder_is_named(tmp_path: Path) -> None:
    load_evaluator()
    (tmp_path / "0.png").write_bytes(noted(1))
    (tmp_path / "1.png").write_bytes(noted(1)[:-60])
    rows = datasets.Dataset.from_dict({"n": [0]})
    with pytest.raises(Broken, match=r"task: row 0: .*1\.png is no picture that can be read"):
        Documents("task", rows, 2).media(0, lambda doc: [str(tmp_path)]).read()
