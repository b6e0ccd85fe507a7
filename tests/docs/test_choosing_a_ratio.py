"""docs/choosing-a-ratio.md: each command ends with a recommendation, or says that nothing qualifies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from meteor_bench.config.choose_config import GOALS
from tests.commands import Call
from tests.docs.guides import DOCS, commands

PAGE = "choosing-a-ratio.md"
COMMANDS = commands(PAGE)


@pytest.mark.slow
@pytest.mark.xdist_group("lmms_eval")
@pytest.mark.parametrize("given", COMMANDS, ids=" ".join)
def test_each_command_ends_with_an_answer(given: list[str], call: Call, tmp_path: Path) -> None:
    rows = []
    for number, colour in enumerate(("red", "blue", "green", "yellow")):
        Image.new("RGB", (128, 128), colour).save(tmp_path / f"{number}.png")
        rows.append(json.dumps({"image": f"{number}.png", "question": "what color is it", "answer": colour}))
    (tmp_path / "photos.jsonl").write_text("\n".join(rows))
    done = call(*given, "--device", "cpu")
    assert "Accuracy against cost" in done.out, done.err
    said = "recommended: " if done.code == 0 else "nothing qualifies; the nearest is "
    assert done.code in (0, 1) and said in done.out and "failed" not in done.err
    if "--tokens" in given:
        assert "keeps 128 of 256 visual tokens" in " ".join(done.out.split())
    if done.code == 0:
        assert "\nmeteor-bench run --model pocket --method " in done.out


def test_the_page_names_every_goal() -> None:
    assert len(COMMANDS) == 4 and {command[0] for command in COMMANDS} == {"choose"}
    text = (DOCS / PAGE).read_text(encoding="utf-8")
    assert all(f"| `--{goal.replace('_', '-')} " in text for goal in GOALS)
