"""LongVideoBench's accuracy by words: its own function looks for the letters A to E."""


def process_results(doc, results):
    """One entry in the shape of LongVideoBench's."""
    prediction, answer = results[0].strip(), doc["answer"]
    score = float(prediction.lower() == answer.lower())
    entry = {"id": doc["question_id"], "videoID": doc["media_key"], "question_category": doc["family"]}
    return {"lvb_acc": {**entry, "parsed_pred": prediction, "answer": answer, "score": score}}


def accuracy(results):
    """Share of right answers among all questions, from 0 to 1."""
    return sum(result["score"] for result in results) / len(results)
