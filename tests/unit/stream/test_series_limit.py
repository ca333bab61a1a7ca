"""A flood of new series takes what the bucket holds; known series go on, and every message is stored once."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.records import Events, Messages
from pipeline.stream.series_limit import MINUTE, Bucket, SeriesLimit, refill, spend
from tests.fakes import MemoryStore, MemoryTopics
from tests.unit.stream.test_protocol import EVERY, POINTS, CrashAt, CrashError
from tests.unit.workers import event, run_dry, worker

NOW = 1_800_000_000_000_000


def run_of(*names: str, partition: int = 0, start: int = 5) -> tuple[Messages, Events]:
    """A run of messages as it came and as it was decoded."""
    count = len(names)
    offsets = np.arange(start, start + 2 * count, 2)  # with gaps, as compaction and transactions leave them
    raw = [name.encode() for name in names]
    decoded = Events(
        np.full(count, partition),
        list(names),
        np.zeros(count, np.int64),
        np.arange(float(count)),
        np.ones(count, np.bool_),
        offsets,
        np.empty((count, 0)),
    )
    return Messages(partition, offsets, raw, raw, start + 2 * count), decoded


def admit(
    series_limit: SeriesLimit, *runs: tuple[Messages, Events], held: tuple[str, ...] = (), now: int = NOW
) -> object:
    messages, decoded = zip(*runs, strict=True)
    kept, letters = series_limit.admit(messages, decoded, {run.partition: held for run in messages}, (), now)
    return [(list(run.series), run.offset.tolist()) for run in kept], [(x.partition, x.offset) for x in letters]


def test_new_series_beyond_the_limit_become_dead_letters_in_the_order_they_came() -> None:
    kept, letters = SeriesLimit(2, lambda _: set()).admit(
        *zip(run_of("a", "b", "c", "a", "c"), strict=True), {0: ()}, (), NOW
    )
    assert kept[0].series == ["a", "b", "a"]
    assert kept[0].value.tolist() == [0.0, 1.0, 3.0]
    assert [(x.offset, x.key, x.value) for x in letters] == [(9, b"c", b"c"), (13, b"c", b"c")]
    assert "input.max_new_series" in letters[0].reason and "beyond 2 in a minute" in letters[0].reason


def test_a_message_with_one_refused_series_is_one_letter_whole() -> None:
    run, decoded = run_of("a", "b", "c", "a", "d")
    decoded = replace(decoded, offset=np.array([5, 5, 7, 7, 9]))  # a and b, c and a, d
    run = replace(run, offsets=np.array([5, 7, 9]))
    kept, letters = SeriesLimit(3, lambda _: {"d"}).admit([run], [decoded], {0: ()}, (), NOW)
    assert (kept[0].series, letters) == (["a", "b", "c", "a", "d"], [])
    kept, letters = SeriesLimit(2, lambda _: {"d"}).admit([run], [decoded], {0: ()}, (), NOW)
    assert kept[0].series == ["a", "b", "d"]
    assert [letter.offset for letter in letters] == [7]
    kept, letters = SeriesLimit(1, lambda _: {"d"}).admit([run], [decoded], {0: ()}, (), NOW)
    assert kept[0].series == ["d"]
    assert [letter.offset for letter in letters] == [5, 7]


def test_series_in_the_ring_or_in_sql_take_no_token() -> None:
    series_limit = SeriesLimit(1, lambda _: {"stored"})
    assert admit(series_limit, run_of("ring", "stored", "new"), held=("ring",)) == (
        [(["ring", "stored", "new"], [5, 7, 9])],
        [],
    )
    assert admit(series_limit, run_of("ring", "newer", "stored"), held=("ring",)) == (
        [(["ring", "stored"], [5, 9])],
        [(0, 7)],
    )


def test_a_new_series_of_two_partitions_takes_one_token() -> None:
    runs = run_of("a", "b"), run_of("a", "c", partition=1)
    assert admit(SeriesLimit(2, lambda _: set()), *runs) == (
        [(["a", "b"], [5, 7]), (["a"], [5])],
        [(1, 7)],
    )


def test_the_bucket_fills_again_with_processing_time_and_holds_one_minute() -> None:
    series_limit = SeriesLimit(2, lambda _: set())
    names = iter("abcdefghijklmnop")

    def admitted(count: int, now: int) -> int:
        runs = [run_of(*(next(names) for _ in range(count)))]
        kept, _ = series_limit.admit(*zip(*runs, strict=True), {0: ()}, (), now)
        return len(kept[0])

    assert admitted(3, NOW) == 2
    assert admitted(1, NOW + MINUTE // 2 - 1) == 0
    assert admitted(1, NOW + MINUTE // 2) == 1
    assert admitted(1, NOW) == 0, "a clock that was set back gives nothing"
    assert admitted(3, NOW + 3600 * 1_000_000) == 2, "a quiet hour saves one minute's worth"


def test_beyond_the_total_a_new_series_is_a_dead_letter_and_known_ones_go_on() -> None:
    stored = {f"old-{number}" for number in range(4)}
    asked: list[int] = []

    def count() -> int:
        asked.append(len(stored))
        return len(stored)

    series_limit = SeriesLimit(None, lambda names: stored & set(names), total=6, count=count)
    runs, decoded = zip(run_of("a", "old-1", "b", "c", "a"), strict=True)
    kept, letters = series_limit.admit(runs, decoded, {0: ()}, (), NOW)
    assert kept[0].series == ["a", "old-1", "b", "a"]
    assert [letter.offset for letter in letters] == [11]
    assert "beyond 6 in all: raise input.max_series" in letters[0].reason
    assert letters[0].kind == "new series"
    stored.update("ab")
    assert admit(series_limit, run_of("d", "old-2"), now=NOW + 1) == ([(["old-2"], [7])], [(0, 5)])
    assert asked == [4], "it is counted once a minute"
    stored.difference_update({"old-1", "old-2"})
    assert admit(series_limit, run_of("d"), now=NOW + MINUTE) == ([(["d"], [5])], [])


def test_the_total_spends_no_tokens_of_the_minute() -> None:
    series_limit = SeriesLimit(2, lambda _: set(), total=1, count=lambda: 0)
    assert admit(series_limit, run_of("a", "b", "c")) == ([(["a"], [5])], [(0, 7), (0, 9)])
    unlimited = SeriesLimit(2, lambda _: set(), total=100, count=lambda: 0)
    kept, letters = unlimited.admit(*zip(run_of("a", "b", "c"), strict=True), {0: ()}, (), NOW)
    assert (kept[0].series, len(letters)) == (["a", "b"], 1)
    assert "beyond 2 in a minute: raise input.max_new_series" in letters[0].reason


@given(
    st.integers(1, 50),
    st.lists(st.tuples(st.integers(0, 2 * MINUTE), st.integers(0, 120)), min_size=1, max_size=40),
)
def test_within_any_time_no_more_are_admitted_than_a_full_bucket_and_its_refill(
    most: int, asked: list[tuple[int, int]]
) -> None:
    bucket, now, taken = Bucket(most * MINUTE, 0), 0, []
    for pause, wanted in asked:
        now += pause
        bucket, admitted = spend(refill(bucket, most, now), wanted)
        assert 0 <= admitted <= wanted
        assert 0 <= bucket.credit <= most * MINUTE
        assert admitted == wanted or bucket.credit < MINUTE, "refused only when the bucket has no whole token"
        taken.append((now, admitted))
    for i, (first, _) in enumerate(taken):
        for last in range(i, len(taken)):
            total = sum(admitted for _, admitted in taken[i : last + 1])
            assert total * MINUTE <= most * MINUTE + (taken[last][0] - first) * most


def flood() -> MemoryTopics:
    """Two series that are always there, and a new one with nearly every message between them."""
    left = [event(name, step, 1.0) for step in range(30) for name in ("a", "b", f"flood-{step}")]
    right = [event(f"flood-{step % 7}-right", step, 1.0) for step in range(20)]
    return MemoryTopics(inputs={0: left, 1: right})


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("passing", [1, 2])
def test_a_crash_in_a_flood_stores_every_message_once_as_an_event_or_a_dead_letter(point: str, passing: int) -> None:
    store, topics = MemoryStore(), flood()
    crash = CrashAt(point, passing)
    with pytest.raises(CrashError):
        for _ in range(3):  # points of the claim come with restarts
            run_dry(worker(store, topics, series=EVERY, most=11, passed=crash, new_series=2))
    run_dry(worker(store, topics, series=EVERY, most=11, new_series=2))
    dead = Counter((letter.partition, letter.offset) for letter in store.letters)
    assert dead, "the flood was more than the limit"
    assert max(dead.values()) == 1
    assert Counter((letter.partition, letter.offset) for letter in topics.letters) == dead
    by_name = store.ids
    events = Counter(series for (series, _), (_, _, count) in store.observations.items() for _ in range(count))
    assert sum(events.values()) + len(dead) == 110
    assert events[by_name["a"]] == 30 and events[by_name["b"]] == 30, "known series are unaffected"
    values = {letter.value for letter in store.letters}
    sent = Counter(value for some in topics.inputs.values() for _, value in some)
    assert all(sent[value] == 1 for value in values)
    assert len(store.keys) == sum(events.values()), "a forecast for every event, and for no dead letter"
    assert topics.offsets == {0: 90, 1: 20}
