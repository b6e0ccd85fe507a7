"""What the pocket benchmarks share: how a document becomes images, and how a chain becomes an answer."""

from lmms_eval.api.filter import Filter


def doc_to_visual(doc):
    """The picture, or the frames of a clip, which are stored side by side in one picture."""
    picture = doc["image"].convert("RGB")
    width = picture.width // doc["frames"]
    return [picture.crop((i * width, 0, (i + 1) * width, picture.height)) for i in range(doc["frames"])]


class LastWord(Filter):
    """Keeps the last word of each answer; an empty answer stays empty."""

    def apply(self, resps, docs):
        """``resps`` holds one string per document."""
        return [text.split()[-1] if text.split() else "" for text in resps]
