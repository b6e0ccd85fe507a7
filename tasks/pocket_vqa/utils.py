"""VQAv2's consensus accuracy on the pocket documents."""

from lmms_eval.tasks.vqav2.utils import vqav2_process_results_val


def process_results(doc, results):
    """The ten answers in the shape that VQAv2's own function reads; equal answers are told apart by their number."""
    answers = [{"answer": answer, "answer_id": i} for i, answer in enumerate(doc["answers"], 1)]
    return vqav2_process_results_val({**doc, "answers": answers}, results)
