"""The proposed mapping is a guess that never fails, and that reads most of the real messages."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.messages.proposal import propose
from pipeline.settings import InputSettings
from tests.unit.messages.reading import AT, SECOND, read, readings
from tests.unit.messages.test_shapes import FIRST, READING, RECORD, ROWS, SPAN
from tests.unit.messages.test_totality import OBJECTS, TREES

WANTED = 24
"""Of the real messages, so many must be read with their very values, from one message each."""


def test_most_real_messages_are_read_with_their_values() -> None:
    right = []
    for name, message, _, outcome in ROWS:
        wanted = [None if number == "null" else float(number) for _, number, _ in READING.findall(outcome)]
        keys = [text.encode() for what, text in RECORD.findall(message) if what == "key"]
        value = SPAN.findall(RECORD.sub("", message))[0]
        settings = InputSettings(**propose([json.loads(value)], keyed=bool(keys)))
        key = keys[0] if keys else None
        events, _ = read(settings, value.encode(), key=key, written_at=FIRST * SECOND)
        found = [
            number if seen else None
            for number, seen in zip(events.value.tolist(), events.observed.tolist(), strict=True)
        ]
        if wanted and found == wanted:
            right.append(name)
    assert len(right) >= WANTED, right


def test_a_name_that_differs_in_every_message_is_not_what_the_message_is_of() -> None:
    messages = [{"id": f"event-{i}", "device": "d", "ts": AT + i, "temp": i} for i in range(20)]
    proposal = propose(messages, keyed=False)
    assert proposal == {"timestamp": "ts", "value": "temp", "series_id": "{device}"}
    assert readings(InputSettings(**proposal), messages[3]) == [("d", AT + 3, 3.0)]


def test_what_says_nothing_is_left_to_the_record() -> None:
    assert propose([{"x": 5}], keyed=True) == {"timestamp": "$timestamp", "value": "x", "series_id": "$key"}
    assert propose([5], keyed=False) == {"timestamp": "$timestamp", "series_id": "$topic"}


def test_the_port_of_a_radio_message_is_no_value_in_either_spelling() -> None:
    for port in ("f_port", "fPort"):
        assert propose([{port: 1, "object": {"moisture": 31.5}}], keyed=True)["value"] == "object.moisture"


def test_names_that_no_path_can_hold_are_left_out() -> None:
    proposal = propose([{'a"b': 1, "{c}": 2, "^d": 3, "*": 4, "e.f": 5, "g": 6}], keyed=False)
    assert proposal["value"] == "g"


@given(st.lists(OBJECTS | TREES, min_size=1, max_size=4), st.booleans())
def test_any_messages_have_a_proposal(messages: list[Any], keyed: bool) -> None:
    proposal = propose(messages, keyed=keyed)
    assert {"series_id", "timestamp"} <= proposal.keys()
    try:
        settings = InputSettings(**proposal)
    except ValidationError:
        return  # whoever asked for it shows none
    for message in messages:
        read(settings, json.dumps(message).encode(), key=b"k")
