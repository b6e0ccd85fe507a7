"""Several settings of one document side by side, as a picture."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image as Pictures
from PIL import ImageDraw, ImageFont

from meteor_bench.data.own_pictures import AGREEMENT
from meteor_bench.lmms.document import Document
from meteor_bench.runs.patches.picture import PAPER, TINTS, draw
from meteor_bench.runs.patches.recorder import Panel
from meteor_bench.runs.patches.trace_sample import Shown

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["sheet"]

PANEL, GAP, MARGIN, CARD = 168, 12, 36, 18
ACROSS = 4  # cards in a row
INK, SOFT, LINE, WHITE = (24, 26, 29), (98, 104, 112), (222, 222, 216), (255, 255, 255)
RIGHT, WRONG = (0, 114, 178), (213, 94, 0)


@dataclass
class _Pen:
    """Writes lines of text downwards."""

    canvas: ImageDraw.ImageDraw
    x: int
    y: int
    width: int

    def write(self, text: str, size: int, colour: tuple[int, int, int] = INK, lines: int = 4, after: int = 4) -> None:
        font = ImageFont.load_default(size)
        letters = max(8, int(self.width / (size * 0.53)))
        for line in textwrap.wrap(text, letters, max_lines=lines, placeholder=" …") or [""]:
            while line and font.getlength(line) > self.width:
                line = line[:-2].rstrip() + "…" if len(line) > 2 else ""
            self.canvas.text((self.x, self.y), line, font=font, fill=colour)
            self.y += round(size * 1.35)
        self.y += after


def sheet(document: Document, unpruned: Shown, shown: Sequence[Shown]) -> Image:
    """The question with its picture and answers on top, a card for each setting below."""
    across = min(ACROSS, len(shown))
    wide = max(_columns(one) for one in shown)
    inner = wide * PANEL + (wide - 1) * GAP
    card = inner + 2 * CARD
    width = max(2 * MARGIN + across * card + (across - 1) * GAP, 760)
    cards = [_card(one, card) for one in shown]
    rows = [cards[i : i + across] for i in range(0, len(cards), across)]
    head = _head(document, unpruned, shown, width)
    total = head.height + sum(max(c.height for c in row) + GAP for row in rows) + MARGIN
    page = Pictures.new("RGB", (width, total), PAPER)
    page.paste(head, (0, 0))
    y = head.height
    for row in rows:
        for i, made in enumerate(row):
            page.paste(made, (MARGIN + i * (card + GAP), y))
        y += max(c.height for c in row) + GAP
    return page


def _head(document: Document, unpruned: Shown, shown: Sequence[Shown], width: int) -> Image:
    frames = shown[0].frames[:4]
    side = PANEL + 40
    height = round(side * frames[0].height / frames[0].width)
    page = Pictures.new("RGB", (width, 1600), PAPER)
    x = MARGIN
    shrunk = side if len(frames) == 1 else side // 2
    for i, frame in enumerate(frames):
        tall = round(shrunk * frame.height / frame.width)
        picture = frame.convert("RGB").resize((shrunk, tall), Pictures.Resampling.BICUBIC)
        page.paste(picture, (x + (i % 2) * shrunk, MARGIN + (i // 2) * tall))
    pen = _Pen(ImageDraw.Draw(page), MARGIN + side + 24, MARGIN - 4, width - 2 * MARGIN - side - 24)
    pen.write(document.name, 15, SOFT)
    pen.write(document.request.question, 24, lines=5, after=8)
    judged = document.benchmark.metric != AGREEMENT
    pen.write(f"{'reference' if judged else 'unpruned'} answer: {document.target}", 17, after=10)
    right, wrong = ("right", "wrong") if judged else ("the same", "another answer")
    for one in (unpruned, *shown):
        verdict = right if one.score >= 1 else wrong if one.score <= 0 else f"score {one.score:.2f}"
        colour = RIGHT if one.score >= 1 else WRONG
        tokens = f"{one.tokens['final']} of {one.tokens['reference']} visual tokens"
        pen.write(f"{one.label}: {one.answer or '(nothing)'}  ·  {verdict}  ·  {tokens}", 16, colour, lines=2, after=2)
    bottom = max(pen.y, MARGIN + height) + 14
    _legend(page, bottom)
    return page.crop((0, 0, width, bottom + 34))


def _legend(page: Image, y: int) -> None:
    canvas, font = ImageDraw.Draw(page), ImageFont.load_default(14)
    x = MARGIN
    keys = (("kept", (SOFT,)), ("dropped", (LINE,)), ("merged, a colour a group", TINTS))
    for text, colours in keys:
        for colour in colours:
            canvas.rectangle((x, y + 2, x + 11, y + 13), fill=colour, outline=LINE)
            x += 12
        canvas.text((x + 6, y - 1), text, font=font, fill=SOFT)
        x += 26 + round(font.getlength(text))
    canvas.ellipse((x + 3, y + 4, x + 10, y + 11), fill=INK)
    canvas.text((x + 18, y - 1), "the patch that stands for its group", font=font, fill=SOFT)


def _card(one: Shown, width: int) -> Image:
    """A setting: its answer, then a row of panels for each point."""
    page = Pictures.new("RGB", (width, 40000), WHITE)
    canvas = ImageDraw.Draw(page)
    pen = _Pen(canvas, CARD, CARD - 2, width - 2 * CARD)
    pen.write(one.label, 20, after=2)
    pen.write(f"{one.model}  ·  {one.removed:.1%} removed", 14, SOFT, after=10)
    for point in one.points:
        pen.write(f"{point.title}  ·  {point.kept} tokens", 15, lines=2, after=2)
        pen.y = _row(page, pen, {_column(one, p): p for p in point.panels}, one.frames)
    pen.y += 2
    for note in one.notes:
        pen.write(note, 12, SOFT, lines=3, after=2)
    height = pen.y + CARD - 6
    canvas.rectangle((0, 0, width - 1, height - 1), outline=LINE)
    return page.crop((0, 0, width, height))


def _columns(one: Shown) -> int:
    return 1 + max(_column(one, panel) for point in one.points for panel in point.panels)


def _column(one: Shown, panel: Panel) -> int:
    """Each encoder has a column of its own; what they share stands in the first."""
    return one.towers.index(panel.tower) if panel.tower in one.towers else 0


def _row(page: Image, pen: _Pen, panels: Mapping[int, Panel], frames: Sequence[Image]) -> int:
    """Panels with their titles, each in its column; the y below them."""
    bottom = pen.y
    for i, panel in panels.items():
        x = pen.x + i * (PANEL + GAP)
        picture = draw(panel, frames, PANEL)
        page.paste(picture, (x, pen.y))
        below = _Pen(pen.canvas, x, pen.y + picture.height + 3, PANEL)
        below.write(f"{panel.title}: {panel.kept}/{panel.grid.n}", 13, SOFT, lines=2, after=8)
        bottom = max(bottom, below.y)
    return bottom
