"""What a pass is sent: kept once, given again, refused where it would be something else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from meteor_bench.core import host
from meteor_bench.core.host import made_once, on_device, upload
from meteor_bench.core.sent import Sent, Stale, drew

CPU, META = torch.device("cpu"), torch.device("meta")  # another device that every machine has


def test_a_repeated_pass_is_given_what_was_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    sends: list[Tensor] = []
    real = host._send
    monkeypatch.setattr(host, "_send", lambda values, device: sends.append(values) or real(values, device))
    kept = Sent()
    with kept.recording():
        first = upload([1, 2], CPU), on_device(torch.ones(3), META), upload([5], CPU, own="ids")
    assert len(sends) == len(kept.tables) == 3 and first[1].device == META
    kept.write("ids", torch.tensor([7]))
    for _ in range(2):
        with kept.repeating():
            again = upload([1, 2], CPU), on_device(torch.ones(3), META), upload([6], CPU, own="ids")
        assert all(one is other for one, other in zip(first, again, strict=True))
    assert again[2].tolist() == [7] and len(sends) == 3
    assert upload([1, 2], CPU) is not first[0] and len(sends) == 4  # outside, all is as ever


def test_what_the_caller_does_to_its_values_later_is_not_what_was_sent() -> None:
    kept, values = Sent(), torch.zeros(2)
    with kept.recording():
        on_device(values, META)
    values += 1
    with pytest.raises(Stale), kept.repeating():
        on_device(values, META)


@pytest.mark.parametrize("again", [[[1, 3]], [[1.0, 2.0]], [[1, 2, 3]], [], [[1, 2], [1, 2]]], ids=str)
def test_other_tables_are_stale(again: list[list[int]]) -> None:
    kept = Sent()
    with kept.recording():
        upload([1, 2], CPU)
    with pytest.raises(Stale), kept.repeating():
        [upload(values, CPU) for values in again]
    with kept.repeating():
        upload([1, 2], CPU)


def test_a_batch_s_own_is_taken_for_nothing_else() -> None:
    kept = Sent()
    with kept.recording():
        upload([1], CPU, own="ids")
    with pytest.raises(Stale), kept.repeating():
        upload([1], CPU)


def test_constants_and_draws_are_noted() -> None:
    @made_once(1)
    def table(count: int) -> Tensor:
        return torch.arange(count)

    early = table(3)
    kept = Sent()
    with kept.recording():
        assert table(3) is early and table(4) is not early
        assert not kept.drawn
        drew()
    assert kept.drawn and kept.constants[0] is early and len(kept.constants) == 2
    assert table(3) is not early  # the cache has lost it, and whoever replays has not
