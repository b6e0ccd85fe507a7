"""Which stamps are photographs, and how they are divided; on stamps made here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from meteor_bench.core.errors import DataError
from scripts import natural_pictures
from scripts.natural.photographs import SPLITS, background, divided, objects

NAMES = ("crow", "crow_mirror", "crow-2", "owl", "hen", "duck", "wren", "lark", "swan", "rook", "kite")


def stamp(folder: Path, name: str, *, colours: bool = True, side: int = 80, seen: int = 255) -> None:
    path = folder / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((side, side, 4), dtype=np.uint8)
    if colours:
        pixels[..., :3] = np.random.default_rng(0).integers(0, 256, (side, side, 3))
    pixels[5:-5, 10:-10, 3] = seen
    Image.fromarray(pixels).save(path)


def test_photographs_are_those_with_many_colours_behind_their_mask(tmp_path: Path) -> None:
    stamp(tmp_path, "animals/birds/010crow_big")
    (tmp_path / "animals/birds/010crow_big.txt").write_text("A crow.\nde.utf8=Eine Krähe.\n", encoding="utf-8")
    stamp(tmp_path, "animals/birds/sea/gull")
    stamp(tmp_path, "animals/birds/drawn", colours=False)
    stamp(tmp_path, "animals/birds/small", side=60)
    stamp(tmp_path, "animals/birds/hidden", seen=0)
    stamp(tmp_path, "animals/birds/cartoon/tux")
    stamp(tmp_path, "animals/fish/lobster")
    stamp(tmp_path, "people/fireman")
    crow, gull = objects(tmp_path)
    assert (crow.what, crow.group, crow.caption) == ("bird", "bird/crow", "A crow.")
    assert (gull.group, gull.caption) == ("bird/gull", "")
    assert crow.picture().size == (60, 70)


def test_one_name_is_in_one_split(tmp_path: Path) -> None:
    for name in NAMES:
        stamp(tmp_path, f"animals/birds/{name}")
    found = objects(tmp_path)
    parts = divided(found)
    assert sorted(one.path for part in parts.values() for one in part) == sorted(one.path for one in found)
    groups = [{one.group for one in parts[split]} for split in SPLITS]
    assert [len(one) for one in groups] == [6, 1, 2] and len(set.union(*groups)) == 9
    assert divided(found[::-1]).keys() == parts.keys()
    assert {split: {one.path for one in part} for split, part in divided(found[::-1]).items()} == {
        split: {one.path for one in part} for split, part in parts.items()
    }


def test_without_the_package_it_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"^package plasma-workspace-wallpapers .* is not unpacked here; .*make natural$"
    ):
        background("Grey", tmp_path)


def test_the_sheet_without_the_package_ends_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(natural_pictures, "make", lambda kind, rng, split: background("Grey", tmp_path))
    with pytest.raises(SystemExit) as ended:
        natural_pictures.main(["--out", str(tmp_path / "sheet.png")])
    out, err = capsys.readouterr()
    assert ended.value.code == 2 and not out and len(err.splitlines()) == 1
    assert not (tmp_path / "sheet.png").exists()
