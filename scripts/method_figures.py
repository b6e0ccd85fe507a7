"""Draw what each method keeps of the same three shipped pictures, for its page: docs/methods/figures/<method>.png.

`python scripts/method_figures.py [METHOD ...]` draws all of them, or those named, as `meteor-bench show` draws; then
`python scripts/method_pages.py` puts them on the pages. It answers three questions with each method, which takes a few
minutes. A file holds the digest of what it shows, which a slow test of `tests/scripts/test_method_figures.py` compares
with what the method keeps now.
"""

from __future__ import annotations

import hashlib
import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from meteor_bench.config.run_config import RunConfig  # noqa: E402
from meteor_bench.core.registry import METHODS  # noqa: E402
from meteor_bench.lmms.document import Document, find  # noqa: E402
from meteor_bench.lmms.inputs import Inputs  # noqa: E402
from meteor_bench.runs.model_cache import ModelCache  # noqa: E402
from meteor_bench.runs.patches.picture import PAPER, draw  # noqa: E402
from meteor_bench.runs.patches.recorder import Panel  # noqa: E402
from meteor_bench.runs.patches.trace_sample import Shown, watch  # noqa: E402
from meteor_bench.utils.atomic_io import write_whole  # noqa: E402
from meteor_bench.utils.environment import quiet_libraries  # noqa: E402
from scripts.method_pages import FIGURES, figure_name  # noqa: E402

SAMPLES = ("pocket_gqa/12", "pocket_textvqa/3", "pocket_scienceqa/7")
RATIO = 0.76
SIDE, GAP, LABEL, LINE = 120, 8, 96, 15
COLOURS = 128
INK = (72, 77, 84)
KEY = "kept"  # of the digest in a file


class Drawn(NamedTuple):
    """A figure, and the digest of the groups that it shows."""

    picture: Image.Image
    digest: str


def figure(shown: Sequence[Shown]) -> Drawn:
    """The pictures on top; below each what is left of it after the last point, a row for each encoder apart."""
    panels = [one.points[-1].panels if one.points else () for one in shown]
    rows, font = max(map(len, panels)), ImageFont.load_default(12)
    label = max([LABEL, *(GAP + round(font.getlength(_short(panel))) for own in panels for panel in own)])
    width = label + len(shown) * SIDE + (len(shown) - 1) * GAP
    page = Image.new("RGB", (width, SIDE + rows * (SIDE + GAP + LINE)), PAPER)
    pen = ImageDraw.Draw(page)
    pen.text((0, SIDE // 2 - 8), "picture", INK, font)
    digest = hashlib.sha256()
    for column, (one, own) in enumerate(zip(shown, panels, strict=True)):
        x = label + column * (SIDE + GAP)
        page.paste(one.frames[0].convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC), (x, 0))
        for row, panel in enumerate(own):
            y = SIDE + GAP + row * (SIDE + GAP + LINE)
            page.paste(draw(panel, one.frames, SIDE), (x, y))
            pen.text((x, y + SIDE), f"{panel.kept} of {panel.grid.n} cells", INK, font)
            if column == 0:
                pen.text((0, y + SIDE // 2 - 8), _short(panel), INK, font)
            digest.update(repr((row, panel.tower, tuple(panel.group), tuple(panel.grid))).encode())
    return Drawn(page, digest.hexdigest()[:16])


def _short(panel: Panel) -> str:
    return {"llm": "in the LLM", "fused": "fused"}.get(panel.tower, f"encoder {panel.tower}")


def png(drawn: Drawn) -> bytes:
    """A small file: few colours, no date."""
    stream, said = io.BytesIO(), PngInfo()
    said.add_text(KEY, drawn.digest)
    few = drawn.picture.quantize(COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    few.save(stream, format="PNG", optimize=True, pnginfo=said)
    return stream.getvalue()


def figures(
    methods: Sequence[str], samples: Sequence[str] = SAMPLES, model: str = "pocket"
) -> Iterator[tuple[str, Drawn]]:
    """Method by method; those that keep everything have none."""
    quiet_libraries()
    from meteor_bench.data.calibration import calibration_requests

    models, documents = ModelCache(), list[Document]()
    for method in methods:
        config = RunConfig(method=method, ratio=RATIO, device="cpu", model=model)
        session = models.blueprint(config).session(calibration_requests)
        documents = documents or [find(sample, session, Inputs.of(config)) for sample in samples]
        yield method, figure([watch(session, document, method) for document in documents])


def drawn_methods() -> list[str]:
    """This repository's methods that prune."""
    return [name for name in METHODS.rows if name != "none"]


def main(wanted: Sequence[str]) -> None:
    FIGURES.mkdir(parents=True, exist_ok=True)
    for method, drawn in figures(wanted or drawn_methods()):
        write_whole(FIGURES / figure_name(method), png(drawn))
        print(method, drawn.digest)


if __name__ == "__main__":
    main(sys.argv[1:])
