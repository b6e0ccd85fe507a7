"""docs/encoders.md: its composition is one, its tables have what there is, its numbers are what the script counts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from meteor_bench.models.composed.encoders import TOWERS
from meteor_bench.models.composed.parts import DECODERS
from meteor_bench.models.composed.recipe import read
from meteor_bench.models.composed.shipped import FOLDER
from tests.docs.guides import DOCS, blocks

PAGE = "encoders.md"


def rows(first: str) -> list[list[str]]:
    """Cells of the page's rows whose first cell is of a kind."""
    lines = [line for line in (DOCS / PAGE).read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if re.fullmatch(first, row[0])]


def test_the_pages_composition_is_one(tmp_path: Path) -> None:
    (text,) = blocks(PAGE, "yaml")
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    assert [*read(file).towers] == ["clip", "dino", "sam"]


def test_the_page_knows_every_type() -> None:
    assert {row[0] for row in rows("|".join(TOWERS))} == set(TOWERS)
    (decoder,) = rows("`decoder`")
    assert all(kind in decoder[1] for kind in DECODERS)


def test_the_page_names_what_is_shipped() -> None:
    named = {row[0] for row in rows("meteor-x4-7b|cambrian-4-8b|base-cpu|ladder-x1 … ladder-x5")}
    ladder = {f"ladder-x{step}" for step in range(1, 6)}
    assert named - {"ladder-x1 … ladder-x5"} | ladder == {file.stem for file in FOLDER.glob("*.yaml")}


def test_the_figure_shows_the_tables_numbers() -> None:
    """TFLOPs of the table have one digit more than the figure's labels; the bars are as high as they are many."""
    shown = [float(row[column]) for row in rows("[1-9]") for column in (5, 6)]
    bars = re.findall(r'height="([\d.]+)" fill="#\w+"/><text [^>]*>(\d+)<', (DOCS / "encoders.svg").read_text())
    assert [label for _, label in bars] == [f"{value:.0f}" for value in shown]
    per_unit = max(float(height) for height, _ in bars) / max(shown)
    assert [float(height) for height, _ in bars] == pytest.approx([value * per_unit for value in shown], abs=0.15)


def test_the_figure_of_times_shows_the_tables_numbers() -> None:
    shown = [float(row[column]) for row in rows("(one|two|three|four): .*") for column in (5, 6)]
    drawn = re.findall(r'height="[\d.]+" fill="#\w+"/><text [^>]*>([\d.]+)<', (DOCS / "encoder-times.svg").read_text())
    assert [float(label) for label in drawn] == pytest.approx(shown, abs=0.051) and len(shown) == 8


@pytest.mark.slow
def test_the_tokens_beside_the_times_are_what_the_script_counts() -> None:
    from scripts.encoder_times import ENCODERS, climb, row

    (shown,) = rows("two: .*")
    assert [cell.strip() for cell in row(climb(ENCODERS[:2], 1)).strip("| ").split("|")][:4] == shown[:4]


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 2])
def test_the_ladders_numbers_are_what_the_script_counts(step: int) -> None:
    from scripts.encoder_ladder import climb, row

    (shown,) = rows(str(step))
    assert row(climb(step)).strip("| ").split(" | ") == shown
