"""OCRBench's scoring on the pocket documents."""

from lmms_eval.tasks.ocrbench.utils import ocrbench_process_results


def process_results(doc, results):
    """The two columns that OCRBench's own function reads beside question and answer."""
    return ocrbench_process_results({**doc, "dataset": "pocket", "question_type": "Regular Text Recognition"}, results)


def accuracy(results):
    """Fraction of right answers; OCRBench's own aggregation adds up points in a global and divides by 1000."""
    return sum(result["score"] for result in results) / len(results)
