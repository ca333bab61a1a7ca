"""Silent series make room in memory, and nothing but memory tells."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.records import Events
from pipeline.settings import Policy, SeriesSettings
from pipeline.stream.eviction import Eviction
from pipeline.stream.ring import RingStore
from tests.fakes import MemoryStore, MemoryTopics
from tests.unit.stream.test_ring import POLICIES
from tests.unit.workers import event, run_dry, worker


def ring_of(names: str, touched: int = 0) -> RingStore:
    ring = RingStore(4, "last")
    ring.turn = touched
    ring.add(list(names), np.arange(len(names)))
    return ring


def run(names: str, partition: int = 0) -> Events:
    count = len(names)
    none = np.zeros(count, np.int64)
    own = np.full(count, partition)
    return Events(own, list(names), none, np.zeros(count), np.ones(count, np.bool_), none, np.empty((count, 0)))


def by_partition(*runs: Events) -> dict[int, Events]:
    return {int(one.partition[0]): one for one in runs}


def test_nothing_is_evicted_as_long_as_all_fit() -> None:
    rings = {0: ring_of("abc"), 1: ring_of("de")}
    eviction = Eviction(6)
    eviction.make_room(rings, by_partition(run("aaabbbc"), run("f", 1)))
    assert (set(rings[0].rows), set(rings[1].rows), eviction.evicted) == (set("abc"), set("de"), 0)


def test_the_longest_silent_of_all_partitions_go_and_a_turn_keeps_its_own() -> None:
    rings = {0: ring_of("ab", 1), 1: ring_of("cd", 2), 2: ring_of("ef", 3)}
    eviction = Eviction(6)
    eviction._turn = 3
    eviction.make_room(rings, by_partition(run("ax"), run("yc", 1)))
    assert [set(ring.rows) for ring in rings.values()] == [{"a"}, {"c"}, {"e", "f"}]
    assert eviction.evicted == 2


def test_a_turn_of_more_series_than_the_limit_is_taken_and_the_next_one_makes_room() -> None:
    rings = {0: ring_of("abc")}
    eviction = Eviction(2)
    eviction.make_room(rings, by_partition(run("abcdef")))
    assert set(rings[0].rows) == set("abc")
    rings[0].add(list("def"), np.arange(3, 6))
    eviction.make_room(rings, by_partition(run("f")))
    assert "f" in rings[0].rows and len(rings[0]) == 2


def test_what_was_put_lately_is_kept() -> None:
    rings = {0: ring_of("abcd")}
    eviction = Eviction(4)
    eviction.make_room(rings, by_partition(run("a")))
    one = (np.array([1.0]), np.array([True]), np.array([1]))
    rings[0].put(np.array([rings[0].rows["a"]]), np.array([7]), *one)
    eviction.make_room(rings, by_partition(run("x")))
    assert "a" in rings[0].rows and len(rings[0]) == 3


STREAM = st.lists(
    st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 30), st.none() | st.integers(-8, 8).map(float)),
    min_size=1,
    max_size=60,
)


@pytest.mark.parametrize("policy", POLICIES)
@given(stream=STREAM, limit=st.integers(1, 6), most=st.integers(1, 12), every=st.booleans())
def test_forecasts_with_eviction_are_those_without(
    policy: Policy, stream: list[tuple[str, int, float | None]], limit: int, most: int, every: bool
) -> None:
    series = SeriesSettings(context=12, horizon=3, season=4, duplicates=policy, on="every_step" if every else "latest")
    messages = {partition: [] for partition in range(2)}  # type: ignore[var-annotated]
    for name, step, value in stream:
        messages[ord(name) % 2].append(event(name, step, value, wind=None if value is None else -value))
    found = []
    for held in (None, limit):
        store = MemoryStore(policy, ("wind",))
        topics = MemoryTopics(inputs={at: list(some) for at, some in messages.items() if some})
        one = worker(store, topics, series=series, most=most, series_in_memory=held)
        run_dry(one, steps=200)
        if held is not None:
            assert sum(len(own.ring) for own in one.owned.values()) <= max(held, 2 * most)
        names = {number: name for name, number in store.ids.items()}
        rows = {(names[key[0]], key[1]): value for key, value in store.observations.items()}
        found.append((rows, Counter(topics.output)))
    assert found[0] == found[1]


def test_a_worker_that_may_hold_two_series_forecasts_eight_in_turn() -> None:
    messages = [event(name, step, float(step)) for step in range(20) for name in "abcdefgh"]
    store, topics = MemoryStore(), MemoryTopics(inputs={0: messages})
    one = worker(store, topics, series=SeriesSettings(context=12, horizon=3, season=4), most=2, series_in_memory=2)
    run_dry(one, steps=100)
    assert one.parts.eviction is not None and one.parts.eviction.evicted > 100
    assert len(one.owned[0].ring) <= 2
    assert len(store.observations) == len(topics.output) == 160
