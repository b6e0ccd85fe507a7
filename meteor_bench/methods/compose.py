"""Composition: several methods one after another, each in stages of its own, as in ``evoprune+fastv``.

Every part decides at its own points with its own hyperparameters. The last part meets the budget; after part i,
``keep^(s_1 + … + s_i)`` of the tokens are left, s the parts' shares of the whole reduction (on a logarithmic scale,
equal by default: the square root of `keep` after the first part of two).

Parameters are written ``part.name`` (``evoprune.schedule``), or as one table per part in YAML; each part also has
`share`, of which only the proportions count.

Deviations: no paper; published combinations choose their counts by hand. The position policy and whether the budget
is met by every sample are the last part's. An encode-stage part's target is spread over a clip's frames, rounded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from torch import Tensor

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.errors import ConfigError
from meteor_bench.core.pruner import (
    Decision,
    DecodeView,
    EncodeView,
    FuseView,
    Points,
    Pruner,
    Stage,
    View,
)
from meteor_bench.core.tokens import Grid
from meteor_bench.methods.shared.helpers import earlier_target

if TYPE_CHECKING:
    from meteor_bench.core.model import VLM

__all__ = ["Composed", "Part", "compose"]

V = TypeVar("V", bound=View)
ORDER = ("input", "encode", "fuse", "decode")
STAGES: tuple[Stage, ...] = ("encode", "fuse", "decode")


class Part(NamedTuple):
    """A method of a composition under its name in the table, with its share of the reduction."""

    name: str
    pruner: Pruner
    share: float = 1.0


@dataclass(frozen=True)
class Composed(Pruner):
    """Several methods in the order of their stages.

    Attributes:
        parts: in the order of their stages; made by `compose`.
        owners: stage -> index of the part that decides there, known once a model is (`bind`).
    """

    parts: tuple[Part, ...] = ()
    owners: tuple[tuple[str, int], ...] = ()

    @property
    def positions(self) -> Literal["keep", "renumber"]:  # type: ignore[override]
        """The last part's policy."""
        return self.parts[-1].pruner.positions

    @property
    def ordered(self) -> bool:  # type: ignore[override]
        """Whether no part moves tokens."""
        return all(part.pruner.ordered for part in self.parts)

    @property
    def stepwise(self) -> bool:  # type: ignore[override]
        """Whether any part is calibrated point by point."""
        return any(part.pruner.stepwise for part in self.parts)

    @property
    def prefers(self) -> Literal["independent", "shared", "narrowed"] | None:  # type: ignore[override]
        """The fusion that the first part with a preference was made for."""
        return next((part.pruner.prefers for part in self.parts if part.pruner.prefers is not None), None)

    @property
    def exact(self) -> bool:
        """Whether the last part is."""
        return self.parts[-1].pruner.exact

    @property
    def draws(self) -> bool:
        """Whether any part does."""
        return any(part.pruner.draws for part in self.parts)

    @property
    def calibration(self) -> tuple[Stage, ...]:
        """What any part must measure."""
        return tuple(stage for stage in STAGES if any(stage in part.pruner.calibration for part in self.parts))

    def substitutes(self, vlm: VLM) -> tuple[str, ...]:
        """All parts'."""
        return tuple(dict.fromkeys(said for part in self.parts for said in part.pruner.substitutes(vlm)))

    def parameters(self) -> dict[str, Any]:
        """Every part's share and hyperparameters as ``part.name``."""
        out: dict[str, Any] = {}
        for part in self.parts:
            out[f"{part.name}.share"] = part.share
            out |= {f"{part.name}.{name}": value for name, value in part.pruner.parameters().items()}
        return out

    def power(self, index: int) -> float:
        """Exponent of `keep` after a part: 1 after the last."""
        if index == len(self.parts) - 1:
            return 1.0
        shares = [part.share for part in self.parts]
        return sum(shares[: index + 1]) / sum(shares)

    def bind(self, vlm: VLM, budget: TokenBudget) -> Composed:
        """The composition with its parts assigned to the stages that they use on this model.

        Raises:
            ConfigError: two parts use the same stage, or a later part an earlier one.
        """
        bound = tuple(
            part._replace(pruner=part.pruner.bind(vlm, self._budget(i, budget))) for i, part in enumerate(self.parts)
        )
        used: list[tuple[str, list[str]]] = []
        for i, part in enumerate(bound):
            points = part.pruner.points(vlm, self._budget(i, budget))
            asked = {"encode": bool(points.encode), "fuse": points.fuse is not None, "decode": bool(points.decode)}
            asked["input"] = _shrinks(part.pruner)
            used.append((part.name, [stage for stage in ORDER if asked[stage]]))
        _check_order(used)
        owners = tuple((stage, i) for i, (_, stages) in enumerate(used) for stage in stages)
        return replace(self, parts=bound, owners=owners)

    def points(self, vlm: VLM, budget: TokenBudget) -> Points:
        """All parts' points."""
        found = [part.pruner.points(vlm, self._budget(i, budget)) for i, part in enumerate(self.parts)]
        return Points(
            encode=tuple(point for points in found for point in points.encode),
            fuse=next((points.fuse for points in found if points.fuse is not None), None),
            decode=tuple(point for points in found for point in points.decode),
            proportional=any(points.proportional for points in found),
            clips=any(points.clips for points in found),
        )

    def input_grid(self, vlm: VLM, budget: TokenBudget, grid: Grid) -> Grid | None:
        """The grid of the part that shrinks images, if there is one."""
        index = self._owner("input")
        if index is None:
            return None
        return self.parts[index].pruner.input_grid(vlm, self._budget(index, budget), grid)

    def encode(self, views: Mapping[str, EncodeView]) -> Mapping[str, Decision]:
        """Ask the encode stage's part."""
        index = self._owner("encode")
        if index is None:
            return {}
        return self.parts[index].pruner.encode({name: self._shown(view, index) for name, view in views.items()})

    def fuse(self, views: Mapping[str, FuseView]) -> Mapping[str, Decision]:
        """Ask the fuse stage's part."""
        index = self._owner("fuse")
        if index is None:
            return {}
        return self.parts[index].pruner.fuse({name: self._shown(view, index) for name, view in views.items()})

    def decode(self, view: DecodeView) -> Decision:
        """Ask the decode stage's part."""
        index = self._owner("decode")
        if index is None:
            return Decision(keep=view.tokens.visual)
        return self.parts[index].pruner.decode(self._shown(view, index))

    def observe_encode(self, view: EncodeView) -> Mapping[str, Tensor]:
        """What the encode stage's part measures."""
        index = self._owner("encode")
        return {} if index is None else self.parts[index].pruner.observe_encode(self._shown(view, index))

    def observe_fuse(self, view: FuseView) -> Mapping[str, Tensor]:
        """What the fuse stage's part measures."""
        index = self._owner("fuse")
        return {} if index is None else self.parts[index].pruner.observe_fuse(self._shown(view, index))

    def observe_decode(self, view: DecodeView) -> Mapping[str, Tensor]:
        """What the decode stage's part measures."""
        index = self._owner("decode")
        return {} if index is None else self.parts[index].pruner.observe_decode(self._shown(view, index))

    def fit(self, stage: Stage, observed: Mapping[str, Tensor]) -> Mapping[str, Any]:
        """The facts of the part whose stage it is."""
        index = self._owner(stage)
        return {} if index is None else self.parts[index].pruner.fit(stage, observed)

    def _owner(self, stage: str) -> int | None:
        return dict(self.owners).get(stage)

    def _budget(self, index: int, budget: TokenBudget) -> TokenBudget:
        power = self.power(index)
        return budget if power == 1.0 else TokenBudget(budget.keep**power)

    def _shown(self, view: V, index: int) -> V:
        """The view with the part's own target."""
        power = self.power(index)
        if power == 1.0:
            return view
        return view.changed(target=earlier_target(view, power), keep=view.keep**power)


