"""Messages with many readings: arrays, objects, wide records, a start with an interval; each is read whole or not."""

import gc
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.records import Kind
from pipeline.settings import InputSettings
from tests.unit.messages.reading import AT, read, readings, refused

LIST = InputSettings(each="readings", series_id="{^device}/{metric}", timestamp="t", value="v")


def listed(*elements: object, **more: object) -> dict[str, object]:
    return {"device": "d", "readings": list(elements), **more}


def one(metric: object = "m", time: object = AT, value: object = 1, **more: object) -> dict[str, object]:
    return {"metric": metric, "t": time, "v": value, **more}


def test_each_element_of_an_array_is_a_reading_and_the_message_is_around_it() -> None:
    message = listed(one("a", AT, 1), one("b", AT + 1, None), one("a", AT + 2, 2.5))
    assert readings(LIST, message) == [("d/a", AT, 1.0), ("d/b", AT + 1, None), ("d/a", AT + 2, 2.5)]


def test_readings_of_a_message_have_its_offset_and_their_order() -> None:
    events, letters = read(LIST, listed(one(), one()), listed(), listed(one()))
    assert (events.offset.tolist(), letters) == ([10, 10, 12], ())
    assert events.messages == 2


def test_the_elements_of_an_object_have_names() -> None:
    settings = InputSettings(each="payload", series_id="{^id}/{$name}", timestamp="^ts", value="$value")
    message = {"id": "d", "ts": AT, "payload": {"temp": 21, "hum": None}}
    assert readings(settings, message) == [("d/temp", AT, 21.0), ("d/hum", AT, None)]


def test_the_whole_message_may_be_the_array_or_the_object() -> None:
    settings = InputSettings(each="$value", series_id="m", timestamp="t", value="v")
    assert readings(settings, [{"m": "a", "t": AT, "v": 1}]) == [("a", AT, 1.0)]
    assert readings(settings, {"x": {"m": "a", "t": AT, "v": 1}}) == [("a", AT, 1.0)]


def test_a_star_stands_for_every_element_on_the_way() -> None:
    message = {
        "host": "h",
        "series": [{"name": "x", "values": [[AT, 1], [AT + 1, 2]]}, {"name": "y", "values": [[AT, 3]]}],
    }
    settings = InputSettings(each="series.*.values", series_id="{^^host}/{^name}/{$index}", timestamp="0", value="1")
    assert readings(settings, message) == [("h/x/0", AT, 1.0), ("h/x/1", AT + 1, 2.0), ("h/y/0", AT, 3.0)]


def test_names_are_those_of_the_nearest_object() -> None:
    settings = InputSettings(each="*", series_id="{$name}/{$field}", timestamp="ts", values=("values.*",))
    message = {"A": [{"ts": AT, "values": {"t": 1, "h": 2}}], "B": [{"ts": AT, "values": {"t": 3}}]}
    assert readings(settings, message) == [("A/t", AT, 1.0), ("A/h", AT, 2.0), ("B/t", AT, 3.0)]


WIDE = InputSettings(series_id="{id}/{$field}", timestamp="ts", values=("temp", "hum", "in.x"))


def test_each_field_of_a_wide_record_is_a_series() -> None:
    message = {"id": "d", "ts": AT, "temp": 21, "in": {"x": 5}, "rssi": -70}
    assert readings(WIDE, message) == [("d/temp", AT, 21.0), ("d/in.x", AT, 5.0)]
    assert readings(WIDE, {"id": "d", "ts": AT, "hum": None}) == [("d/hum", AT, None)]


def test_a_star_is_every_number_that_no_other_setting_names() -> None:
    settings = InputSettings(series_id="{id}/{$field}", timestamp="ts", values=("*",), covariates=("wind", "a.b"))
    message = {
        "id": 5,
        "ts": AT,
        "temp": 21,
        "wind": 3,
        "a.b": 4,
        "on": True,
        "name": "x",
        "gone": None,
        "in": {"x": 5},
    }
    events, letters = read(settings, message)
    assert (list(events.series), events.covariates.tolist(), letters) == (["5/temp"], [[3.0, 4.0]], ())
    settings = InputSettings(series_id="{d.id}/{$field}", timestamp="d.ts", values=("d.*",))
    assert readings(settings, {"d": {"id": 5, "ts": AT, "temp": 21}, "ts": 6, "x": 7}) == [("5/temp", AT, 21.0)]


def test_a_field_that_is_named_is_not_read_again_by_a_star() -> None:
    settings = InputSettings(series_id="{id}/{$field}", timestamp="ts", values=("*", "temp", "in.*", "in.x"))
    message = {"id": "d", "ts": AT, "temp": 21, "hum": 40, "in": {"x": 5, "y": 6}}
    assert readings(settings, message) == [
        ("d/hum", AT, 40.0),
        ("d/temp", AT, 21.0),
        ("d/y", AT, 6.0),
        ("d/in.x", AT, 5.0),
    ]


