"""Publishing a turn in several transactions: each moves K as far as its messages reach."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.records import DeadLetter, Forecasts, no_forecasts
from pipeline.stream.turn import pieces


def forecasts_at(places: list[tuple[int, int]]) -> Forecasts:
    count = len(places)
    ones = np.ones(count, np.int64)
    return Forecasts(
        series=[f"{at}/{offset}" for at, offset in places],
        series_id=ones,
        origin=ones,
        target_times=np.ones((count, 1), np.int64),
        quantiles=np.ones((count, 1, 13)),
        model_version=ones,
        calibration=ones,
        quality=["ok"] * count,
        issued_at=ones,
        partition=np.array([at for at, _ in places], np.int64),
        offset=np.array([offset for _, offset in places], np.int64),
    )


@given(
    st.sets(st.tuples(st.integers(0, 3), st.integers(0, 20)), max_size=30),
    st.sets(st.tuples(st.integers(0, 3), st.integers(21, 30)), max_size=6),
    st.integers(1, 9),
)
def test_pieces_hold_every_message_once_and_never_reach_past_one(
    places: set[tuple[int, int]], bad: set[tuple[int, int]], most: int
) -> None:
    forecasts = forecasts_at(sorted(places))
    letters = [DeadLetter(at, offset, "r", None, None) for at, offset in bad]
    goal = dict.fromkeys({at for at, _ in places | bad} | {0}, 40)
    reached: dict[int, int] = {}
    seen: list[tuple[int, int]] = []
    for some, some_letters, offsets in pieces(forecasts, letters, goal, most):
        seen += zip(some.partition.tolist(), some.offset.tolist(), strict=True)
        seen += [(letter.partition, letter.offset) for letter in some_letters]
        for at, offset in offsets.items():
            assert offset > reached.get(at, 0), "K only moves forward"
            reached[at] = offset
        assert len(some) + len(some_letters) <= most
        left = (places | bad) - set(seen)
        assert all(offset >= reached.get(at, 0) for at, offset in left), "nothing unpublished lies below K"
        assert all(offset < reached[at] for at, offset in seen), "everything published lies below K"
    assert sorted(seen) == sorted(places | bad)
    assert reached == goal


def test_a_turn_without_messages_still_moves_the_offsets() -> None:
    assert [offsets for _, _, offsets in pieces(no_forecasts(3), [], {2: 7}, 10)] == [{2: 7}]


def test_nothing_to_move_is_no_transaction() -> None:
    assert list(pieces(no_forecasts(3), [], {}, 10)) == []
