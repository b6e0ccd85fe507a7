"""Rows of the look-alikes of benchmarks that show pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scripts.lookalikes.row import LETTERS, OPTIONS, PICTURES, Row, letters, picture

__all__ = ["ROWS"]

WORDS = ("apple", "river", "castle", "violin", "rocket", "meadow")


def _open(columns: Callable[[int, str], dict[str, Any]]) -> Callable[[], list[Row]]:
    """Rows answered by a word."""
    return lambda: [Row(columns(i, word), word, "zzz") for i, word in enumerate(WORDS)]


def _lettered(columns: Callable[[int, str], dict[str, Any]]) -> Callable[[], list[Row]]:
    """Rows answered by the letter of one of four options."""
    return lambda: [Row(columns(i, letters(i)[0]), *letters(i)) for i in range(len(WORDS))]


def _texts(names: str, value: str = "") -> dict[str, str]:
    return dict.fromkeys(names.split(), value)


def _scienceqa(i: int, letter: str) -> dict[str, Any]:
    about = _texts("task grade subject topic category skill lecture solution", "about")
    hint = "Look closely." if i % 2 else ""
    asked = {"question": "How many are there?", "choices": list(OPTIONS), "answer": LETTERS.index(letter)}
    return {"image": picture(i % PICTURES), **asked, "hint": hint, **about}


def _ai2d(i: int, letter: str) -> dict[str, Any]:
    asked = {"question": "What is at the arrow?", "options": list(OPTIONS), "answer": str(LETTERS.index(letter))}
    return {**asked, "image": picture(i % PICTURES)}


def _mmmu() -> list[Row]:
    rows = []
    subjects = ("Accounting", "Art_Theory", "Biology", "History")
    for i, subject in enumerate(subjects):
        shown = 7 if i == 1 else 1
        images = {f"image_{k}": picture(k % PICTURES) if k <= shown else None for k in range(1, 8)}
        letter, other = letters(i)
        is_open = i == 3
        mentioned = " ".join(f"<image {k}>" for k in range(1, shown + 1))
        columns = {
            "id": f"validation_{subject}_{i + 1}",
            "question": f"What do {mentioned} show?",
            "options": "[]" if is_open else repr(list(OPTIONS)),
            **images,
            "answer": "meadow" if is_open else letter,
            "question_type": "open" if is_open else "multiple-choice",
            **_texts("explanation img_type topic_difficulty subfield", "about"),
        }
        rows.append(Row(columns, "meadow" if is_open else letter, "zzz" if is_open else other))
    return rows


def _gqa(i: int, word: str) -> dict[str, Any]:
    return {
        "id": f"{i}",
        "imageId": str(i % PICTURES),
        "question": f"What is thing {i}?",
        "isBalanced": True,
        "groups": {"global": None, "local": "06-thing"},
        **_texts("entailed equivalent semanticStr", "[]"),
        "types": _texts("detailed semantic structural", "query"),
        "semantic": [{"operation": "select", "argument": word, "dependencies": [0]}],
        "answer": word,
        "fullAnswer": f"It is a {word}.",
    }


def _pope() -> list[Row]:
    rows = []
    for i in range(6):
        answer, other = ("yes", "no") if i % 2 else ("no", "yes")
        columns = {
            "id": str(i),
            "question_id": str(i // 2),
            "question": f"Is there a {WORDS[i]} in the image?",
            "answer": answer,
            "image_source": f"COCO_val2014_{i % PICTURES:012}",
            "image": picture(i % PICTURES),
            "category": ("adversarial", "popular", "random")[i % 3],
        }
        rows.append(Row(columns, answer, other))
    return rows


def _seedbench(i: int, letter: str) -> dict[str, Any]:
    kind = "video" if i >= 4 else "image"
    return {
        "answer": letter,
        **{f"choice_{name.lower()}": option for name, option in zip(LETTERS, OPTIONS, strict=True)},
        "data_id": str(i % PICTURES),
        "data_type": kind,
        "question": "How many are there?",
        "question_id": str(i),
        "question_type_id": 10 if kind == "video" else 5,
        "image": [picture(k) for k in range(8)] if kind == "video" else [picture(i % PICTURES)],
        "segment": None,
    }


def _mmbench() -> list[Row]:
    rows = []
    # Questions 1 to 3; the first again with its options rotated, as the data set numbers that.
    for i, index in enumerate((1, 2, 3, 1_000_001)):
        letter, other = letters(i)
        turned = OPTIONS[i:] + OPTIONS[:i]
        columns = {
            "index": index,
            "question": "How many are there?",
            "hint": "Look closely." if i == 1 else "nan",
            "answer": letter,
            **dict(zip(LETTERS, turned, strict=True)),
            "category": "count",
            "image": picture(index % 1_000_000 % PICTURES),
            "source": "drawn",
            "L2-category": "perception",
            "comment": "nan",
            "split": "dev",
        }
        rows.append(Row(columns, letter, other))
    return rows


def _textvqa(i: int, word: str) -> dict[str, Any]:
    return {
        "image_id": f"{i % PICTURES}",
        "question_id": i,
        "question": f"what does sign {i} say?",
        "question_tokens": ["what", "does", "it", "say"],
        "image": picture(i % PICTURES),
        "image_width": 48,
        "image_height": 32,
        **_texts("flickr_original_url flickr_300k_url"),
        "answers": [word] * 10,
        "image_classes": ["Sign"],
        "set_name": "val",
        "ocr_tokens": [word],
    }


def _chartqa() -> list[Row]:
    rows = []
    for i, (answer, other) in enumerate([("40", "60"), ("Norway", "zzz"), ("25%", "90%"), ("0.5", "7")]):
        kind = "human_test" if i % 2 else "augmented_test"
        columns = {"type": kind, "question": f"Which is bar {i}?", "answer": answer, "image": picture(i % PICTURES)}
        rows.append(Row(columns, answer, other))
    return rows


def _docvqa(i: int, word: str) -> dict[str, Any]:
    return {
        "questionId": str(i),
        "question": f"What is in line {i}?",
        "question_types": ["form"],
        "image": picture(i % PICTURES),
        "docId": i % PICTURES,
        **_texts("ucsf_document_id ucsf_document_page_no", "1"),
        "answers": [word, word.upper()],
        "data_split": "val",
    }


def _infovqa(i: int, word: str) -> dict[str, Any]:
    return {
        "questionId": str(i),
        "question": f"What is in box {i}?",
        "answers": [word],
        "answer_type": ["single span"],
        "image": picture(i % PICTURES),
        "operation-reasoning": [],
        **_texts("image_url ocr data_split"),
    }


def _ocrbench(i: int, word: str) -> dict[str, Any]:
    kinds = ("Regular Text Recognition", "Scene Text-centric VQA", "Key Information Extraction")
    asked = {"dataset": "IIIT5K", "question": "what is written in the image?", "question_type": kinds[i % 3]}
    return {**asked, "answer": [word], "image": picture(i % PICTURES)}


def _mme() -> list[Row]:
    perception = "existence count position color posters celebrity scene landmark artwork OCR"
    cognition = "commonsense_reasoning numerical_calculation text_translation code_reasoning"
    rows = []
    for i, category in enumerate(f"{perception} {cognition}".split()):
        for answer, other in (("Yes", "No"), ("No", "Yes")):
            columns = {
                "question_id": f"{category}/{i:04}.jpg",
                "image": picture(i),
                "question": f"Is this {answer}? Please answer yes or no.",
                "answer": answer,
                "category": category,
            }
            rows.append(Row(columns, answer, other))
    return rows


def _vqav2(i: int, word: str) -> dict[str, Any]:
    people = [{"answer": word, "answer_confidence": "yes", "answer_id": k} for k in range(1, 11)]
    return {
        "question_type": "what",
        "multiple_choice_answer": word,
        "answers": people,
        "image_id": i % PICTURES,
        "answer_type": "other",
        "question_id": i,
        "question": f"What is thing {i}?",
        "image": picture(i % PICTURES),
    }


def _vizwiz(i: int, word: str) -> dict[str, Any]:
    asked = {"question_id": f"VizWiz_val_{i:08}.jpg", "question": f"what is thing {i}?", "answers": [word] * 10}
    return {**asked, "image": picture(i % PICTURES), "category": "other"}


ROWS: dict[str, Callable[[], list[Row]]] = {
    "scienceqa_img": _lettered(_scienceqa),
    "ai2d": _lettered(_ai2d),
    "mmmu_val": _mmmu,
    "gqa": _open(_gqa),
    "pope": _pope,
    "seedbench": _lettered(_seedbench),
    "mmbench_en_dev_static": _mmbench,
    "textvqa_val": _open(_textvqa),
    "chartqa": _chartqa,
    "docvqa_val": _open(_docvqa),
    "ocrbench": _open(_ocrbench),
    "mme": _mme,
    "vqav2_val": _open(_vqav2),
    "vizwiz_vqa_val": _open(_vizwiz),
    "infovqa_val": _open(_infovqa),
}
