"""Columns of the data sets: what lmms-eval's task code reads is sure, the rest not; see `scripts.make_lookalikes`."""

from __future__ import annotations

from typing import Any

from datasets import Features, Image, List, Value

__all__ = ["SCHEMAS"]

TEXT, WHOLE, REAL, TRUTH = Value("string"), Value("int64"), Value("float64"), Value("bool")


def _features(**columns: Any) -> Features:
    return Features({name.replace("__", "-"): kind for name, kind in columns.items()})


def _texts(names: str) -> dict[str, Any]:
    return dict.fromkeys(names.split(), TEXT)


_OPERATION = {"operation": TEXT, "argument": TEXT, "dependencies": List(Value("int32"))}
_PERSON = {"answer": TEXT, "answer_confidence": TEXT, "answer_id": WHOLE}

SCHEMAS: dict[str, Features] = {
    "scienceqa_img": _features(
        image=Image(),
        question=TEXT,
        choices=List(TEXT),
        answer=Value("int8"),
        **_texts("hint task grade subject topic category skill lecture solution"),
    ),
    "ai2d": _features(question=TEXT, options=List(TEXT), answer=TEXT, image=Image()),
    "mmmu_val": _features(
        **_texts("id question options explanation"),
        **{f"image_{i}": Image() for i in range(1, 8)},
        **_texts("img_type answer topic_difficulty question_type subfield"),
    ),
    "gqa": _features(
        **_texts("id imageId question"),
        isBalanced=TRUTH,
        groups={"global": TEXT, "local": TEXT},
        **_texts("entailed equivalent"),
        types={"detailed": TEXT, "semantic": TEXT, "structural": TEXT},
        semantic=List(_OPERATION),
        **_texts("semanticStr answer fullAnswer"),
    ),
    "gqa_images": _features(id=TEXT, image=Image()),
    "pope": _features(**_texts("id question_id question answer image_source"), image=Image(), category=TEXT),
    "seedbench": _features(
        **_texts("answer choice_a choice_b choice_c choice_d data_id data_type question question_id"),
        question_type_id=Value("int16"),
        image=List(Image()),
        segment=List(WHOLE),
    ),
    "mmbench_en_dev_static": _features(
        index=WHOLE,
        **_texts("question hint answer A B C D category"),
        image=Image(),
        **_texts("source L2__category comment split"),
    ),
    "textvqa_val": _features(
        image_id=TEXT,
        question_id=Value("int32"),
        question=TEXT,
        question_tokens=List(TEXT),
        image=Image(),
        image_width=Value("int32"),
        image_height=Value("int32"),
        **_texts("flickr_original_url flickr_300k_url"),
        answers=List(TEXT),
        image_classes=List(TEXT),
        set_name=TEXT,
        ocr_tokens=List(TEXT),
    ),
    "chartqa": _features(**_texts("type question answer"), image=Image()),
    "docvqa_val": _features(
        **_texts("questionId question"),
        question_types=List(TEXT),
        image=Image(),
        docId=WHOLE,
        **_texts("ucsf_document_id ucsf_document_page_no"),
        answers=List(TEXT),
        data_split=TEXT,
    ),
    "infovqa_val": _features(
        **_texts("questionId question"),
        answers=List(TEXT),
        answer_type=List(TEXT),
        image=Image(),
        image_url=TEXT,
        operation__reasoning=List(TEXT),
        **_texts("ocr data_split"),
    ),
    "ocrbench": _features(**_texts("dataset question question_type"), answer=List(TEXT), image=Image()),
    "mme": _features(question_id=TEXT, image=Image(), **_texts("question answer category")),
    "vqav2_val": _features(
        **_texts("question_type multiple_choice_answer"),
        answers=List(_PERSON),
        image_id=WHOLE,
        answer_type=TEXT,
        question_id=WHOLE,
        question=TEXT,
        image=Image(),
    ),
    "vizwiz_vqa_val": _features(question_id=TEXT, image=Image(), question=TEXT, answers=List(TEXT), category=TEXT),
    "videomme": _features(
        **_texts("video_id duration domain sub_category url videoID question_id task_type question"),
        options=List(TEXT),
        answer=TEXT,
    ),
    "longvideobench_val_v": _features(
        **_texts("video_id id video_path subtitle_path"),
        correct_choice=WHOLE,
        **_texts("question option0 option1 option2 option3 option4"),
        duration=REAL,
        duration_group=WHOLE,
        **_texts("question_category topic_category"),
        starting_timestamp_for_subtitles=REAL,
    ),
}