def test_a_wide_record_may_be_an_element_and_a_field_of_the_message() -> None:
    settings = InputSettings(each="m", series_id="{tags.host}/{name}/{$field}", timestamp="t", values=("f.*", "^v"))
    message = {"v": 9, "m": [{"name": "cpu", "tags": {"host": "h"}, "f": {"idle": 1}, "t": AT}]}
    assert readings(settings, message) == [("h/cpu/idle", AT, 1.0), ("h/cpu/^v", AT, 9.0)]


@pytest.mark.parametrize(
    ("interval", "field"),
    [
        ("900s", {}),
        ("15 min", {}),
        ("^step", {"step": 900}),
        ("^step", {"step": "15min"}),
        ("^step", {"step": "PT15M"}),
    ],
)
def test_a_start_and_an_interval_are_the_times_of_a_list(interval: str, field: dict[str, object]) -> None:
    settings = InputSettings(each="values", series_id="^id", timestamp="^start", interval=interval, value="$value")
    message = {"id": "m", "start": AT, "values": [1, 2, None], **field}
    assert readings(settings, message) == [("m", AT, 1.0), ("m", AT + 900, 2.0), ("m", AT + 1_800, None)]


@pytest.mark.parametrize("span", [0, -1, 1e300, "soon", None, True, "1M", "PT", 10**400, "9" * 50])
def test_an_interval_that_is_none_makes_a_dead_letter(span: object) -> None:
    settings = InputSettings(each="v", series_id="^id", timestamp="^t", interval="^step", value="$value")
    letter = refused(settings, {"id": "m", "t": AT, "v": [1], "step": span})
    assert "not a number of seconds or a duration" in letter.reason
    assert letter.kind is Kind.FIELD


BAD: dict[str, tuple[InputSettings, object, Kind, str]] = {
    "no container": (LIST, {"device": "d"}, Kind.FIELD, "no field readings; the message has device; set input.each"),
    "no list": (
        LIST,
        {"readings": 5},
        Kind.FIELD,
        "readings is the number 5, and input.each wants an array or an object",
    ),
    "null": (LIST, {"readings": None}, Kind.FIELD, "readings is null, and input.each wants"),
    "a value": (
        LIST,
        listed(one(), one(value="x")),
        Kind.FIELD,
        'not an event: readings.1: v is the text "x", not a number',
    ),
    "a large value": (LIST, listed(one(), one(value=1e19)), Kind.NUMBER, "readings.1: v: 1e+19 is not a finite"),
    "a name": (LIST, listed(one(None)), Kind.FIELD, "readings.0: metric is null, and a part of a name"),
    "a time": (LIST, listed(one(), one(), one(time="soon")), Kind.TIME, 'readings.2: t: "soon" is no time in ISO 8601'),
    "the future": (
        LIST,
        listed(one(), one(time=4e9)),
        Kind.FUTURE,
        "readings.1: t: the number 4000000000.0 is farther",
    ),
    "a time that is none": (LIST, listed(one(time=None)), Kind.FIELD, "readings.0: t is null, not a time"),
    "a part that is missing": (
        LIST,
        listed({"metric": "m", "t": AT}),
        Kind.FIELD,
        "readings.0: no field v; the element has metric, t",
    ),
    "an element that is no object": (
        LIST,
        listed(5),
        Kind.FIELD,
        "readings.0: no field metric: the element is the number 5",
    ),
    "nothing around": (
        InputSettings(each="a.*.b", series_id="^^x", timestamp="t", value="v"),
        {"a": [{"b": [{"t": AT, "v": 1}]}]},
        Kind.FIELD,
        "a.0.b.0: no field ^^x; the message has a",
    ),
    "an inner container": (
        InputSettings(each="a.*.b", series_id="^^x", timestamp="t", value="v"),
        {"a": [{"b": []}, {"c": []}]},
        Kind.FIELD,
        "a.1: no field b; the element has c",
    ),
    "a number of a wide record": (
        WIDE,
        {"id": "d", "ts": AT, "temp": 1, "hum": "x"},
        Kind.FIELD,
        'hum is the text "x"',
    ),
    "no field of a wide record": (
        WIDE,
        {"id": "d", "ts": AT, "rssi": 5},
        Kind.FIELD,
        "none of input.values (temp, hum, in.x) in id, ts, rssi",
    ),
    "two fields of one name": (
        InputSettings(series_id="{id}/{$field}", timestamp="ts", values=("in.*", "out.*")),
        {"id": "d", "ts": AT, "in": {"x": 1}, "out": {"y": 2, "x": 3}},
        Kind.FIELD,
        "two of input.values are called x, and would be one series",
    ),
    "a name that is in an array": (
        InputSettings(each="r", series_id="$name", timestamp="t", value="v"),
        {"r": [{"t": AT, "v": 1}]},
        Kind.FIELD,
        "r.0: no $name: the elements are in an array, and $index is their place there",
    ),
    "an interval of an object": (
        InputSettings(each="r", series_id="^s", timestamp="^t", value="$value", interval="1h"),
        {"s": "a", "t": AT, "r": {"x": 1}},
        Kind.FIELD,
        "r.x: input.interval wants an array, and this is an object",
    ),
    "a time after an interval": (
        InputSettings(each="r", series_id="^s", timestamp="^t", value="$value", interval="365 days"),
        {"s": "a", "t": AT, "r": [1] * 9},
        Kind.FUTURE,
        'r.4: ^t: "2027-11-13T22:13:20Z" is farther in the future',
    ),
    "too many": (
        InputSettings(each="r", series_id="^s", timestamp="^t", value="$value", max_readings=3),
        {"s": "a", "t": AT, "r": [1] * 4},
        Kind.SIZE,
        "more than 3 readings, as many as input.max_readings",
    ),
    "too many fields": (
        InputSettings(series_id="{s}/{$field}", timestamp="t", values=("*",), max_readings=3),
        {"s": "a", "t": AT, "a": 1, "b": 2, "c": 3, "d": 4},
        Kind.SIZE,
        "more than 3 readings",
    ),
    "an array without each": (WIDE, [1, 2], Kind.EVENT, "a JSON array of 2, not an object"),
}


