"""The blocks of an encoder up to a point, and what is read of their attention on the way."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from meteor_bench.core.attention_probe import Probe
from meteor_bench.core.errors import UnsupportedError
from meteor_bench.core.host import upload
from meteor_bench.core.pruner import EncodePoint
from meteor_bench.core.tokens import Tokens
from meteor_bench.engine.engine import Engine
from meteor_bench.engine.tower_run import Ran, TowerRun

__all__ = ["advance", "attention_read", "close_block", "key_mask"]


def advance(
    engine: Engine, run: TowerRun, stop: int, point: EncodePoint | None = None, notes: set[str] | None = None
) -> Probe | None:
    """Run blocks up to ``stop``; at an `inside` point the last one's MLP is left for `close_block`."""
    inside = point is not None and point.inside
    if inside and not run.tower.halves:
        raise UnsupportedError(
            f"{type(engine.pruner).__name__} works inside encoder blocks; tower '{run.tower.name}' of model "
            f"'{engine.vlm.name}' has none that can be opened"
        )
    wanted = point is not None and run.tower.depth > 0 and (point.attention is not None or _beside(point))
    if wanted and point is not None and (point.values or point.logits) and not run.tower.opens:
        raise UnsupportedError(
            f"{type(engine.pruner).__name__} reads the values or logits of encoder attention; tower '{run.tower.name}' "
            f"of model '{engine.vlm.name}' does not give them"
        )
    if point is not None and point.attention is not None and run.tower.depth == 0 and notes is not None:
        notes.add(f"tower '{run.tower.name}' has no attention: the method's substitute takes its place")
    read_at = stop - 1
    if point is not None:
        read_at = point.attention_block.get(run.tower.name, stop - 1)
    if wanted and read_at < run.done:
        raise UnsupportedError(f"attention of block {read_at} of '{run.tower.name}' was asked for too late")
    rows = run.rows
    mask = key_mask(rows, engine.points.proportional and run.tower.weighable)
    lengths = _lengths(run)
    where = run.tower.where(rows) if stop > run.done else None
    probe: Probe | None = None
    x = rows.x
    for block in range(run.done, stop):
        reading = None
        if wanted and point is not None and block == read_at:
            reading = probe = _probe(engine, run, rows, point, notes if notes is not None else set())
        x = run.tower.attend(block, x, mask, reading, where)
        if inside and block == stop - 1:
            break
        x = run.tower.feed(block, x)
        _tap(run, block, x)
    pairs = [_of_all(run, run.tower.pairs(block, where)) for block in range(run.done, stop)]
    if pairs and pairs[0] is None and not inside:  # all alike
        run.blocks.append(Ran(len(pairs), lengths, lengths, None))
    else:  # at an inside point the last one's MLP half is corrected by close_block
        run.blocks += [Ran(1, lengths, lengths, own) for own in pairs]
    run.ran(x)
    run.done = stop
    return probe


def close_block(run: TowerRun) -> None:
    """The MLP half of an interrupted block, on what survived."""
    x = run.tower.feed(run.done - 1, run.rows.x)
    run.ran(x)
    _tap(run, run.done - 1, x)
    run.blocks[-1] = run.blocks[-1]._replace(mlp=_lengths(run))


def _tap(run: TowerRun, block: int, x: Tensor) -> None:
    """Put what leaves a block, as its `rows`, into the tokens' `deep` where it is tapped."""
    if block in run.tower.taps:
        x = run.joined(x)
        deep = x if run.tokens.deep is None else torch.cat([run.tokens.deep, x], 2)
        run.tokens = run.tokens.changed(deep=deep)


def _of_all(run: TowerRun, pairs: Tensor | None) -> Tensor | None:
    """[R] of all frames, nothing for those that are no row of the run."""
    if pairs is None or run.apart is None:
        return pairs
    index = upload(run.apart.rows, pairs.device)
    return pairs.new_zeros(len(run.lengths)).index_copy_(0, index, pairs)


def _beside(point: EncodePoint) -> bool:
    """Whether more than attention is wanted of a block."""
    return point.keys or point.values or point.logits


def _lengths(run: TowerRun) -> list[int]:
    return [row.all for row in run.lengths]


def _probe(engine: Engine, run: TowerRun, tokens: Tokens, point: EncodePoint, notes: set[str]) -> Probe:
    made = partial(
        Probe,
        want_keys=point.keys,
        want_values=point.values,
        want_logits=point.logits,
        single_head=point.single_head,
        clock=engine.clock,
    )
    if point.attention is None:
        return made(mode="keys")
    if point.attention == "cls" and run.tower.has_cls:
        rows = tokens.special.to(torch.uint8).argmax(1, keepdim=True)  # [R, 1]
        return made(mode="rows", rows=rows)
    if point.attention == "cls":
        notes.add(f"tower '{run.tower.name}' has no class token: mean attention received takes its attention's place")
    return made(mode="received", queries=tokens.valid if tokens.padded else None, peak=point.attention == "peak")


def attention_read(run: TowerRun, probe: Probe | None) -> Tensor | None:
    """[R, N]: class rows averaged over heads, or what the probe already averaged."""
    if probe is None or probe.attention is None:
        return None
    return run.joined(probe.attention if probe.mode == "received" else probe.attention.mean(1)[:, 0])


def key_mask(tokens: Tokens, proportional: bool) -> Tensor | None:
    """[R, 1, N, N] bool, valid keys; padding sees itself so that no row is empty. None when nothing is padded.

    With ``proportional`` and merged tokens, what is added to the logits instead: log(size), -inf for padding.
    """
    n = tokens.x.shape[1]
    seen = None
    if tokens.padded:
        itself = torch.eye(n, dtype=torch.bool, device=tokens.x.device)
        seen = (tokens.valid[:, None, :] | itself)[:, None]
    if not proportional or not tokens.merged:
        return seen
    bias = tokens.size.clamp(min=1).log().to(tokens.x.dtype)[:, None, None, :].expand(-1, -1, n, -1)
    return bias if seen is None else bias.masked_fill(~seen, -torch.inf)
