"""Any bytes under any mapping are events, one dead letter or nothing, and never an exception."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.grid.frequency import Frequency
from pipeline.messages.codec import Reader
from pipeline.records import Envelope, Messages
from pipeline.settings import InputSettings
from tests.unit.messages.reading import AT, NOW

PATHS = st.sampled_from(
    [
        *("a", "b", "a.b", "a.0", "a.b.c", "0", "^a", "^^b", "^a.b", "payload.a", "after.a", "..", "a.*"),
        *("$key", "$key.a", "$header.h", "$topic", "$partition", "$timestamp", "$value", "$name", "$index", "$field"),
    ]
)
TEMPLATES = st.lists(PATHS.map(lambda path: f"{{{path}}}") | st.sampled_from(["/", "{{", "x"]), max_size=3).map("".join)
CONDITIONS = st.builds(
    lambda path, rest: f"{path} {rest}",
    PATHS,
    st.sampled_from(["== 1", "!= 'x'", "== null", "in ['x', 2]", "not in [null]", "< 5", ">= -1e3", "== true"]),
)


@st.composite
def mappings(draw: st.DrawFn) -> InputSettings:
    """Settings that pass, of any kind."""
    some = {
        "value": st.sampled_from(["a", "a.b", "a.0", "$value", "b", "1"]) | PATHS,
        "covariates": st.lists(PATHS, max_size=2, unique=True).map(tuple),
        "envelope": st.sampled_from(["none", "connect", "debezium"]),
        "each": st.sampled_from(["$value", "*", "a", "a.*", "a.*.b", "payload", "*.*"]),
        "values": st.lists(st.sampled_from(["a", "a.b", "*", "a.*", "^b", "$value"]), min_size=1, max_size=2).map(
            tuple
        ),
        "interval": st.sampled_from(["15 min", "^a", "b", "1000 days"]),
        "skip": st.lists(CONDITIONS, max_size=2).map(tuple),
        "lenient": st.booleans(),
        "decimal_comma": st.booleans(),
        "missing": st.sampled_from([(), ("x", "5")]),
        "timezone": st.sampled_from(["Europe/Berlin", "UTC"]),
        "tombstones": st.sampled_from(["skip", "refuse"]),
        "max_readings": st.integers(1, 6),
    }
    names = draw(st.lists(st.sampled_from(sorted(some)), unique=True, max_size=8))
    chosen = {name: draw(some[name]) for name in names}
    chosen["series_id"] = draw(st.sampled_from(["$topic", "s", "{s}/{$partition}", "^s"]) | PATHS | TEMPLATES)
    chosen["timestamp"] = draw(st.sampled_from(["$timestamp", "$timestamp", "t", "^t"]) | PATHS)
    if "values" in chosen:
        chosen.pop("value", None)
        chosen["series_id"] = "{$field}" + draw(st.sampled_from(["", "/{a}", "/{$name}"]))
    if "each" not in chosen:
        chosen.pop("interval", None)
    try:
        return InputSettings(**chosen)
    except ValidationError:
        assume(False)
        raise


NAMES = st.sampled_from(
    ["a", "b", "c", "0", "payload", "schema", "after", "op", "series_id", "timestamp", "value", "a.b"]
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(
        [AT, AT * 1000, "c", "d", "r", "x", "1,5", "2.5", "", "NaN", "2023-11-14T22:13:20Z", '{"a": 1}', "[1]"]
    )
    | st.text(max_size=4)
)
TREES: st.SearchStrategy[Any] = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=5), max_leaves=20
)
OBJECTS = st.dictionaries(NAMES, TREES, max_size=6)
BYTES = (OBJECTS | TREES).map(lambda tree: json.dumps(tree).encode()) | st.none() | st.binary(max_size=30)
ROW = {"s": "n", "t": AT, "v": 1.5}
PLAIN = {"series_id": "s", "timestamp": "t", "value": "v"}
FAMILIES: list[tuple[dict[str, Any], Any]] = [
    (PLAIN, ROW),
    (PLAIN | {"lenient": True}, ROW),
    (PLAIN | {"value": "a.v", "covariates": ("b.c",)}, {"s": "n", "t": AT, "a.v": 1.5, "b.c": 2}),
    (PLAIN | {"value": "a.v", "covariates": ("b.c",)}, {"s": "n", "t": AT, "a": {"v": 1.5}, "b": {"c": 2}}),
    (PLAIN | {"value": "a.b.1", "covariates": ("a.c",)}, ROW | {"a": {"b": [1, 2], "c": 3}}),
    (
        {"series_id": "p.q.s", "timestamp": "p.t", "value": "p.q.v", "covariates": ("p.q.w", "c")},
        {"p": {"q": {"s": "n", "v": 1.5, "w": 2}, "t": AT}},
    ),
    (
        {"series_id": "p.q.s", "timestamp": "p.t", "value": "p.q.v", "covariates": ("p.q.w", "c"), "lenient": True},
        {"p": {"q": {"s": "n", "v": 1.5}, "t": AT, "q.v": 3}},
    ),
    ({"series_id": "{$key}/{s}", "timestamp": "$timestamp", "value": "v"}, ROW),
    (PLAIN | {"envelope": "connect"}, {"schema": None, "payload": ROW}),
    (PLAIN | {"envelope": "debezium", "timestamp": "^ts"}, {"op": "c", "after": ROW, "ts": AT}),
    (PLAIN | {"each": "r", "series_id": "{^s}/{s}"}, {"s": "d", "r": [ROW, ROW | {"s": "m"}, ROW]}),
    ({"each": "r", "series_id": "$name", "timestamp": "^t", "value": "$value"}, {"t": AT, "r": {"a": 1, "b": None}}),
    ({"each": "*.*.r", **PLAIN}, {"x": [{"r": [ROW]}, {"r": {"q": ROW}}], "y": {"z": {"r": []}}}),
    ({"series_id": "{s}/{$field}", "timestamp": "t", "values": ("*", "a.*", "b")}, ROW | {"a": {"c": 1}, "b": 2}),
    (
        {"each": "v", "series_id": "^s", "timestamp": "^t", "value": "$value", "interval": "^i"},
        {"s": "d", "t": AT, "i": "PT15M", "v": [1, None, 2]},
    ),
]
MORE = st.fixed_dictionaries(
    {},
    optional={
        "skip": st.lists(CONDITIONS, max_size=1).map(tuple),
        "lenient": st.booleans(),
        "missing": st.just(("x", "1.5")),
        "max_readings": st.integers(1, 3),
        "timezone": st.just("Europe/Berlin"),
    },
)


@st.composite
def damaged(draw: st.DrawFn, tree: Any) -> Any:
    """A tree of JSON with one of its parts replaced or gone."""
    if isinstance(tree, dict) and tree and draw(st.integers(0, 3)):
        name = draw(st.sampled_from(sorted(tree)))
        gone = {own: part for own, part in tree.items() if own != name}
        return gone if draw(st.integers(0, 3)) == 0 else gone | {name: draw(damaged(tree[name]))}
    if isinstance(tree, list) and tree and draw(st.integers(0, 3)):
        place = draw(st.integers(0, len(tree) - 1))
        return [*tree[:place], draw(damaged(tree[place])), *tree[place + 1 :]]
    return draw(LEAVES)


@st.composite
def runs(draw: st.DrawFn) -> tuple[InputSettings, list[bytes | None]]:
    """A mapping and messages: some made for it, whole or damaged, some of any kind."""
    if draw(st.integers(0, 2)) == 0:
        return draw(mappings()), draw(st.lists(BYTES, max_size=4))
    chosen, message = draw(st.sampled_from(FAMILIES))
    try:
        mapping = InputSettings(**(chosen | draw(MORE)))
    except ValidationError:
        assume(False)
    good = st.just(json.dumps(message).encode())
    bad = damaged(message).map(lambda tree: json.dumps(tree).encode())
    return mapping, draw(st.lists(good | bad | bad | BYTES, max_size=5))


def outcome(reader: Reader, messages: Messages) -> dict[int, Any]:
    """What became of each offset: its letter's reason, or its events in their order."""
    events, letters = reader.read(messages, NOW)
    found: dict[int, Any] = {letter.offset: letter.reason for letter in letters}
    assert len(found) == len(letters), "a message has one letter at most"
    rows = zip(
        events.offset.tolist(),
        events.series,
        events.event_time.tolist(),
        events.value.tolist(),
        events.observed.tolist(),
        np.nan_to_num(events.covariates).tolist(),
        strict=True,
    )
    for offset, *row in rows:
        assert not isinstance(found.get(offset), str), "a message is read whole or refused whole"
        found.setdefault(offset, []).append(row)
    assert (np.diff(events.offset) >= 0).all()
    assert np.isfinite(events.value).all() and (np.abs(events.value) <= 1e18).all()
    assert not (np.abs(events.covariates) > 1e18).any()
    assert all(0 < len(name.encode()) <= 256 for name in events.series)
    return found


