"""docs/your-own-data.md: its file, its commands, its tables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from meteor_bench.data.own_lines import KEYS, METRICS
from meteor_bench.data.own_pictures import QUESTION
from tests.commands import Call
from tests.docs.guides import DOCS, blocks, commands, written

pytestmark = pytest.mark.xdist_group("lmms_eval")
PAGE = "your-own-data.md"
COMMANDS = commands(PAGE)


@pytest.fixture
def photos(tmp_path: Path) -> None:
    (tmp_path / "photos.jsonl").write_text(*blocks(PAGE, "json"))
    (tmp_path / "pictures").mkdir()
    for number, colour in enumerate(("red", "blue")):
        picture = Image.new("RGB", (128, 128), "white")
        ImageDraw.Draw(picture).rectangle((40, 40, 88, 88), fill=colour)
        picture.save(tmp_path / "pictures" / f"{number}.png")


@pytest.mark.usefixtures("photos")
@pytest.mark.slow
@pytest.mark.parametrize("given", COMMANDS, ids=" ".join)
def test_each_command_works(given: list[str], call: Call) -> None:
    assert [command[0] for command in COMMANDS] == ["run", "sweep", "show", "check", "run", "run"]
    done = call(*given, "--device", "cpu")
    assert done.code == 0, done.err
    if "pictures" in given:
        (_, unpruned), (record, samples) = sorted(written(), key=lambda run: run[0]["config"]["method"] != "none")
        assert done.out.startswith("Agreement with the unpruned model: ") and record["tasks"][0]["n"] == 2
        assert [s["target"] for s in samples] == [s["answer"] for s in unpruned]
        assert {s["question"] for s in samples} == {given[-1] if "--ask" in given else QUESTION}
        return
    if given[0] in ("run", "sweep"):
        runs = written()
        assert len(runs) == (2 if given[0] == "run" else 3)
        for record, samples in runs:
            assert record["config"]["tasks"] == ["photos.jsonl"]
            assert [s["target"] for s in samples] == [["red"], ["square"], ["blue", "dark blue"]]
            assert len({s["media_key"] for s in samples}) == 2
            assert record["tasks"][0]["families"].keys() == {"colour", "shape"}
    if given[0] == "run":
        again = call(*given, "--device", "cpu")
        assert again.out.splitlines()[-1] == done.out.splitlines()[-1] and len(written()) == 2
    if given[0] == "show":
        assert "own_photos/0: what color is the square" in done.out and Path("own_photos-0.png").is_file()
    if given[0] == "check":
        assert "own" in Path("check.yaml").read_text()


def test_the_tables_name_everything_there_is() -> None:
    text = (DOCS / PAGE).read_text(encoding="utf-8")
    named = re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`.*?) \|", text, re.M)))
    assert named == [*KEYS[:6], "choices", "metric", "group", *METRICS]
