"""What a sample of a shape comes to at a budget: counts, and FLOPs to the first token, with those of the selection.

Found by a pass of one sample of that shape, outside of every clock: the counts are those of its trace. Encoders, fusion
and prefill are closed forms on those counts, which hold for a question of any length; what the selection takes is
counted by torch on that pass, and is a polynomial of second degree in the question's length (a method may look at the
question's tokens, at their attention, or at a layer run for it alone), which three lengths fix.
"""

from __future__ import annotations

from fractions import Fraction
from threading import RLock
from typing import NamedTuple

import torch
from torch import Tensor

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.match import Left, Measure, left, to_first_token
from meteor_bench.core.model import VLM, Look, Prompt, Scene
from meteor_bench.core.points import Points
from meteor_bench.core.pruner import Pruner
from meteor_bench.core.tokens import Grid
from meteor_bench.core.tower_flops import tower_flops
from meteor_bench.core.trace import SampleTrace
from meteor_bench.engine.encode import Towered, encode
from meteor_bench.engine.engine import Engine
from meteor_bench.engine.flop_counter import FlopMeter
from meteor_bench.engine.fuse import Visual, embed_questions, fuse
from meteor_bench.engine.prefill import begin

__all__ = ["Gauge", "Shape", "reference", "shape_of"]

LENGTHS = (8, 16, 24)  # of the questions of three passes, in tokens
KEY = "gauge"
WHOLE = TokenBudget(1.0)


class Shape(NamedTuple):
    """What the counts of an exact method depend on.

    Attributes:
        pixels: (F, C, H, W).
        scene: what else the sample is.
    """

    pixels: tuple[int, ...]
    scene: Scene


def shape_of(look: Look) -> Shape:
    """The shape of what a model is shown."""
    return Shape(tuple(look.pixels.shape), look.scene)


def reference(vlm: VLM, shape: Shape) -> int:
    """N of a shape: what the unpruned reference model feeds its language model."""
    frames, _, *side = shape.pixels
    return vlm.at(shape.scene).reference(vlm.grid(frames, *side))


class _Profile(NamedTuple):
    """A pass of one sample.

    Attributes:
        trace: its counts; its FLOPs without prefill and selection.
        selection: FLOPs of choosing, for a question of each of some lengths.
    """

    trace: SampleTrace
    selection: tuple[tuple[int, int], ...]


class _Unpruned(NamedTuple):
    """What the unpruned reference model makes of a picture.

    Attributes:
        flops: of encoders and fusion.
        tokens: handed to the language model, special ones among them.
    """

    flops: int
    tokens: int


def _stages(whole: VLM, shape: Shape, tokens: int) -> dict[str, int]:
    """FLOPs of the encoders and the shared fusion of a model that has no storage."""
    frames, _, *side = shape.pixels
    flops = {f"encode.{name}": frames * tower_flops(tower, *side) for name, tower in whole.towers.items()}
    grids = {name: Grid(frames, *tower.grid(*side)[1:]) for name, tower in whole.towers.items()}
    return {**flops, "fuse": whole.fusion.flops_align(grids) + whole.fusion.flops({"fused": tokens})}