@settings(max_examples=300)
@given(runs(), st.sampled_from([b"k", b'{"a": "k"}', b"\xff", b'"q"', None]))
def test_any_bytes_under_any_mapping_have_an_outcome_that_no_neighbour_changes(
    run: tuple[InputSettings, list[bytes | None]], key: bytes | None
) -> None:
    mapping, values = run
    reader = Reader(mapping, Frequency("1s"), "t")
    count = len(values)
    messages = Messages(
        0,
        np.arange(count) * 2,
        [key] * count,
        values,
        2 * count,
        envelope=lambda i: Envelope(AT * 1_000_000 + i, (("h", b"x"), ("h", None), ("i", b"\xff"))),
    )
    together = outcome(reader, messages)
    alone: dict[int, Any] = {}
    for i in range(count):
        alone |= outcome(reader, messages.cut(i, i + 1))
    assert together == alone
    for found in together.values():
        if isinstance(found, str):
            assert found.isprintable() and 0 < len(found) <= 500
        else:
            assert len(found) <= mapping.max_readings


@pytest.mark.parametrize("place", range(len(FAMILIES)))
def test_each_family_of_messages_is_read_when_it_is_whole(place: int) -> None:
    chosen, message = FAMILIES[place]
    value = json.dumps(message).encode()
    messages = Messages(0, np.array([0]), [b"k"], [value], 1, envelope=lambda i: Envelope(AT * 1_000_000))
    assert isinstance(outcome(Reader(InputSettings(**chosen), Frequency("1s"), "t"), messages)[0], list)
