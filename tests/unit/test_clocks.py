"""One clock that is fast silences nobody: not the series it sends for, and no other."""

import itertools
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.grid.frequency import Frequency
from pipeline.messages.codec import Reader
from pipeline.records import Messages
from pipeline.settings import InputSettings, Policy, SeriesSettings
from tests.fakes import Clock, MemoryStore, MemoryTopics
from tests.unit.stream.test_spread import medians, of_one, settle, stored
from tests.unit.workers import HOUR, START, event, worker

POLICIES: tuple[Policy, ...] = ("last", "first", "mean", "sum", "max")
SERIES = SeriesSettings(context=8, horizon=2, season=2, on="every_step")


def at_step(one: Clock, step: int) -> None:
    """Set the clock to the middle of a step."""
    one.now = (START + step * HOUR + HOUR // 2) * 1_000_000


@pytest.mark.parametrize("ahead", [2, 5, 40])
def test_honest_events_are_forecast_from_after_one_event_from_a_clock_that_is_fast(ahead: int) -> None:
    store, topics = MemoryStore(), MemoryTopics(inputs={0: []})
    one = worker(store, topics, series=SERIES)
    clock = one.parts.clock
    assert isinstance(clock, Clock)
    one.parts.reader._settings = InputSettings(max_future_skew="60h")
    for step in range(12):
        at_step(clock, step)
        topics.inputs[0].append(event("a", step, float(step % 2)))
        if step == 6:
            topics.inputs[0].append(event("a", step + ahead, 99.0))
        settle([one], topics, steps=2)
    origins = sorted(origin // 1_000_000 for _, origin in medians(store))
    honest = {START + step * HOUR for step in range(12)}
    missing = honest - set(origins)
    assert missing <= {START + (6 + ahead) * HOUR}, "at most the step that has a reading already"
    assert max(origins) <= START + 11 * HOUR, "nothing is forecast from the fast clock's step"
    assert ("a", (START + (6 + ahead) * HOUR) * 1_000_000) in stored(store), "and its reading is kept"
    newest = one.parts.worker_state.partitions[0].newest_event
    assert newest is not None and newest <= (START + 13 * HOUR) * 1_000_000, "the stale alert is not blinded"


def test_a_series_whose_own_clock_is_fast_is_forecast_and_an_honest_one_takes_over() -> None:
    store, topics = MemoryStore(), MemoryTopics(inputs={0: []})
    one = worker(store, topics, series=SERIES)
    clock = one.parts.clock
    assert isinstance(clock, Clock)
    one.parts.reader._settings = InputSettings(max_future_skew="60h")
    for step in range(8):
        at_step(clock, step)
        topics.inputs[0].append(event("a", step + 30, float(step)))
        settle([one], topics, steps=2)
    fast = {origin // 1_000_000 for _, origin in medians(store)}
    assert fast == {START + step * HOUR for step in range(31, 38)}, "all but the first, which nothing confirmed"
    for step in range(8, 12):
        at_step(clock, step)
        topics.inputs[0].append(event("a", step, 5.0))
        settle([one], topics, steps=2)
    origins = {origin // 1_000_000 for _, origin in medians(store)} - fast
    assert origins == {START + step * HOUR for step in range(8, 12)}
    assert medians(store)["a", (START + 11 * HOUR) * 1_000_000] == [5.0, 5.0]


@pytest.mark.parametrize("policy", POLICIES)
@given(
    jumps=st.lists(st.tuples(st.sampled_from("ab"), st.integers(-3, 12)), min_size=1, max_size=30),
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=6),
)
def test_whatever_the_clocks_say_a_ring_holds_what_sql_holds_up_to_its_newest_step(
    policy: Policy, jumps: list[tuple[str, int]], sizes: list[int]
) -> None:
    store, topics = MemoryStore(policy=policy), MemoryTopics(inputs={0: []})
    one = worker(store, topics, series=SeriesSettings(context=8, horizon=2, season=2, duplicates=policy))
    clock = one.parts.clock
    assert isinstance(clock, Clock)
    one.parts.reader._settings = InputSettings(max_future_skew="60h")
    waiting = iter(jumps)
    for now, size in enumerate(itertools.islice(itertools.cycle(sizes), 30)):
        at_step(clock, 20 + now)
        some = list(itertools.islice(waiting, size))
        topics.inputs[0] += [event(name, 20 + now + jump, float(jump)) for name, jump in some]
        settle([one], topics, steps=3)
        ring = one.owned[0].ring
        for name, row in ring.rows.items():
            newest = int(ring.newest[row])
            window, seen = ring.windows(np.array([row]), np.array([newest]), 8)
            until = int(one.parts.grid.frequency.time_of(np.array([newest]))[0])
            truth = {
                time // 1_000_000 // HOUR: cell
                for (own, time), cell in stored(store).items()
                if own == name and time <= until
            }
            expected = [truth.get(step, (0.0, False, 0)) for step in range(newest - 7, newest + 1)]
            assert seen[0].tolist() == [cell[1] for cell in expected]
            assert window[0].tolist() == [cell[0] if cell[1] else 0.0 for cell in expected]


def test_events_may_lie_two_steps_ahead_unless_told_otherwise() -> None:
    now = (START + 10 * HOUR) * 1_000_000
    for frequency, skew, allowed in (("1min", None, 120), ("1h", None, 7200), ("1s", None, 60), ("1h", "30s", 30)):
        settings = InputSettings() if skew is None else InputSettings(max_future_skew=skew)
        reader = Reader(settings, Frequency(frequency))
        for ahead, fine in ((allowed, True), (allowed + 1, False)):
            value = f'{{"series_id": "a", "timestamp": {START + 10 * HOUR + ahead}, "value": 1}}'.encode()
            events, letters = reader.read(Messages(0, np.array([3]), [b"a"], [value], 4), now)
            assert (len(events), len(letters)) == ((1, 0) if fine else (0, 1)), (frequency, ahead)


def test_one_reading_far_ahead_does_not_make_each_later_turn_read_its_series_from_sql_again() -> None:
    store, topics = MemoryStore(), MemoryTopics(inputs={0: [event("a", 40, 99.0)]})
    for turn in range(2):  # the second worker finds the reading in SQL
        one = worker(store, topics, series=SERIES)
        clock = one.parts.clock
        assert isinstance(clock, Clock)
        one.parts.reader._settings = InputSettings(max_future_skew="60h")
        with patch.object(store, "recent", wraps=store.recent) as recent:
            for step in range(10 * turn, 10 * turn + 10):
                at_step(clock, step)
                topics.inputs[0].append(event("a", step, float(step % 2)))
                settle([one], topics, steps=2)
        assert recent.call_count == 1, "when the series is met"
    assert len(store.observations) == 21


def test_series_with_fast_clocks_are_forecast_whether_they_are_evicted_or_not() -> None:
    made, steps = [], 8
    for most in (None, 1):
        store, topics = MemoryStore(), MemoryTopics(inputs={0: []})
        one = worker(store, topics, series=SERIES, series_in_memory=most)
        clock = one.parts.clock
        assert isinstance(clock, Clock)
        one.parts.reader._settings = InputSettings(max_future_skew="60h")
        for step in range(steps):
            at_step(clock, step)
            for name in "abc":
                topics.inputs[0].append(event(name, step + 30, float(step)))
                settle([one], topics, steps=2)
        made.append(medians(store))
    assert len(made[0]) == 3 * (steps - 1)
    assert made[1] == made[0]


def test_a_series_with_a_fast_clock_is_forecast_though_two_workers_read_it() -> None:
    store, topics = MemoryStore(), MemoryTopics(inputs={0: [], 1: []})
    workers = [of_one(topics, store, [at]) for at in range(2)]
    for step in range(8):
        for one in workers:
            assert isinstance(one.parts.clock, Clock)
            at_step(one.parts.clock, step)
            one.parts.reader._settings = InputSettings(max_future_skew="60h")
        topics.inputs[step % 2].append(event("a", step + 30, float(step)))
        settle(workers, topics, steps=3)
    assert len(medians(store)) == 5, "from when each worker has seen two in the windows that both share"


def test_a_clock_that_was_right_meanwhile_is_not_fast_at_once_although_its_series_was_evicted() -> None:
    store, topics = MemoryStore(), MemoryTopics(inputs={0: []})
    one = worker(store, topics, series=SERIES, series_in_memory=1)
    assert isinstance(one.parts.clock, Clock)
    one.parts.reader._settings = InputSettings(max_future_skew="60h")
    for now, name, step in [(0, "a", 5), (1, "b", 1), (10, "a", 10), (11, "b", 11), (12, "a", 17)]:
        at_step(one.parts.clock, now)
        topics.inputs[0].append(event(name, step, 1.0))
        settle([one], topics, steps=2)
    assert ("a", (START + 17 * HOUR) * 1_000_000) not in medians(store)
