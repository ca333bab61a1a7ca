"""Series whose messages come in several partitions: their windows are of the series, whoever reads which partition."""

import itertools
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import Unavailable
from pipeline.records import Events
from pipeline.settings import Policy, SeriesSettings
from pipeline.stream.spread import interleave
from pipeline.stream.worker import Worker
from tests.fakes import Clock, MemorySource, MemoryStore, MemoryTopics
from tests.unit.workers import HOUR, START, event, run_dry, worker

POLICIES: tuple[Policy, ...] = ("last", "first", "mean", "sum", "max")
Message = tuple[bytes | None, bytes | None]


def dealt(messages: Sequence[tuple[bytes, bytes]], partitions: int = 2) -> MemoryTopics:
    """Deal messages without their keys over partitions, in turn."""
    inputs: dict[int, list[Message]] = {at: [] for at in range(partitions)}
    for place, (_, value) in enumerate(messages):
        inputs[place % partitions].append((None, value))
    return MemoryTopics(inputs=inputs)


def stored(store: MemoryStore) -> dict[tuple[str, int], tuple[float, bool, int]]:
    names = {own: name for name, own in store.ids.items()}
    return {(names[own], at): row for (own, at), row in store.observations.items()}


def medians(store: MemoryStore) -> dict[tuple[str, int], list[float]]:
    """The medians of every forecast by series and origin."""
    return {
        (name, int(part.origin[i])): part.quantiles[i, :, 6].tolist()
        for part in store.forecasts
        for i, name in enumerate(part.series)
    }


def qualities(store: MemoryStore) -> dict[tuple[str, int], str]:
    return {
        (name, int(part.origin[i])): part.quality[i] for part in store.forecasts for i, name in enumerate(part.series)
    }


def of_one(topics: MemoryTopics, store: MemoryStore, owned: Sequence[int], most: int = 100) -> Worker:
    """A worker of the same group that has some of the partitions."""
    one = worker(store, topics, series=SERIES, most=most)
    source = one.parts.source
    assert isinstance(source, MemorySource)
    source.waiting = [(at, True) for at in owned]
    return one


def settle(workers: Sequence[Worker], topics: MemoryTopics, steps: int = 100) -> None:
    """Let workers take turns in turn, until all of the topic is published."""
    for _ in range(steps):
        for one in workers:
            one.step()
            assert isinstance(one.parts.clock, Clock)
            one.parts.clock.advance(60)
        if topics.offsets == {at: len(messages) for at, messages in topics.inputs.items()}:
            return
    raise AssertionError(topics.offsets)


SERIES = SeriesSettings(context=12, horizon=3, season=4, on="every_step")
WAVE = [event("wave", step, float(step % 4)) for step in range(40)]


def test_a_series_and_step_from_two_partitions_in_one_turn_is_one_row() -> None:
    store, topics = MemoryStore(), MemoryTopics(inputs={0: [event("a", 1, 1.0)], 1: [event("a", 1, 2.0)]})
    run_dry(worker(store, topics))
    assert list(stored(store).values()) == [(2.0, True, 2)]


@pytest.mark.parametrize("policy", POLICIES)
@given(data=st.data())
def test_dealt_over_partitions_a_turn_stores_what_it_would_store_from_one(policy: Policy, data: st.DataObject) -> None:
    steps = data.draw(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 8)), min_size=1, max_size=24))
    moments = sorted(data.draw(st.lists(st.integers(0, 3500), min_size=len(steps), max_size=len(steps))))
    messages = []
    for place, ((name, step), moment) in enumerate(zip(sorted(steps, key=lambda one: one[1]), moments, strict=True)):
        text = f'{{"series_id": "{name}", "timestamp": {START + step * HOUR + moment}, "value": {place}}}'
        messages.append((b"", text.encode()))
    times = [(step, moment) for (_, step), moment in zip(sorted(steps, key=lambda one: one[1]), moments, strict=True)]
    ordered = sorted(range(len(messages)), key=lambda place: (times[place], place % 2, place))
    series = SeriesSettings(context=12, horizon=3, season=4, duplicates=policy)
    spread, whole = MemoryStore(policy=policy), MemoryStore(policy=policy)
    run_dry(worker(spread, dealt(messages), series=series))
    run_dry(worker(whole, MemoryTopics(inputs={0: [messages[place] for place in ordered]}), series=series))
    assert stored(spread) == stored(whole)


