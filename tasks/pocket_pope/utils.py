"""The share of "yes" among the answers given."""


def said_yes(results):
    """Mean over documents; lmms-eval's function of that name reads the truth instead of the prediction."""
    return sum(result["prediction"] == "yes" for result in results) / len(results)
