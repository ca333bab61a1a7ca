"""What a condition skips is no dead letter, and what lacks the field is not skipped."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.fields import Condition, parse_condition, parse_path
from pipeline.records import Kind
from pipeline.settings import InputSettings
from tests.unit.messages.reading import AT, read, readings, refused

EVENT = {"series_id": "a", "timestamp": AT, "value": 1}

HOLDS: dict[str, tuple[list[object], list[object]]] = {
    "type != 'reading'": (["x", None, 5, True, ["reading"]], ["reading"]),
    "type == 'x'": (["x"], ["y", None, 5]),
    "type == null": ([None], ["null", 0, False, ""]),
    "type != null": (["x", 0, False], [None]),
    "type == 1": ([1, 1.0], ["1", True, 2, None]),
    "type == true": ([True], [1, "true", False, None]),
    "type in ['a', \"b\", 3, null]": (["a", "b", 3, None], ["c", 4, False]),
    "type not in ['a','b']": (["c", None, 1], ["a", "b"]),
    "type in['a']": (["a"], ["b"]),
    "type < -1.5": ([-2, -1e300, -(10**30)], [-1.5, 0, "x", None, True]),
    "type>=1e2": ([100, 1e300], [99, "100"]),
    "type == 'it is > 5, or [so]'": (["it is > 5, or [so]"], ["it"]),
}


@pytest.mark.parametrize("condition", HOLDS)
def test_a_condition_skips_what_it_holds_for(condition: str) -> None:
    settings = InputSettings(skip=(condition,))
    held, others = HOLDS[condition]
    for value in held:
        events, letters = read(settings, EVENT | {"type": value})
        assert (len(events), letters) == (0, ()), value
    for value in others:
        assert readings(settings, EVENT | {"type": value}) == [("a", AT, 1.0)], value


def test_of_a_field_that_is_not_there_only_null_holds() -> None:
    for condition in HOLDS:
        events, _ = read(InputSettings(skip=(condition,)), EVENT)
        assert len(events) == ("null" not in condition or "!=" in condition), condition
    for value in ([1], "x", 5, True):
        assert refused(InputSettings(skip=("type == null",)), value).kind is Kind.EVENT


def test_any_of_several_conditions_skips() -> None:
    settings = InputSettings(skip=("type == 'status'", "site.id == 7", "$header.kind == 'x'"))
    assert readings(settings, EVENT, EVENT | {"type": "status"}, EVENT | {"site": {"id": 7}}) == [("a", AT, 1.0)]
    assert readings(settings, EVENT, headers=(("kind", b"x"),)) == []


def test_elements_are_skipped_one_by_one_and_messages_whole() -> None:
    settings = InputSettings(
        each="r", series_id="{n}", timestamp="^t", value="v", skip=("q != 'good'", "^type == 'status'", "$index > 1")
    )
    good = {"n": "a", "v": 1, "q": "good"}
    assert readings(settings, {"t": AT, "r": [good, {"q": "bad"}, good]}) == [("a", AT, 1.0)]
    events, letters = read(settings, {"type": "status"}, {"t": AT, "r": [{"q": "bad"}]})
    assert (len(events), letters) == (0, ())
    assert "no field r" in refused(settings, {"t": AT}).reason


def test_an_element_of_several_levels_can_ask_each_of_them() -> None:
    settings = InputSettings(
        each="a.*.b", series_id="s", timestamp="t", value="v", skip=("^off == true", "^^off == true")
    )
    one = {"s": "x", "t": AT, "v": 1}
    assert readings(settings, {"a": [{"b": [one]}, {"b": [{}], "off": True}]}) == [("x", AT, 1.0)]
    assert readings(settings, {"a": 5, "off": True}) == []


def test_a_condition_on_the_way_keeps_its_elements_from_being_looked_for() -> None:
    settings = InputSettings(
        each="metrics.*.gauge.points", series_id="{^name}", timestamp="t", value="v", skip=("^gauge == null",)
    )
    points = [{"t": AT, "v": 1}]
    message = {"metrics": [{"name": "a", "sum": {}}, {"name": "b", "gauge": {"points": points}}]}
    assert readings(settings, message) == [("b", AT, 1.0)]


def test_fields_of_a_wide_record_are_skipped_by_their_names() -> None:
    settings = InputSettings(
        series_id="{id}/{$field}", timestamp="t", values=("*",), skip=("$field in ['rssi', 'battery']",)
    )
    assert readings(settings, {"id": "d", "t": AT, "temp": 1, "rssi": -7}) == [("d/temp", AT, 1.0)]
    assert readings(settings, {"id": "d", "t": AT, "rssi": -7}) == [], "it had a number, which is skipped"
    assert "none of input.values" in refused(settings, {"id": "d", "t": AT}).reason


def test_the_envelope_can_be_asked() -> None:
    settings = InputSettings(envelope="debezium", skip=("^op == 'r'", "^source.table not in ['m']"))
    change = {"op": "c", "after": EVENT, "source": {"table": "m"}}
    assert readings(settings, change, change | {"op": "r"}, change | {"source": {"table": "n"}}) == [("a", AT, 1.0)]


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "type",
        "type ==",
        "== 'x'",
        "type == x",
        "type == 'x",
        "type = 'x'",
        "type in 'x'",
        "type in ['a' 'b']",
        "type < 'x'",
        "type > null",
        "type == 'a' and b == 'c'",
        "^type == 'x'",
        "$field == 'x'",
        "$name == 'x'",
        "type == __import__('os')",
        "type in [',]",
    ],
)
def test_what_is_no_condition_is_refused_with_the_settings(wrong: str) -> None:
    with pytest.raises(ValidationError):
        InputSettings(skip=(wrong,))


PLAIN = st.none() | st.booleans() | st.integers(-(10**6), 10**6).map(float) | st.text("ab ,[]<>=!'", max_size=6)


def literal(value: object) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    return (
        {None: "null", True: "true", False: "false"}.get(value, repr(value))
        if not isinstance(value, float)
        else repr(value)
    )


@given(st.sampled_from(["type", "a.b", "$header.in x", "^x"]), st.lists(PLAIN, max_size=4))
def test_a_condition_is_read_as_it_is_written(path: str, values: list[str | float | bool | None]) -> None:
    inside = ", ".join(map(literal, values))
    assert parse_condition(f"{path} in [{inside}]") == Condition(parse_path(path), "in", tuple(values))
    for value in values[:1]:
        assert parse_condition(f"{path}!={literal(value)}") == Condition(parse_path(path), "!=", (value,))
