"""Rows of the look-alikes of benchmarks that show videos."""

from __future__ import annotations

from collections.abc import Callable

from scripts.lookalikes.row import LETTERS, OPTIONS, Row, letters

__all__ = ["ROWS"]


def _videomme() -> list[Row]:
    rows = []
    for i in range(6):
        letter, other = letters(i)
        name = f"look{i // 3:08}"  # two videos, three questions each
        columns = {
            "video_id": f"{i // 3 + 1:03}",
            "duration": ("short", "medium", "long")[i // 2],
            "domain": "Knowledge",
            "sub_category": "Geography",
            "url": "",
            "videoID": name,
            "question_id": f"{i // 3 + 1:03}-{i % 3 + 1}",
            "task_type": "Counting Problem",
            "question": "How many are there?",
            "options": [f"{one}. {option}" for one, option in zip(LETTERS, OPTIONS, strict=True)],
            "answer": letter,
        }
        rows.append(Row(columns, letter, other, f"{name}.mp4"))
    return rows


def _longvideobench() -> list[Row]:
    rows = []
    for i in range(4):
        letter, other = letters(i)
        columns = {
            "video_id": f"v{i // 2}",
            "id": f"v{i // 2}_{i}",
            "video_path": f"v{i // 2}.mp4",
            "subtitle_path": f"v{i // 2}_en.json",
            "correct_choice": LETTERS.index(letter),
            "question": "How many are there?",
            **{f"option{k}": option for k, option in enumerate(OPTIONS)},
            "option4": "N/A",
            "duration": 1.0,
            "duration_group": (15, 60, 600, 3600)[i],
            "question_category": "S2E",
            "topic_category": "KG",
            "starting_timestamp_for_subtitles": 0.0,
        }
        rows.append(Row(columns, letter, other, f"v{i // 2}.mp4"))
    return rows


def _mvbench() -> list[Row]:
    rows = []
    for i in range(3):
        letter, other = letters(i)
        candidates = list(OPTIONS)
        asked = {"question": "How many are there?", "candidates": candidates, "answer": OPTIONS[LETTERS.index(letter)]}
        name = "episode" if i == 2 else f"clip{i}.mp4"  # the last a folder of frames, as episodic_reasoning has
        rows.append(Row({"video": name, **asked}, f"({letter})", f"({other})", name))
    return rows


ROWS: dict[str, Callable[[], list[Row]]] = {
    "videomme": _videomme,
    "longvideobench_val_v": _longvideobench,
    "mvbench": _mvbench,
}
