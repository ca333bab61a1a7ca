"""Turns over messages that have no reading or many: each is stored whole, once, or is one dead letter."""

import json

from pipeline.settings import InputSettings
from tests.fakes import MemoryStore, MemoryTopics
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
