"""Pictures and frames as they are meant to be seen: what a file says about turning and mirroring is carried out.

A camera held upright stores its pictures lying, with a note: EXIF's orientation in a picture, the display matrix of a
track in a video. Browsers, players and the readers of other tools follow it.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av import VideoFrame
    from PIL.Image import Image, Transpose

__all__ = ["upright", "upright_frame"]


def upright(picture: Image) -> Image:
    """The RGB picture, turned as its EXIF data say."""
    from PIL import ImageOps

    try:
        turned = ImageOps.exif_transpose(picture) if picture.getexif() else picture  # most have none: nothing is copied
    except (LookupError, SyntaxError, TypeError, ValueError, struct.error):
        turned = picture  # its EXIF data are damaged, its pixels need not be
    return turned.convert("RGB")


def upright_frame(frame: VideoFrame) -> Image:
    """The RGB picture of a frame, turned as its display matrix says where that is by quarters of a circle."""
    picture: Image = frame.to_image()
    found = [data for data in frame.side_data if data.type.name == "DISPLAYMATRIX"]
    turn = _turn(bytes(found[0])) if found else None
    return picture if turn is None else picture.transpose(turn)


def _turn(matrix: bytes) -> Transpose | None:
    """What a matrix (ISO 14496-12, 6.2.2: x' = a x + c y, y' = b x + d y; a, b, u, c, d, ... in fixed point) does."""
    from PIL.Image import Transpose

    if len(matrix) < 36:
        return None
    a, b, _, c, d, *_ = struct.unpack("=9i", matrix[:36])
    most = max(map(abs, (a, b, c, d)))
    signs = tuple(0 if 4 * abs(x) < most else (x > 0) - (x < 0) for x in (a, b, c, d))
    turns: dict[tuple[int, ...], Transpose] = {
        (0, 1, -1, 0): Transpose.ROTATE_270,  # a quarter clockwise
        (0, -1, 1, 0): Transpose.ROTATE_90,
        (-1, 0, 0, -1): Transpose.ROTATE_180,
        (-1, 0, 0, 1): Transpose.FLIP_LEFT_RIGHT,
        (1, 0, 0, -1): Transpose.FLIP_TOP_BOTTOM,
        (0, 1, 1, 0): Transpose.TRANSPOSE,
        (0, -1, -1, 0): Transpose.TRANSVERSE,
    }
    return turns.get(signs)
