"""Pictures of photographs: splits that share nothing, and answers that the pixels bear out."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from scripts import natural_kept, natural_pictures
from scripts.natural.photographs import BACKGROUNDS, SPLITS, Object, Split, objects_of
from scripts.natural.world import MAKERS, SIDE, make, split_rng


def looks(split: Split) -> tuple[np.ndarray, np.ndarray]:
    """[objects, 256] each in 16x16 grey on white, and mirrored."""
    small = []
    for one in objects_of(split):
        picture = one.picture()
        image = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
        small.append(image.convert("L").resize((16, 16), Image.Resampling.BOX))
    ways = (small, [ImageOps.mirror(image) for image in small])
    plain, mirrored = (np.stack([np.asarray(image, np.float32).ravel() for image in way]) for way in ways)
    return plain, mirrored


def test_no_object_and_no_background_is_in_two_splits() -> None:
    """By name, and by look: the nearest two are a hammer and a wrench, 10 of 255 levels apart."""
    for one, other in combinations(SPLITS, 2):
        assert not {o.group for o in objects_of(one)} & {o.group for o in objects_of(other)}
        assert not set(BACKGROUNDS[one]) & set(BACKGROUNDS[other])
        for theirs in looks(other):
            assert np.abs(looks(one)[0][:, None] - theirs).mean(-1).min() > 8


def test_every_split_has_every_class() -> None:
    (classes,) = {frozenset(one.what for one in objects_of(split)) for split in SPLITS}
    assert len(classes) == 12
    assert len(objects_of("train")) > 100 and len(objects_of("test")) > 30


@pytest.mark.parametrize("kind", MAKERS)
def test_the_same_seed_gives_the_same_picture(kind: str) -> None:
    first, again, other = (make(kind, split_rng("test", seed), "test") for seed in (3, 3, 4))
    assert (first.image == again.image).all() and first.qas == again.qas and (first.labels == again.labels).all()
    assert (first.image != other.image).any()
    assert first.image.shape == ((4, SIDE // 2, SIDE // 2, 3) if kind == "clip" else (SIDE, SIDE, 3))


def test_captions_are_the_package_s(tmp_path: Path) -> None:
    said = {one.path.stem: one.caption for split in SPLITS for one in objects_of(split)}
    assert said["adelaide-rosella"] == "An Adelaide Rosella."
    assert sum(map(bool, said.values())) > 0.9 * len(said)


def test_the_sheet_has_a_caption_for_each_picture(tmp_path: Path) -> None:
    natural_pictures.main(["--split", "calibration", "--count", "7", "--out", str(tmp_path / "sheet.png")])
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (6 * SIDE, 2 * (SIDE + natural_pictures.CAPTION))
        first = np.asarray(sheet)[:SIDE, :SIDE]
    sample = make("scene", split_rng("calibration", 0), "calibration")
    assert (first == sample.image).all()
    question, answer = natural_pictures.said(sample, 0).split("\n")
    assert (question, answer) in {(qa.question.removesuffix("step by step").strip(), qa.answer) for qa in sample.qas}


def test_an_object_is_cut_to_its_mask() -> None:
    one: Object = objects_of("calibration")[0]
    alpha = np.asarray(one.picture().getchannel("A"))
    assert all((edge > 16).any() for edge in (alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]))


def test_what_is_kept_of_things_and_signs(capsys: pytest.CaptureFixture[str]) -> None:
    """Every second token of a row, whatever lies there; and all there is to keep."""
    natural_kept.main(["--methods", "uniform,none", "--ratio", "0.5", "--pictures", "4"])
    lines = capsys.readouterr().out.splitlines()[2:]
    uniform, whole = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert whole == ["none", "100", "100", "100", "0.0", "256.0"]
    assert uniform[0] == "uniform" and uniform[-2:] == ["0.0", "128.0"]
    assert all(30 < int(share) < 70 for share in uniform[1:4])


def test_questions_are_the_same_in_every_process() -> None:
    """Python orders sets of words anew in each one."""
    code = (
        "from scripts.natural.world import MAKERS, make, split_rng\n"
        "print([make(kind, split_rng('test', i), 'test', draw=False).qas for kind in MAKERS for i in range(12)])"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": "."},
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("1", "2", "7")
    }
    assert len(said) == 1 and len(said.pop()) > 10_000
