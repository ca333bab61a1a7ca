"""Turns over messages that have no reading or many: each is stored whole, once, or is one dead letter."""

import json
from collections import Counter
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from pipeline.records import Envelope, Kind, Messages
from pipeline.settings import InputSettings, Policy, SeriesSettings
from pipeline.stream.breaker import Breakers
from pipeline.stream.portions import READING_BYTES, portions
from tests.fakes import MemoryStore, MemoryTopics
from tests.unit.stream.test_protocol import POINTS, CrashAt, CrashError
from tests.unit.workers import HOUR, START, run_dry, worker


def sent(*values: object) -> MemoryTopics:
    return MemoryTopics(inputs={0: [(b"k", json.dumps(value).encode()) for value in values]})


def row(step: int) -> dict[str, object]:
    return {"series_id": "a", "timestamp": START + step * HOUR, "value": float(step)}


def test_messages_without_a_reading_are_counted_and_committed() -> None:
    deleted = {"op": "d", "before": row(0), "after": None}
    store = MemoryStore()
    topics = sent({"op": "c", "after": row(0)}, deleted, deleted, {"op": "x"})
    topics.inputs[0] += [(b"k", None)]
    one = worker(store, topics, reading=InputSettings(envelope="debezium"))
    run_dry(one)
    state = one.parts.worker_state
    assert (state.messages, state.no_reading, state.tombstones) == (5, 2, 1)
    assert len(store.observations) == len(store.letters) == 1
    assert topics.offsets == {0: 5}


def test_refused_deletes_are_dead_letters_and_not_counted_as_skipped() -> None:
    store = MemoryStore()
    topics = sent({"op": "d", "before": row(0), "after": None})
    topics.inputs[0] += [(b"k", None)]
    one = worker(store, topics, reading=InputSettings(envelope="debezium", tombstones="refuse"))
    run_dry(one)
    assert [letter.offset for letter in store.letters] == [0, 1]
    assert one.parts.worker_state.no_reading == 0


LIST = InputSettings(each="r", series_id="{$name}", timestamp="^t", value="$value")


def many(step: int, **numbers: object) -> dict[str, object]:
    return {"t": START + step * HOUR, "r": numbers}