@pytest.mark.parametrize("most", [1, 7, 100])
def test_windows_of_one_worker_are_of_the_series_though_its_messages_have_no_keys(most: int) -> None:
    keyed, topic = MemoryStore(), MemoryTopics(inputs={0: [*WAVE]})
    run_dry(worker(keyed, topic, series=SERIES, most=most * 2))
    store, topics = MemoryStore(), dealt(WAVE)
    run_dry(worker(store, topics, series=SERIES, most=most))
    assert stored(store) == stored(keyed)
    assert medians(store) == medians(keyed)


@pytest.mark.parametrize("order", list(itertools.permutations(range(2))))
def test_windows_of_two_workers_are_of_the_series_when_neither_lags(order: Sequence[int]) -> None:
    keyed = MemoryStore()
    run_dry(worker(keyed, MemoryTopics(inputs={0: [*WAVE]}), series=SERIES))
    store, topics = MemoryStore(), MemoryTopics(inputs={0: [], 1: []})
    workers = [of_one(topics, store, [at]) for at in order]
    for place, (_, value) in enumerate(WAVE):
        topics.inputs[place % 2].append((None, value))
        settle(workers, topics)
    assert stored(store) == stored(keyed)
    assert medians(store) == medians(keyed)
    assert set(qualities(store).values()) == {"fallback"}


def test_a_series_that_another_worker_has_met_is_spread_for_the_one_that_had_it_alone() -> None:
    store, topics = MemoryStore(), MemoryTopics(inputs={0: [], 1: []})
    one, other = of_one(topics, store, [0]), of_one(topics, store, [1])
    for step in range(8):
        topics.inputs[0].append(event("wave", step, float(step)))
    settle([one, other], topics)
    assert "wave" not in one.parts.spread.names
    topics.inputs[1].append(event("wave", 8, 8.0))
    settle([one, other], topics)
    topics.inputs[0].append(event("wave", 9, 9.0))
    settle([one, other], topics)
    assert "wave" in one.parts.spread.names
    assert medians(store)["wave", (START + 9 * HOUR) * 1_000_000] == [6.0, 7.0, 8.0], "8 is in the window"


def test_a_turn_that_took_a_series_for_its_own_while_it_was_met_elsewhere_starts_over() -> None:
    store, topics = (
        MemoryStore(),
        MemoryTopics(inputs={0: [event("wave", step, float(step)) for step in range(8)], 1: []}),
    )
    one = of_one(topics, store, [0])
    settle([one], MemoryTopics(inputs={0: topics.inputs[0]}, offsets=topics.offsets))
    topics.inputs[0].append(event("wave", 9, 9.0))

    def meet(point: str) -> None:
        if point == "before_sql" and not store.spread:
            store.place(["wave"], 1)
            at = (store.ids["wave"], (START + 8 * HOUR) * 1_000_000)
            store.observations[at] = (8.0, True, 1)
            store.state[1] = (1, 1)

    object.__setattr__(one.parts, "passed", meet)
    for _ in range(4):
        one.step()
    assert one.parts.worker_state.setbacks == {"fenced": 1}
    assert medians(store)["wave", (START + 9 * HOUR) * 1_000_000] == [6.0, 7.0, 8.0]


def test_windows_are_whole_after_a_partition_was_another_workers_for_a_while() -> None:
    readings = [event("slope", step, float(step)) for step in range(13)]
    topics, store = dealt(readings[:10]), MemoryStore()
    one, other = of_one(topics, store, [0, 1]), of_one(topics, store, [1])
    settle([one], topics)
    source = one.parts.source
    assert isinstance(source, MemorySource)
    source.hold([1])
    source.waiting = [(1, False)]
    one.step()
    topics.inputs[1].append((None, readings[11][1]))
    settle([other], topics)
    source.waiting = [(1, True)]
    one.step()
    topics.inputs[0] += [(None, readings[10][1]), (None, readings[12][1])]
    settle([one], topics)
    newest = max(medians(store))
    assert medians(store)[newest] == [9.0, 10.0, 11.0], "of steps 9 to 11; another worker stored the last"


