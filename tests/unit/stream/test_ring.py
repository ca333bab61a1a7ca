"""The ring store against a dictionary."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.settings import Policy
from pipeline.stream.ring import FEW, NEVER, RingStore, merge

POLICIES: tuple[Policy, ...] = ("last", "first", "mean", "sum", "max")
# (row, step, value or None for an explicit null); whole numbers, so that sums are exact in any order
events = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 40), st.none() | st.integers(-8, 8).map(float)), max_size=60
)


def one_by_one(policy: Policy, seen: Sequence[float | None]) -> float | None:
    """Say what a (series, step) holds after these events, from the words of the policy."""
    values = [value for value in seen if value is not None]
    if policy == "last":
        return seen[-1] if seen else None
    if not values:
        return None
    return {"first": values[0], "mean": sum(values) / len(values), "sum": sum(values), "max": max(values)}[policy]


@pytest.mark.parametrize("policy", POLICIES)
@given(events=events, capacity=st.integers(1, 12))
def test_every_window_is_what_a_dictionary_would_hold(
    policy: Policy, events: list[tuple[int, int, float | None]], capacity: int
) -> None:
    ring = RingStore(capacity, policy)
    ring.add(["a", "b", "c"], np.array([1, 2, 3]))
    held: dict[tuple[int, int], list[float | None]] = {}
    newest = [NEVER] * 3
    for row, step, value in events:
        new = ring.put(
            np.array([row]),
            np.array([step]),
            np.array([0.0 if value is None else value]),
            np.array([value is not None]),
            np.array([int(value is not None)]),
        )
        assert new[0] == (step > newest[row])
        newest[row] = max(newest[row], step)
        if step > newest[row] - capacity:
            held.setdefault((row, step), []).append(value)
        for row_ in range(3):
            if newest[row_] == NEVER:
                continue
            got, observed = ring.windows(np.array([row_]), np.array([newest[row_]]), capacity)
            for i, at in enumerate(range(newest[row_] - capacity + 1, newest[row_] + 1)):
                expected = one_by_one(policy, held.get((row_, at), []))
                assert observed[0, i] == (expected is not None)
                assert got[0, i] == (expected or 0.0)


wide_events = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 40), *[st.none() | st.integers(-8, 8)] * 2))


@pytest.mark.parametrize("policy", POLICIES)
@given(events=wide_events, capacity=st.integers(1, 12))
def test_covariates_are_kept_each_as_a_value_would_be(
    policy: Policy, events: list[tuple[int, int, int | None, int | None]], capacity: int
) -> None:
    wide, alone = RingStore(capacity, policy, 2), RingStore(capacity, policy)
    for ring in (wide, alone):
        ring.add(["a", "b", "c"], np.array([1, 2, 3]))

    def cells(*numbers: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        seen = np.array([number is not None for number in numbers])
        return np.array([number or 0.0 for number in numbers]), seen, seen.astype(np.int64)

    for row, step, value, other in events:
        at = np.array([row]), np.array([step])
        past, seen, count = cells(value, other)
        wide.put(*at, *cells(value), past=(past[None], seen[None], count[None]))
        alone.put(*at, *cells(other))
    rows = np.flatnonzero(wide.newest > NEVER)
    past, seen = wide.past_windows(rows, wide.newest[rows], capacity)
    for column, ring in enumerate((wide, alone)):
        values, observed = ring.windows(rows, ring.newest[rows], capacity)
        assert past[:, :, column].tolist() == values.tolist()
        assert seen[:, :, column].tolist() == observed.tolist()


@pytest.mark.parametrize("length", [1, 7, 12])
def test_a_window_is_the_same_alone_and_among_many(length: int) -> None:
    random, capacity = np.random.default_rng(length), 12
    ring = RingStore(capacity, "last", 2)
    many = np.arange(FEW // length + 1)
    ring.add([str(row) for row in many], many + 1)
    for step in range(capacity + 5):
        rows = many[random.random(len(many)) < 0.7]
        value, past = random.standard_normal(len(rows)), random.standard_normal((len(rows), 2))
        seen, known = random.random(value.shape) < 0.8, random.random(past.shape) < 0.8
        counts = seen.astype(np.int64), known.astype(np.int64)
        ring.put(rows, np.full(len(rows), step), value, seen, counts[0], past=(past, known, counts[1]))
    rows = np.flatnonzero(ring.newest > NEVER)
    for cut in (ring.windows, ring.past_windows):
        values, observed = cut(rows, ring.newest[rows], length)
        for row in rows[::97]:
            alone = cut(np.array([row]), ring.newest[[row]], length)
            assert alone[0][0].tolist() == values[row].tolist()
            assert alone[1][0].tolist() == observed[row].tolist()
            assert alone[1].shape == (1, *observed.shape[1:])


def test_a_ring_of_covariates_that_is_given_none_says_so() -> None:
    ring = RingStore(4, "last", 1)
    ring.add(["a"], np.array([1]))
    with pytest.raises(AssertionError, match="was given none"):
        ring.put(np.array([0]), np.array([1]), np.array([1.0]), np.array([True]), np.array([1]))


def test_a_jump_over_the_whole_ring_forgets_everything() -> None:
    ring = RingStore(4, "last")
    ring.add(["a"], np.array([1]))
    one = (np.array([1.0]), np.array([True]), np.array([1]))
    for step in (0, 1, 2, 3, 10_000_000_000):
        ring.put(np.array([0]), np.array([step]), *one)
    _, observed = ring.windows(np.array([0]), np.array([10_000_000_000]), 4)
    assert observed.tolist() == [[False, False, False, True]]


def test_adding_series_keeps_what_is_there() -> None:
    ring = RingStore(4, "mean")
    for number in range(50):
        row = ring.add([f"s{number}"], np.array([number]))
        ring.put(row, np.array([number]), np.array([float(number)]), np.array([True]), np.array([1]))
    values, observed = ring.windows(np.arange(50), np.arange(50), 4)
    assert values[:, -1].tolist() == list(range(50))
    assert observed.sum() == 50
    assert ring.rows["s49"] == 49


puts = st.tuples(st.integers(0, 9), st.integers(0, 30), st.none() | st.integers(-8, 8).map(float))


@pytest.mark.parametrize("policy", POLICIES)
@given(actions=st.lists(puts | st.sets(st.integers(0, 9), min_size=1), max_size=60), capacity=st.integers(1, 8))
def test_what_is_not_evicted_is_what_it_was(policy: Policy, actions: list[object], capacity: int) -> None:
    ring, alone = RingStore(capacity, policy, 1), {name: RingStore(capacity, policy, 1) for name in "0123456789"}
    put_in: set[str] = set()
    for turn, action in enumerate(actions):
        ring.turn = turn
        if isinstance(action, set):
            gone = [str(number) for number in action if str(number) in ring.rows]
            ring.evict(np.array([ring.rows[name] for name in gone], np.int64))
            for name in gone:
                alone[name] = RingStore(capacity, policy, 1)
                put_in.discard(name)
        else:
            number, step, value = action  # type: ignore[misc]
            for store in (ring, alone[str(number)]):
                if str(number) not in store.rows:
                    store.add([str(number)], np.array([number]))
                seen = np.array([value is not None])
                cells = np.array([value or 0.0]), seen, seen.astype(np.int64)
                past = (2 * cells[0][None], seen[None], cells[2][None])
                store.put(np.array([store.rows[str(number)]]), np.array([step]), *cells, past=past)
            put_in.add(str(number))
            assert ring.touched[ring.rows[str(number)]] == turn
        assert set(ring.rows) == put_in and len(ring) == len(put_in) <= len(ring.series_id)
        assert sorted(ring.rows.values()) == list(range(len(ring)))
        for name, row in ring.rows.items():
            assert (ring.names[row], ring.series_id[row]) == (name, int(name))
            for one, other in ((ring, alone[name]),):
                at, there = np.array([row]), np.array([other.rows[name]])
                assert (one.newest[at], one.scored[at]) == (other.newest[there], other.scored[there])
                for cut in ("windows", "past_windows"):
                    found = getattr(one, cut)(at, one.newest[at], capacity)
                    expected = getattr(other, cut)(there, other.newest[there], capacity)
                    assert all((a == b).all() for a, b in zip(found, expected, strict=True))


def test_memory_goes_back_when_most_series_were_evicted() -> None:
    ring = RingStore(24, "mean", 2)
    empty = ring.nbytes
    ring.add([f"s{number}" for number in range(10_000)], np.arange(10_000))
    full = ring.nbytes
    ring.evict(np.arange(100, 10_000))
    assert len(ring) == 100
    assert ring.nbytes - empty < (full - empty) / 50


@given(
    st.sampled_from(POLICIES),
    st.lists(st.none() | st.integers(-8, 8).map(float), min_size=1, max_size=6),
    st.integers(0, 6),
)
def test_merging_in_two_parts_is_merging_at_once(policy: Policy, seen: list[float | None], cut: int) -> None:
    def state(part: Sequence[float | None]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        value = one_by_one(policy, part)
        count = sum(one is not None for one in part)
        return np.array([value or 0.0]), np.array([value is not None]), np.array([count])

    left, right = seen[:cut], seen[cut:]
    if not right:
        return
    value, observed, count = merge(policy, state(left), state(right))
    expected_value, expected_observed, expected_count = state(seen)
    assert observed == expected_observed
    assert count == expected_count
    if observed[0]:
        np.testing.assert_allclose(value, expected_value)