def stored(store: MemoryStore) -> dict[tuple[str, int], tuple[float, bool, int]]:
    names = {own: name for name, own in store.ids.items()}
    return {(names[own], (at // 1_000_000 - START) // HOUR): row for (own, at), row in store.observations.items()}


@pytest.mark.parametrize(
    ("policy", "merged"),
    [("last", 3.0), ("first", 1.0), ("sum", 6.0), ("mean", 2.0), ("max", 3.0)],
)
def test_readings_of_one_series_and_step_in_one_message_are_merged_in_their_order(
    policy: Policy, merged: float
) -> None:
    settings = InputSettings(each="r", series_id="s", timestamp="t", value="v")
    elements = [{"s": "a", "t": START + 60 * i, "v": float(i)} for i in (1, 2, 3)]
    store = MemoryStore(policy=policy)
    series = SeriesSettings(context=12, horizon=3, season=4, duplicates=policy)
    run_dry(worker(store, sent({"r": elements}), series=series, reading=settings))
    assert stored(store) == {("a", 0): (merged, True, 3)}


def test_each_series_of_a_message_is_forecast_once_from_its_newest_step() -> None:
    store, topics = MemoryStore(), sent(many(0, a=1, b=2), many(1, a=3, b=4))
    run_dry(worker(store, topics, reading=LIST))
    assert [(at, name) for _, at, name, _, _ in topics.output] == [(1, "a"), (1, "b")]


def test_a_bad_element_is_one_letter_and_the_sums_of_its_neighbours_hold_after_a_requeue() -> None:
    bad = many(0, a=10, b="x")
    series = SeriesSettings(context=12, horizon=3, season=4, duplicates="sum")
    store, topics = MemoryStore(policy="sum"), sent(many(0, a=1, b=1), bad, many(0, a=2, b=2))
    run_dry(worker(store, topics, series=series, reading=LIST))
    assert stored(store) == {("a", 0): (3.0, True, 2), ("b", 0): (3.0, True, 2)}
    (letter,) = topics.letters
    assert (letter.offset, letter.reason) == (
        1,
        'not an event: r.b: $value is the text "x", not a number; send a number without quotes',
    )
    topics.inputs[0].append((letter.key, letter.value.replace(b'"x"', b"10") if letter.value else None))
    run_dry(worker(store, topics, series=series, reading=LIST))
    assert stored(store) == {("a", 0): (13.0, True, 3), ("b", 0): (13.0, True, 3)}
    assert len(topics.letters) == 1


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("passing", [1, 2])
def test_a_crash_at_any_point_stores_every_element_once(point: str, passing: int) -> None:
    series = SeriesSettings(context=12, horizon=3, season=4, duplicates="sum", on="every_step")
    store = MemoryStore(policy="sum")
    messages = [many(step % 3, **dict.fromkeys("abcdefg"[: step % 7 + 1], 1)) for step in range(12)]
    topics = sent(*messages, many(0, a=1, b=[]))
    with suppress(CrashError):
        run_dry(worker(store, topics, series=series, reading=LIST, most=4, passed=CrashAt(point, passing)))
    topics.generation += 1
    run_dry(worker(store, topics, series=series, reading=LIST, most=5))
    expected = Counter((name, step % 3) for step in range(12) for name in "abcdefg"[: step % 7 + 1])
    assert {key: events for key, (_, _, events) in stored(store).items()} == expected
    assert [letter.offset for letter in store.letters] == [letter.offset for letter in topics.letters] == [12]
    assert max(Counter(topics.output).values()) == 1


def test_a_message_with_a_series_beyond_the_limit_is_one_letter_whole() -> None:
    store, topics = MemoryStore(), sent(many(0, a=1), many(0, a=2, b=3, c=4), many(1, a=5))
    run_dry(worker(store, topics, reading=LIST, new_series=2))
    assert stored(store) == {("a", 0): (1.0, True, 1), ("a", 1): (5.0, True, 1)}
    assert [letter.offset for letter in topics.letters] == [1]
    assert one_kind(topics) == Kind.NEW_SERIES


def one_kind(topics: MemoryTopics) -> Kind:
    (letter,) = topics.letters
    return letter.kind


def test_the_breaker_counts_messages_and_not_their_elements() -> None:
    good = [many(step, **{f"s{i}": 1 for i in range(50)}) for step in range(10)]
    bad = [many(step, a="x") for step in range(30)]
    store = MemoryStore()
    one = worker(store, sent(*good, *bad), reading=LIST, most=20)
    object.__setattr__(one.parts, "breakers", Breakers(InputSettings(), 20))
    for _ in range(4):
        one.step()
    assert list(one.tripped) == [0], "500 good elements do not hide 30 bad messages"
    assert store.state[0][1] < 40


def test_skipped_messages_trip_no_breaker_and_are_counted() -> None:
    settings = InputSettings(each="r", series_id="{$name}", timestamp="^t", value="$value", skip=("^type != 'r'",))
    others = [{"type": "status"}] * 60
    store = MemoryStore()
    topics = sent(*others, many(0, a=1) | {"type": "r"}, {"type": "r", "t": START, "r": []})
    topics.inputs[1] = [(b"k", b"{")] * 60
    one = worker(store, topics, reading=settings, most=20)
    object.__setattr__(one.parts, "breakers", Breakers(settings, 20))
    for _ in range(8):
        one.step()
    assert list(one.tripped) == [1], "a partition's bad messages pause that partition alone"
    assert one.parts.worker_state.no_reading == 61
    assert stored(store) == {("a", 0): (1.0, True, 1)}
    assert store.state[0][1] == topics.offsets[0] == 62


def test_a_spread_series_keeps_the_order_of_a_message() -> None:
    settings = InputSettings(each="r", series_id="^s", timestamp="t", value="v")
    elements = [{"t": START, "v": float(i)} for i in range(5)]
    message = (b"k", json.dumps({"s": "a", "r": elements}).encode())
    store = MemoryStore()
    topics = MemoryTopics(inputs={0: [message], 1: [message]})
    run_dry(worker(store, topics, reading=settings))
    assert stored(store) == {("a", 0): (4.0, True, 10)}


def test_readings_between_the_steps_are_weighed_against_readings() -> None:
    on_time = [many(step, **{f"s{i}": 1 for i in range(30)}) for step in range(20)]
    off = {"t": START + 20 * HOUR + 60, "r": {f"s{i}": 1 for i in range(25)}}
    one = worker(MemoryStore(), sent(*on_time, off), reading=LIST)
    with capture_logs() as logs:
        run_dry(one)
    state = one.parts.worker_state
    assert (state.messages, state.events, state.off_grid) == (21, 625, 25)
    assert not any(each["event"] == "events between the steps of the grid" for each in logs), "4 % of them"


def test_a_turn_takes_about_as_many_readings_as_messages_otherwise() -> None:
    store, topics = MemoryStore(), sent(*[many(step, **{f"{i:032d}": 1 for i in range(200)}) for step in range(40)])
    one = worker(store, topics, reading=LIST, most=100)
    one._events = 1_000
    run_dry(one)
    assert len(store.observations) == 40 * 200
    assert one.turns == 7, "six messages of 200 readings each make the thousand of a turn"


@given(st.lists(st.lists(st.none() | st.binary(max_size=90), min_size=1, max_size=8), max_size=4), st.integers(1, 5))
def test_portions_are_the_messages_in_their_order(runs: list[list[bytes | None]], most: int) -> None:
    polled = [
        Messages(
            at, np.arange(len(run)) * 2, run, run, 2 * len(run) + 5, envelope=lambda i, at=at: Envelope(at * 100 + i)
        )
        for at, run in enumerate(runs)
    ]
    cut = [part for portion in portions(polled, most) for part in portion]
    for at, run in enumerate(runs):
        own = [part for part in cut if part.partition == at]
        assert [value for part in own for value in part.values] == run
        assert np.concatenate([part.offsets for part in own]).tolist() == polled[at].offsets.tolist()
        assert own[-1].next_offset == polled[at].next_offset
        assert [part.next_offset for part in own[:-1]] == [int(part.offsets[-1]) + 1 for part in own[:-1]]
        assert [part.envelope(i).written_at for part in own for i in range(len(part.values))] == [
            at * 100 + i for i in range(len(run))
        ]
    for portion in portions(polled, most):
        sizes = [len(value or b"") for part in portion for value in part.values]
        assert sum(sizes[:-1]) < most * READING_BYTES, "without its last message it is within the bound"
