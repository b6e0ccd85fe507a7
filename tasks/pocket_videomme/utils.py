"""Video-MME's perception score by words: its own function looks for the letters A to D."""


def process_results(doc, results):
    """One entry in the shape of Video-MME's."""
    prediction, answer = results[0].strip(), doc["answer"]
    score = float(prediction.lower() == answer.lower())
    entry = {"question_id": doc["question_id"], "videoID": doc["media_key"], "task_category": doc["family"]}
    return {"videomme_perception_score": {**entry, "pred_answer": prediction, "answer": answer, "score": score}}


def percent(results):
    """Accuracy over all questions."""
    return 100 * sum(result["score"] for result in results) / len(results)
