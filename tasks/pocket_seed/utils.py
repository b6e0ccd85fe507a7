"""SEED-Bench's accuracy by words: its own function would keep the first character only."""


def process_results(doc, results):
    """One entry in the shape that SEED-Bench's aggregation reads."""
    entry = {"question_id": doc["question_id"], "pred": results[0].strip(), "answer": doc["answer"]}
    return {"seed_image": {**entry, "score": float(entry["pred"].lower() == entry["answer"].lower())}}
