"""Which questions are answered together: all of them once, alike in length, rows of a batch equally full."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meteor_bench.core.model import Prompt
from meteor_bench.core.request import Request
from meteor_bench.engine.batches import Question, batches, most_at_once


def questions(lengths: Sequence[Sequence[int]]) -> list[Question]:
    """``lengths[image][i]`` tokens in the image's i-th question."""
    return [
        Question(row, Request(f"{row}/{i}", f"m{row}", list, "", 4), Prompt((1,), (2,) * length))
        for row, own in enumerate(lengths)
        for i, length in enumerate(own)
    ]


images = st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=40), min_size=1, max_size=10)


@given(images, st.integers(1, 70), st.sampled_from([1, 2, 4, 8, 16]))
def test_every_question_once_and_neighbours_share_an_image(lengths: list[list[int]], size: int, most: int) -> None:
    asked = questions(lengths)
    most = min(most, 1 << (size.bit_length() - 1))
    made = list(batches(asked, size, most))
    assert Counter(id(q) for batch in made for q in batch.questions) == Counter(map(id, asked))
    for batch in made:
        assert len(batch.questions) <= size and len(batch.questions) % batch.share == 0 and batch.share <= most
        for start in range(0, len(batch.questions), batch.share):
            assert len(set(batch.rows[start : start + batch.share])) == 1


def test_as_many_as_possible_share_a_row_and_what_is_left_goes_in_smaller_ones() -> None:
    made = list(batches(questions([[5] * 20, [5] * 3]), 64, 8))
    assert [(batch.share, len(batch.questions)) for batch in made] == [(1, 1), (2, 2), (4, 4), (8, 16)]


def test_without_sharing_batches_are_full_and_sorted() -> None:
    made = list(batches(questions([[9, 3], [1, 7], [5]]), 2))
    assert [[q.length[0] for q in batch.questions] for batch in made] == [[1, 3], [5, 7], [9]]
    assert [batch.share for batch in made] == [1, 1, 1]


@pytest.mark.parametrize(
    ("width", "longest", "size", "most"),
    [(257, 15, 64, 16), (257, 17, 64, 8), (257, 15, 8, 8), (257, 15, 3, 2), (0, 15, 64, 1), (100, 300, 64, 1)],
)
def test_questions_of_a_row_take_no_more_room_than_their_image(width: int, longest: int, size: int, most: int) -> None:
    assert most_at_once(questions([[1, longest]]), width, size) == most