@pytest.mark.parametrize("name", BAD)
def test_one_bad_element_makes_the_whole_message_one_letter_that_says_which(name: str) -> None:
    settings, value, kind, reason = BAD[name]
    letter = refused(settings, value)
    assert letter.kind is kind
    assert reason in letter.reason
    assert letter.value == json.dumps(value).encode(), "it can be sent again whole"


def test_a_bad_message_takes_none_of_its_neighbours_with_it() -> None:
    bad = listed(one("x"), one("y", time="soon"))
    worse = listed(one("x"), one("y", value="v"))
    events, letters = read(LIST, listed(one("a")), bad, listed(one("b"), one("c")), worse, listed(one("d")))
    assert list(events.series) == ["d/a", "d/b", "d/c", "d/d"]
    assert events.offset.tolist() == [10, 12, 12, 14]
    assert [letter.offset for letter in letters] == [11, 13]


@pytest.mark.parametrize(
    "wrong",
    [
        {"values": ("a", "b")},
        {"values": ("a",), "value": "v", "series_id": "{$field}"},
        {"series_id": "{$field}"},
        {"series_id": "$name"},
        {"timestamp": "^t"},
        {"interval": "1h"},
        {"each": "a", "interval": "0"},
        {"each": "a", "interval": "-5"},
        {"each": "a", "interval": "1e999"},
        {"each": "a", "interval": "^^x"},
        {"each": "a", "interval": ""},
        {"values": ("a", "a"), "series_id": "{$field}"},
        {"each": "$key"},
        {"each": "^a"},
        {"each": "a", "series_id": "^^s"},
        {"values": ("$key.*",), "series_id": "{$field}"},
    ],
    ids=str,
)
def test_settings_that_fit_no_message_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        InputSettings(**wrong)


@pytest.mark.parametrize("collecting", [True, False])
def test_reading_leaves_the_garbage_collector_as_it_was(collecting: bool) -> None:
    before = gc.isenabled()
    try:
        (gc.enable if collecting else gc.disable)()
        assert readings(LIST, listed(one())) == [("d/m", AT, 1.0)]
        refused(LIST, b"[" * 100_000)
        assert gc.isenabled() is collecting
    finally:
        (gc.enable if before else gc.disable)()


CELLS = st.sampled_from([1, 2.5, None, "x", True, 1e19, [], {}, "soon", AT])
ELEMENTS = st.dictionaries(st.sampled_from(["metric", "t", "v"]), CELLS, max_size=3) | CELLS
MESSAGES = st.builds(lambda found: {"device": "d", "readings": found}, st.lists(ELEMENTS, max_size=4) | CELLS)
GOOD = st.builds(lambda count: listed(*[one(str(i)) for i in range(count)]), st.integers(0, 4))


@given(st.lists(MESSAGES | GOOD, max_size=6))
def test_a_message_is_all_of_its_elements_or_one_letter_whatever_is_beside_it(messages: list[Any]) -> None:
    events, letters = read(LIST, *messages)
    bad = {letter.offset - 10 for letter in letters}
    assert len(letters) == len(bad)
    for place, message in enumerate(messages):
        own = [at for at in events.offset.tolist() if at == 10 + place]
        found = message["readings"]
        assert len(own) == (0 if place in bad else len(found))
        alone, refused_alone = read(LIST, message)
        assert (len(alone), len(refused_alone)) == (len(own), int(place in bad))