@pytest.mark.parametrize("partitions", [1, 2])
def test_windows_are_of_what_a_repair_left(partitions: int) -> None:
    store, topics = MemoryStore(), MemoryTopics(inputs={at: [] for at in range(partitions)})
    one = of_one(topics, store, list(range(partitions)))
    for step in range(8):
        topics.inputs[step % partitions].append((None, event("wave", step, float(step))[1]))
    settle([one], topics)
    at = (store.ids["wave"], (START + 6 * HOUR) * 1_000_000)
    store.observations[at] = (-100.0, True, 1)
    store.repairs += 1
    topics.inputs[0].append((None, event("wave", 9, 9.0)[1]))
    settle([one], topics)
    assert medians(store)["wave", (START + 9 * HOUR) * 1_000_000] == [-100.0, 7.0, 4.0]


def test_a_window_with_holes_is_degraded_while_another_partition_lags_and_says_so_no_longer() -> None:
    store, topics = MemoryStore(), MemoryTopics(inputs={0: [], 1: []})
    left, right = of_one(topics, store, [0]), of_one(topics, store, [1])
    for step in range(14):
        topics.inputs[step % 2].append((None, event("wave", step, float(step))[1]))
        settle([left, right], topics)
    for step in range(14, 18):
        topics.inputs[step % 2].append((None, event("wave", step, float(step))[1]))
    for _ in range(2):
        right.step()  # reads 15 and 17; 14 and 16 wait in the other partition
    origin = (START + 17 * HOUR) * 1_000_000
    assert qualities(store)["wave", origin] == "degraded"
    settle([left, right], topics)
    topics.inputs[0].append((None, event("wave", 18, 18.0)[1]))
    settle([left, right], topics)
    assert qualities(store)["wave", origin + HOUR * 1_000_000] == "fallback"


AWAY = {"side_effect": Unavailable("the broker is away")}
UNLED: dict[str, Any] = {"return_value": {}}


@pytest.mark.parametrize("found", [AWAY, UNLED], ids=["away", "without a leader"])
def test_a_turn_is_stored_though_the_ends_of_other_partitions_cannot_be_read(found: dict[str, Any]) -> None:
    store, topics = MemoryStore(), MemoryTopics(inputs={0: [], 1: []})
    left, right = of_one(topics, store, [0]), of_one(topics, store, [1])
    for step in range(14):
        topics.inputs[step % 2].append((None, event("wave", step, float(step))[1]))
        settle([left, right], topics)
    with patch.object(right.parts.source, "look", **found):
        topics.inputs[1].append((None, event("wave", 15, 15.0)[1]))
        settle([right], topics, steps=2)
    assert qualities(store)["wave", (START + 15 * HOUR) * 1_000_000] == "degraded", "a hole that may be filled"


def run_of(partition: int, times: Sequence[int], first: int = 0) -> Events:
    count = len(times)
    return Events(
        partition=np.full(count, partition),
        series=["a"] * count,
        event_time=np.array(times, np.int64),
        value=np.zeros(count),
        observed=np.ones(count, np.bool_),
        offset=np.arange(first, first + count),
        covariates=np.empty((count, 0)),
    )


@given(st.lists(st.lists(st.integers(0, 20), min_size=1, max_size=10), min_size=1, max_size=4), st.randoms())
def test_interleaving_keeps_each_partitions_order_and_does_not_depend_on_the_order_of_runs(
    times: list[list[int]], random: object
) -> None:
    runs = [run_of(at, own) for at, own in enumerate(times)]
    joined = interleave(runs)
    places = list(zip(joined.partition.tolist(), joined.offset.tolist(), strict=True))
    for at, own in enumerate(times):
        assert [offset for partition, offset in places if partition == at] == list(range(len(own)))
    again = interleave(runs[::-1])
    assert places == list(zip(again.partition.tolist(), again.offset.tolist(), strict=True))
    in_order = [sorted(own) == own for own in times]
    if all(in_order):
        assert np.all(np.diff(joined.event_time) >= 0)
