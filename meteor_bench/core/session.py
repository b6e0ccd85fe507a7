"""A model under a method, ready to answer requests; the one thing that evaluation and latency runs talk to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.clock import Clock
from meteor_bench.core.encode import Towered, encode
from meteor_bench.core.engine import Engine
from meteor_bench.core.fuse import Visual, embed_questions, fuse
from meteor_bench.core.generate import Generation, Likelihood, answer, score
from meteor_bench.core.prefill import Prefix, prefix
from meteor_bench.core.pruner import Pruner
from meteor_bench.errors import UnsupportedError
from meteor_bench.models.base import VLM, Look, Prompt
from meteor_bench.models.processing import Clip

__all__ = ["Answer", "Request", "Session"]

IMAGES_AT_ONCE = 16
SHORT = 4  # frames of a clip that is treated as an image is; longer ones are in memory alone


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


@dataclass(frozen=True)
class _Question:
    row: int
    request: Request
    prompt: Prompt


@dataclass(frozen=True)
class _Images:
    """Some images after encoding: their questions, and what those share (None: fusion depends on the question)."""

    questions: list[_Question]
    towered: Towered
    shared: Visual | Prefix | None


def _batches(questions: list[_Question], size: int) -> Iterator[list[_Question]]:
    for start in range(0, len(questions), size):
        yield questions[start : start + size]


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

    @property
    def frames(self) -> int:
        """How many the model takes of a video, where the user does not say."""
        return self.vlm.processor.frames

    @torch.inference_mode()
    def answer(
        self,
        requests: Sequence[Request],
        on_answer: Callable[[Request, Answer], None],
        batch_size: int = 64,
        reuse: bool = True,
    ) -> None:
        """Answer all requests, in an order of our own; ``on_answer`` is called as soon as each is known.

        Args:
            batch_size: questions at once.
            reuse: encode each distinct image once and extend its cached prefix by each question. The answers are
                the same without.
        """
        for chunk in self._chunks(requests, reuse):
            for members in self._by_shape(chunk):
                self._answer_images(members, on_answer, batch_size, reuse)
                members.clear()  # before the next video is decoded

    @torch.inference_mode()
    def loglikelihood(
        self, requests: Sequence[Request], continuations: Sequence[str], batch_size: int = 64
    ) -> list[Likelihood]:
        """How likely each continuation is after its request, in the order given; images are shared.

        Raises:
            UnsupportedError: an empty continuation.
        """
        wanted: dict[int, tuple[int, ...]] = {}
        for request, text in zip(requests, continuations, strict=True):
            wanted[id(request)] = self.vlm.processor.continuation(text)
            if not wanted[id(request)]:
                raise UnsupportedError(f"request {request.key} asks for the likelihood of an empty answer")
        found: dict[int, Likelihood] = {}
        for chunk in self._chunks(requests, reuse=True):
            for members in self._by_shape(chunk):
                images = self._look(members, reuse=True)
                for batch in _batches(images.questions, batch_size):
                    shared, rows, prompts = self._shared_for(images, batch)
                    ids = [wanted[id(q.request)] for q in batch]
                    scores = score(self.engine, shared, rows, prompts, ids)
                    found |= {id(q.request): value for q, value in zip(batch, scores, strict=True)}
        return [found[id(request)] for request in requests]

    def _chunks(self, requests: Sequence[Request], reuse: bool) -> Iterator[list[list[Request]]]:
        """Requests grouped by image, some images at a time; without reuse every request is a group of its own."""
        groups: dict[str, list[Request]] = {}
        for i, request in enumerate(requests):
            groups.setdefault(request.media_key if reuse else f"{i}", []).append(request)
        listed = list(groups.values())
        for start in range(0, len(listed), IMAGES_AT_ONCE):
            yield listed[start : start + IMAGES_AT_ONCE]

    def _by_shape(self, chunk: list[list[Request]]) -> Iterator[list[tuple[list[Request], Look]]]:
        """Decode the chunk's images; those of equal shape together, each long video alone, when it is its turn."""
        shapes: dict[tuple[object, ...], list[tuple[list[Request], Look]]] = {}
        for group in chunk:
            media = group[0].media()
            look = self.vlm.processor.look(media)
            if isinstance(media, Clip) and len(media) > SHORT:
                alone = [(group, look)]
                del media, look
                yield alone
                continue
            shapes.setdefault((look.pixels.shape, look.scene), []).append((group, look))
        yield from shapes.values()

    def _look(self, members: list[tuple[list[Request], Look]], reuse: bool) -> _Images:
        """Encode images of equal shape and run what their questions share."""
        engine, vlm = self.engine, self.vlm
        pixels = torch.stack([look.pixels for _, look in members]).to(vlm.device, vlm.dtype)
        towered = encode(engine, pixels, [group[0].media_key for group, _ in members], members[0][1].scene)
        questions = [
            _Question(row, request, vlm.processor.prompt(request.question))
            for row, (group, _) in enumerate(members)
            for request in group
        ]
        # Equal lengths side by side: less padding in a batch.
        questions.sort(key=lambda q: (len(q.prompt.after), q.request.max_new_tokens))
        if engine.points.fuse is not None and engine.points.fuse.text:
            return _Images(questions, towered, None)
        visual = fuse(engine, towered)
        shared = prefix(engine, visual, questions[0].prompt.before) if reuse else visual
        return _Images(questions, towered, shared)

    def _shared_for(
        self, images: _Images, batch: Sequence[_Question]
    ) -> tuple[Visual | Prefix, Sequence[int], list[Prompt]]:
        """What a batch of questions extends, the row of each in it, and the prompts."""
        prompts = [q.prompt for q in batch]
        if images.shared is not None:
            return images.shared, [q.row for q in batch], prompts
        visual = self._fuse_with_text(images.towered, [q.row for q in batch], prompts)
        return visual, range(len(batch)), prompts

    def _answer_images(
        self,
        members: list[tuple[list[Request], Look]],
        on_answer: Callable[[Request, Answer], None],
        batch_size: int,
        reuse: bool,
    ) -> None:
        """Answer all questions about some images of equal shape."""
        self.clock.read_ms()
        images = self._look(members, reuse)
        common = {name: ms / len(images.questions) for name, ms in self.clock.read_ms().items()}
        for batch in _batches(images.questions, batch_size):
            shared, rows, prompts = self._shared_for(images, batch)
            longest = max(q.request.max_new_tokens for q in batch)
            generations = answer(self.engine, shared, rows, prompts, longest)
            own = {name: ms / len(batch) for name, ms in self.clock.read_ms().items()}
            for question, generation in zip(batch, generations, strict=True):
                on_answer(question.request, self._answer(question.request, generation, common, own))

    def _fuse_with_text(self, towered: Towered, rows: Sequence[int], prompts: Sequence[Prompt]) -> Visual:
        """Fusion for a method whose choice depends on the question."""
        return fuse(self.engine, towered, rows, embed_questions(self.engine, prompts))

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