class Gauge:
    """Profiles of samples under a method, each worked out once. Several threads may ask.

    Args:
        engine: the method at any budget.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = RLock()
        self._profiles: dict[tuple[Shape, float], _Profile] = {}
        self._unpruned: dict[Shape, _Unpruned] = {}
        self._pixels: dict[Shape, Tensor] = {}

    def show(self, shape: Shape, pixels: Tensor) -> None:
        """Take this picture [F, C, H, W] for all samples of its shape; else it is noise."""
        self._pixels[shape] = pixels

    def most(self, shape: Shape) -> int:
        """`reference` on the model of the method."""
        return reference(self._engine.vlm, shape)

    def measured(self, shape: Shape, budget: TokenBudget, question: int) -> dict[Measure, Left]:
        """All measures of a sample of that shape.

        Args:
            question: tokens behind the picture.

        Raises:
            BudgetError: the method cannot run at the budget.
        """
        trace = self._profile(shape, budget).trace.copy()
        trace.text += question
        decoder = self._engine.vlm.decoder
        prefill = sum(decoder.flops_at(i, n + trace.text, n + trace.text) for i, n in enumerate(trace.llm))
        trace.flops["prefill"] = prefill + decoder.flops_head(1)
        self.complete(trace, shape, budget, question)
        return left(trace.as_record(), trace.flops)

    def complete(self, trace: SampleTrace, shape: Shape, budget: TokenBudget, question: int) -> None:
        """Add to a sample's trace what its selection takes, and what the reference model would take in all."""
        if self._engine.points == Points() and budget == self._engine.budget == WHOLE and self._is_reference(shape):
            trace.flops["prune"], trace.reference_flops = 0, int(to_first_token(trace.flops))
            return
        trace.flops["prune"] = self._selection(shape, budget, question)
        trace.reference_flops = self._reference_flops(shape, question)

    def _is_reference(self, shape: Shape) -> bool:
        """Whether the model is its own reference: an unpruned pass of it needs no second."""
        vlm = self._engine.vlm.at(shape.scene)
        return vlm.reference_fusion is None and vlm.made_from is None

    def _selection(self, shape: Shape, budget: TokenBudget, question: int) -> int:
        if budget == self._engine.budget and self._engine.points == Points():
            return 0
        known = self._profile(shape, budget).selection
        total = Fraction(0)
        for at, flops in known:  # Lagrange
            part = Fraction(flops)
            for other, _ in known:
                if other != at:
                    part *= Fraction(question - other, at - other)
            total += part
        return max(0, round(total))

    def _reference_flops(self, shape: Shape, question: int) -> int:
        unpruned, vlm = self._reference(shape), self._engine.vlm
        decoder = (vlm.made_from or vlm).decoder
        tokens = len(self._prompt(0).before) + unpruned.tokens + question
        prefill = decoder.depth * decoder.flops_layer(tokens, tokens) + decoder.flops_head(1)
        return unpruned.flops + prefill

    def _reference(self, shape: Shape) -> _Unpruned:
        """Only numbers are kept: on some models nearly every picture has a shape of its own."""
        with self._lock:
            if shape not in self._unpruned:
                plain = Engine(self._engine.vlm, Pruner(), WHOLE)
                visual = self._fused(plain, shape)
                vlm, (trace,) = plain.vlm.at(shape.scene), visual.traces
                if vlm.reference_fusion is not None:
                    grids, other = visual.shape.grids, vlm.reference_fusion
                    trace.flops["fuse"] = other.flops_align(grids) + other.flops({"fused": trace.reference})
                if vlm.made_from is not None:
                    trace.flops |= _stages(vlm.made_from, shape, trace.reference)
                self._unpruned[shape] = _Unpruned(sum(trace.flops.values()), trace.reference + visual.specials)
            return self._unpruned[shape]

    def _profile(self, shape: Shape, budget: TokenBudget) -> _Profile:
        with self._lock:
            key = shape, budget.keep
            if key not in self._profiles:
                self._profiles[key] = self._passed(shape, budget)
            return self._profiles[key]

    @torch.inference_mode()
    def _passed(self, shape: Shape, budget: TokenBudget) -> _Profile:
        vlm = self._engine.vlm
        meter = FlopMeter(vlm.device)
        engine = self._engine.at(budget, meter)
        reads = engine.points.fuse is not None and engine.points.fuse.text
        lengths = LENGTHS if reads or engine.points.decode else LENGTHS[:1]
        found: list[tuple[int, int]] = []

        def chosen() -> int:
            return meter.read_flops().get("prune", 0)

        with meter:
            towered = self._encoded(engine, shape)
            shared = None if reads else fuse(engine, towered)
            alike = chosen()  # whatever the question
            for length in lengths:
                before, prompt = chosen(), self._prompt(length)
                visual = shared or fuse(engine, towered, text=embed_questions(engine, [prompt]))
                (trace,) = begin(engine, visual, [0], [prompt], 1).traces
                found.append((length, alike + chosen() - before))
        trace.text -= lengths[-1]
        del trace.flops["prefill"]
        return _Profile(trace, tuple(found))

    @torch.inference_mode()
    def _fused(self, plain: Engine, shape: Shape) -> Visual:
        return fuse(plain, self._encoded(plain, shape))

    def _encoded(self, engine: Engine, shape: Shape) -> Towered:
        pixels = self._pixels.get(shape)
        if pixels is None:
            pixels = torch.randn(shape.pixels, generator=torch.Generator().manual_seed(0))
        return encode(engine, pixels[None].to(engine.vlm.device, engine.vlm.dtype), [KEY], shape.scene)

    def _prompt(self, question: int) -> Prompt:
        """So many tokens behind the picture."""
        before, ids = self._engine.vlm.processor.prompt("What is it?")
        return Prompt(before, ((*ids,) * (question // len(ids) + 1))[:question])
