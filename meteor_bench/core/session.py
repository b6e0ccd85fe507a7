"""A model under a method, ready to answer requests; the one thing that evaluation and latency runs talk to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.clock import Clock
from meteor_bench.core.engine import Engine, Towered, Visual
from meteor_bench.core.language import Generation, answer, prefix
from meteor_bench.core.pruner import Pruner
from meteor_bench.models.base import VLM, Prompt

__all__ = ["Answer", "Request", "Session"]

IMAGES_AT_ONCE = 16


@dataclass(frozen=True)
class Request:
    """One question about one image or clip.

    Attributes:
        key: unique, say "pocket_gqa/17".
        media_key: equal for requests that share their image or clip; also seeds a method's random numbers.
        media: decodes it: the RGB PIL images, one for an image, the frames of a clip.
        question: the whole prompt, without the model's template.
        until: the answer is cut before the first of these strings.
    """

    key: str
    media_key: str
    media: Callable[[], Sequence[Any]]
    question: str
    max_new_tokens: int
    until: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What came of a request.

    Attributes:
        tokens: the columns of `SampleTrace.as_record`.
        latency_ms: this request's share of its batch's time, by stage; shared work is divided, so this is not the
            latency of a request alone (see `core.latency`).
        flops: stage -> FLOPs of this request run alone.
        notes: substitutions that the engine made.
    """

    text: str
    tokens: dict[str, Any]
    latency_ms: dict[str, float] = field(default_factory=dict)
    flops: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Session:
    """Owns the model, the method and the budget of a run.

    Args:
        positions, seed, facts: as for `Engine`.
        provenance: what records say about this session.
    """

    def __init__(
        self,
        vlm: VLM,
        pruner: Pruner,
        budget: TokenBudget,
        *,
        positions: str | None = None,
        seed: int = 0,
        facts: Mapping[str, Any] | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        self.vlm, self.pruner, self.budget = vlm, pruner, budget
        self.clock = Clock(vlm.device)
        self.engine = Engine(vlm, pruner, budget, positions=positions, seed=seed, facts=facts, clock=self.clock)
        self.provenance: dict[str, Any] = dict(provenance or {})

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return self.vlm.device

    @torch.inference_mode()
    def answer(
        self,
        requests: Sequence[Request],
        on_answer: Callable[[Request, Answer], None],
        batch_size: int = 32,
        reuse: bool = True,
    ) -> None:
        """Answer all requests, in an order of our own; ``on_answer`` is called as soon as each is known.

        Args:
            batch_size: questions at once.
            reuse: encode each distinct image once and extend its cached prefix by each question. The answers are
                the same without.
        """
        for chunk in self._chunks(requests, reuse):
            self._serve(chunk, on_answer, batch_size, reuse)

    def _chunks(self, requests: Sequence[Request], reuse: bool) -> Iterator[list[list[Request]]]:
        """Requests grouped by image, some images at a time; without reuse every request is a group of its own."""
        groups: dict[str, list[Request]] = {}
        for i, request in enumerate(requests):
            groups.setdefault(request.media_key if reuse else f"{i}", []).append(request)
        listed = list(groups.values())
        for start in range(0, len(listed), IMAGES_AT_ONCE):
            yield listed[start : start + IMAGES_AT_ONCE]

    def _serve(
        self,
        chunk: list[list[Request]],
        on_answer: Callable[[Request, Answer], None],
        batch_size: int,
        reuse: bool,
    ) -> None:
        by_shape: dict[tuple[int, ...], list[tuple[list[Request], torch.Tensor]]] = {}
        for group in chunk:
            pixels = self.vlm.processor.pixels(group[0].media())
            by_shape.setdefault(tuple(pixels.shape), []).append((group, pixels))
        for members in by_shape.values():
            self._serve_shape(members, on_answer, batch_size, reuse)

    def _serve_shape(
        self,
        members: list[tuple[list[Request], torch.Tensor]],
        on_answer: Callable[[Request, Answer], None],
        batch_size: int,
        reuse: bool,
    ) -> None:
        """Images of equal shape: encode together, then their questions in batches of similar length."""
        engine, vlm = self.engine, self.vlm
        pixels = torch.stack([p for _, p in members]).to(vlm.device, vlm.dtype)
        self.clock.read_ms()
        towered = engine.encode(pixels, [group[0].media_key for group, _ in members])
        questions = [
            (row, request, vlm.processor.prompt(request.question))
            for row, (group, _) in enumerate(members)
            for request in group
        ]
        head = questions[0][2].before
        text_bound = engine.points.fuse is not None and engine.points.fuse.text
        shared = None
        if not text_bound:
            visual = engine.fuse(towered)
            shared = prefix(engine, visual, head) if reuse else visual
        common = {name: ms / len(questions) for name, ms in self.clock.read_ms().items()}
        questions.sort(key=lambda q: (len(q[2].after), q[1].max_new_tokens))
        for start in range(0, len(questions), batch_size):
            batch = questions[start : start + batch_size]
            rows, prompts = [q[0] for q in batch], [q[2] for q in batch]
            budget = max(q[1].max_new_tokens for q in batch)
            if shared is None:
                visual = self._fuse_with_text(towered, rows, prompts)
                generations = answer(engine, visual, range(len(rows)), prompts, budget)
            else:
                generations = answer(engine, shared, rows, prompts, budget)
            own = {name: ms / len(batch) for name, ms in self.clock.read_ms().items()}
            for (_, request, _), generation in zip(batch, generations, strict=True):
                on_answer(request, self._answer(request, generation, common, own))

    def _fuse_with_text(self, towered: Towered, rows: Sequence[int], prompts: Sequence[Prompt]) -> Visual:
        """Fusion for a method whose choice depends on the question."""
        width = max(len(p.after) for p in prompts)
        ids = torch.tensor([[*p.after, *[0] * (width - len(p.after))] for p in prompts], device=self.device)
        live = torch.tensor([len(p.after) for p in prompts], device=self.device)
        text = self.vlm.decoder.embed(ids) * (torch.arange(width, device=self.device) < live[:, None])[..., None]
        return self.engine.fuse(towered, rows, text)

    def _answer(
        self, request: Request, generation: Generation, common: Mapping[str, float], own: Mapping[str, float]
    ) -> Answer:
        ids = generation.ids[: request.max_new_tokens]
        text = self.vlm.processor.decode(ids)
        for stop in request.until:
            text = text.split(stop)[0] if stop else text
        latency = {name: common.get(name, 0.0) + own.get(name, 0.0) for name in {*common, *own}}
        stages = {"encode": sum(ms for name, ms in latency.items() if name.startswith("encode."))}
        stages |= {name: latency.get(name, 0.0) for name in ("fuse", "prune", "prefill", "decode")}
        stages["total"] = sum(latency.values())
        trace = generation.trace
        return Answer(text, trace.as_record(), stages, trace.flops, trace.notes)