def compose(parts: Sequence[Part]) -> Composed:
    """A composition; what its parts say of their stages is checked before any model is built.

    Raises:
        ConfigError: two parts in one stage, or parts in the wrong order.
    """
    declared = [(part.name, list(getattr(part.pruner, "stages", part.pruner.fact.stages))) for part in parts]
    _check_order(declared)
    return Composed(parts=tuple(parts))


def _check_order(used: Sequence[tuple[str, Sequence[str]]]) -> None:
    """Each part's stages must come after all stages of the parts before it."""
    taken: dict[str, str] = {}
    for name, given in used:
        stages = [stage for stage in ORDER if stage in given]
        for stage in stages:
            if stage in taken:
                raise ConfigError(
                    f"'{taken[stage]}' and '{name}' both prune in the {stage} stage; "
                    "a composition has one part per stage"
                )
        late = max(taken, key=ORDER.index, default=None)
        if late is not None and stages and ORDER.index(stages[0]) < ORDER.index(late):
            raise ConfigError(
                f"'{taken[late]}' prunes in the {late} stage, after the {stages[0]} stage of '{name}'; "
                "name the parts in the order of their stages"
            )
        taken |= dict.fromkeys(stages, name)


def _shrinks(pruner: Pruner) -> bool:
    """Whether a method shrinks images before they are encoded."""
    return type(pruner).input_grid is not Pruner.input_grid
