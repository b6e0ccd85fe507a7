"""MMBench's static evaluation (no judge) on the pocket documents."""

from lmms_eval.tasks._task_utils.mcq_extract import extract_mcq_answer
from lmms_eval.tasks.mmbench.mmbench_evals import MMBench_Evaluator

EVALUATOR = MMBench_Evaluator()
LETTERS = "ABCD"


def process_results(doc, results):
    """An option counts as chosen when the answer names it by its letter or contains its words and no other's."""
    item = {letter: float("nan") for letter in LETTERS}
    item |= dict(zip(LETTERS, doc["options"], strict=False))
    item |= {
        "index": doc["index"],
        "prediction": results[0].strip(),
        "answer": LETTERS[doc["options"].index(doc["answer"])],
    }
    choices = sorted(EVALUATOR.build_choices(item))
    chosen = EVALUATOR.prefetch_answer(item) or extract_mcq_answer(item["prediction"], choices=choices)
    return {"gpt_eval_score": {**item, "score": float(chosen == item["answer"])}}


def percent(results):
    """MMBench's overall accuracy, which has one scale point per percent."""
    return 100 * sum(result["score"] for result in results) / len(results)
