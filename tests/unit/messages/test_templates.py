"""Names of series from several parts of a message."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.fields import parse_path, parse_template
from pipeline.records import Kind
from pipeline.settings import InputSettings
from tests.unit.messages.reading import AT, readings, refused

EVENT = {"timestamp": AT, "value": 1, "device": "a", "n": 7, "on": True, "tags": {"room": "x"}}


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{device}/{tags.room}", "a/x"),
        ("{device}{n}", "a7"),
        ("{on}", "true"),
        ("plant/{device}", "plant/a"),
        ("{{{device}}}", "{a}"),
        ("{$topic}.{$partition}.{device}", "plant.3.a"),
        ("{$key}:{$header.site}", "k:s"),
        ("constant{{}}", "constant{}"),
    ],
)
def test_a_name_is_made_of_texts_and_parts(template: str, name: str) -> None:
    record = {"key": b"k", "headers": (("site", b"s"),)}
    assert readings(InputSettings(series_id=template), EVENT, **record) == [(name, AT, 1.0)]


@pytest.mark.parametrize(
    ("template", "part", "reason"),
    [
        ("{device}/{metric}", {}, "no field metric; the message has timestamp, value, device"),
        ("{device}/{tags.unit}", {}, "no field tags.unit; tags has room"),
        ("{device}/{$header.site}", {}, "no $header.site: the record has no headers"),
        ("{device}", {"device": ""}, "device is empty, and a part of a name is a text or an integer"),
        ("{device}", {"device": None}, "device is null, and a part"),
        ("{device}", {"device": 1.5}, "device is the number 1.5, and a part"),
        ("{device}", {"device": ["a"]}, "device is a list of 1, and a part"),
        ("{n}", {"n": 10**50}, "n is the number 1000000000"),
    ],
)
def test_a_part_that_is_missing_or_no_text_is_named(template: str, part: dict[str, object], reason: str) -> None:
    letter = refused(InputSettings(series_id=template), EVENT | part)
    assert letter.kind is Kind.FIELD
    assert reason in letter.reason


@pytest.mark.parametrize(("device", "found"), [("x" * 250, "has 257 bytes"), ("\0", "holds a NUL")])
def test_the_whole_name_has_the_bounds_of_a_name(device: str, found: str) -> None:
    letter = refused(InputSettings(series_id="{device}/abcdef"), EVENT | {"device": device})
    assert letter.kind is Kind.NAME
    assert found in letter.reason and "input.series_id" in letter.reason


@pytest.mark.parametrize("template", ["{", "}", "a}b", "{a{b}}", "{}", "{a}}", "{$header}", "{^a}"])
def test_a_template_that_is_none_is_refused_with_the_settings(template: str) -> None:
    with pytest.raises(ValidationError, match=r"write|no object around"):
        InputSettings(series_id=template)


@given(st.lists(st.text("ab{}", max_size=4) | st.sampled_from(["x", "y.z"]).map(parse_path), max_size=5))
def test_what_is_written_as_a_template_is_read_as_it_was_meant(pieces: list[object]) -> None:
    def escaped(piece: object) -> str:
        return piece.replace("{", "{{").replace("}", "}}") if isinstance(piece, str) else f"{{{piece.text}}}"  # type: ignore[attr-defined]

    def together(found: object) -> list[object]:
        joined: list[object] = []
        for piece in found:  # type: ignore[attr-defined]
            if isinstance(piece, str) and joined and isinstance(joined[-1], str):
                joined[-1] += piece
            elif piece != "":
                joined.append(piece)
        return joined

    assert together(parse_template("".join(map(escaped, pieces)))) == together(pieces)
