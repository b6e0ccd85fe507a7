"""What benchmarks made of somebody's own questions share; a copy lies beside each of them."""

import string

from lmms_eval.tasks._task_utils.mcq_extract import extract_mcq_answer
from lmms_eval.tasks.chartqa.utils import relaxed_correctness
from lmms_eval.tasks.vqav2.utils import vqav2_process_results_val


def doc_to_visual(doc):
    """The video, or the pictures."""
    if doc["video"] is not None:
        return [doc["video"]]
    return [picture.convert("RGB") for picture in doc["images"]]


def doc_to_text(doc):
    """The question is the whole prompt; options follow it in the words that lmms-eval's own tasks have for them."""
    options = [f"{letter}. {words}" for letter, words in zip(string.ascii_uppercase, doc["choices"], strict=False)]
    told = "Answer with the option's letter from the given choices directly."
    return "\n".join([doc["question"], *options, told]) if options else doc["question"]


def vqa(doc, results):
    """The answers in the shape that VQAv2's own function reads; equal answers are told apart by their number."""
    answers = [{"answer": answer, "answer_id": i} for i, answer in enumerate(doc["answers"], 1)]
    return vqav2_process_results_val({**doc, "answers": answers}, results)


def relaxed(doc, results):
    """ChartQA's relaxed accuracy."""
    said = results[0].strip()
    return {"relaxed_overall": float(any(relaxed_correctness(said, answer) for answer in doc["answers"]))}


def choice(doc, results):
    """By the words of an option, else by the letter that lmms-eval reads off."""
    said, options = results[0].strip(), doc["choices"]
    by_words = [i for i, option in enumerate(options) if option.strip().lower() == said.rstrip(".").lower()]
    letters = string.ascii_uppercase[: len(options)]
    letter = letters[by_words[0]] if by_words else extract_mcq_answer(said, choices=list(letters))
    return {"exact_match": float(letter == letters[options.index(doc["answer"])])}


def agreement(doc, results):
    """Of an answer with itself; see `meteor_bench.lmms.agreement` for the one with another model's."""
    return {"agreement": 1.0}
