import torch

from meteor_bench.engine.kv_cache import LayerCache


def test_appending_in_pieces_equals_concatenation() -> None:
    torch.manual_seed(0)
    for slack in (0, 3, 50):
        cache = LayerCache(2, slack)
        parts = [torch.randn(2, 3, n, 4) for n in (5, 1, 1, 1, 1, 2)]
        for i, part in enumerate(parts):
            keys, values = cache.update(part, -part, 1)
            whole = torch.cat(parts[: i + 1], 2)
            assert torch.equal(keys, whole) and torch.equal(values, -whole)
        assert cache.width(1) == 11 and cache.width(0) == 0


def test_selected_rows_grow_apart_from_their_source() -> None:
    cache = LayerCache(3)
    first = torch.randn(2, 1, 4, 2)
    cache.update(first, first, 0)
    picked = cache.select([torch.tensor([1, 1, 0])], [2], 5)
    new = torch.randn(3, 1, 1, 2)
    for more in range(1, 6):  # within its room and beyond
        keys, _ = picked.update(new, new, 0)
        assert torch.equal(keys, torch.cat([first[[1, 1, 0]], *[new] * more], 2))
        assert picked.width(0) == 4 + more
    assert cache.width(0) == 4 and picked.width(1) == 0
    assert torch.equal(cache.update(new[:2], new[:2], 0)[0], torch.cat([first, new[:2]], 2))
