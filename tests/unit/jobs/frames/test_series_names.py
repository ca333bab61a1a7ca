"""Names of series: two are never one without a word, one never two, and a model knows them again as numbers or text."""

import uuid
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.frames.series_names import Named, note_names, read_series
from pipeline.errors import ConfigError

ONE, TWO = uuid.UUID(int=1), uuid.UUID(int=2)


def read(*ids: Any, kind: Any = object) -> Named:
    return read_series(pd.DataFrame({"id": pd.Series(list(ids), dtype=kind)}), "id")


@pytest.mark.parametrize(
    ("ids", "kind", "names", "labels"),
    [
        ([12, 7], "int64", ["12", "7"], [12, 7]),
        ([12.0, 7.0], "float64", ["12", "7"], [12, 7]),
        ([12.0, 7.0], "Float64", ["12", "7"], [12, 7]),
        ([12, 7], "Int64", ["12", "7"], [12, 7]),
        ([12.0, 7.5], "float64", ["12", "7.5"], [12, 7.5]),
        ([12, 7], "category", ["12", "7"], [12, 7]),
        (["b", "a"], "category", ["a", "b"], ["a", "b"]),
        (["007", "12"], "str", ["007", "12"], ["007", "12"]),
        (["1.50", "2.0"], "str", ["1.50", "2.0"], ["1.50", "2.0"]),
        ([True, False], "bool", ["False", "True"], [False, True]),
        ([b"b", b"a"], object, ["a", "b"], [b"a", b"b"]),
        ([TWO, ONE], object, [str(ONE), str(TWO)], [ONE, TWO]),
        ([Decimal("2.50"), Decimal(1)], object, ["1", "2.5"], [Decimal(1), Decimal("2.50")]),
        ([("b", 1), ("a", 2)], object, ["('a', 2)", "('b', 1)"], [("a", 2), ("b", 1)]),
        ([np.int64(12), np.int32(7)], object, ["12", "7"], [12, 7]),
        (["b", "a"], pd.ArrowDtype(pa.string()), ["a", "b"], ["a", "b"]),
        ([12, 7], pd.ArrowDtype(pa.float64()), ["12", "7"], [12, 7]),
        ([b"b", b"a"], pd.ArrowDtype(pa.binary()), ["a", "b"], [b"a", b"b"]),
    ],
)
def test_every_kind_of_name_has_its_text(ids: list[Any], kind: Any, names: list[str], labels: list[Any]) -> None:
    found = read(*ids, *ids, kind=kind)
    assert (found.names, list(found.labels), found.remarks) == (names, labels, ())
    assert [found.names[place] for place in found.row[:2]] == [found.names[place] for place in found.row[2:]]


@pytest.mark.parametrize(
    "kind", ["int8", "int64", "uint64", "float32", "float64", "Int64", "Float64", object, "category"]
)
def test_integers_are_the_same_series_in_every_kind_of_column(kind: Any) -> None:
    assert read(3, 1, 2, kind=kind).names == ["1", "2", "3"]
    assert read("3", "1", "2").names == ["1", "2", "3"]


@given(st.lists(st.one_of(st.integers(0, 3), st.floats(0, 3), st.booleans(), st.sampled_from(["1", "a", "2.0", " 1"]))))
def test_rows_of_one_name_are_of_equal_labels_and_the_order_changes_nothing(ids: list[Any]) -> None:
    try:
        found = read(*ids)
    except ConfigError as error:
        assert "which would be one series" in str(error)
        return
    for place, label in zip(found.row.tolist(), ids, strict=True):
        assert found.labels[place] == label
        assert isinstance(found.labels[place], str) == isinstance(label, str)
    back = read(*reversed(ids))
    assert back.names == found.names
    assert back.row.tolist() == found.row.tolist()[::-1]


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        ((1, "1"), r"holds 1 \(int\) and '1' \(str\), which would be one series, 1: make them of one kind"),
        ((1.0, "1"), r"holds 1.0 \(float\) and '1' \(str\), which would be one series"),
        ((b"a", "a"), r"holds b'a' \(bytes\) and 'a' \(str\), which would be one series"),
        (("True", True), "which would be one series, True"),
        ((ONE, str(ONE)), "which would be one series"),
        (("a", None), "row 2: id .* is not a name: drop the row, or name its series"),
        ((1.0, np.nan), "row 2: id nan is not a name"),
        ((pd.NaT, "a"), "row 1: id NaT is not a name"),
        (("a", pd.NA), "row 2: id .* is not a name"),
        (("a", "  "), "row 2: id .* is not a name"),
        (("a", ""), "row 2: id .* is not a name"),
        ((b"\xff\xfe",), r"row 1: id b'.xff.xfe' is not a name: write text"),
        ((2.0**53, 1.0), "row 1: id 9007199254740992.0 is not a name: .* with all its digits"),
        ((np.inf, 1.0), "row 1: id inf is not a name"),
        (({}, {}), "holds what cannot be a name"),
        (([1], [2]), "holds what cannot be a name"),
    ],
)
def test_what_is_no_name_or_would_join_two_series_is_refused(ids: tuple[Any, ...], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read(*ids)


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        ((1, "a"), "column id holds numbers and text: each is a series by its text"),
        ((True, 1), "column id holds numbers and true and false: each is a series by its text"),
        ((1, 1.0), "in column id 1 and 1.0 are one series, 1"),
        ((Decimal(1), 1), "in column id 1 and 1 are one series, 1"),
        (("1.0", "12.0"), "column id is of whole numbers that became floats: 1.0 is read as 1"),
        (("a", "a "), "in column id 'a' and 'a ' are two series"),
        (("7", "007"), "in column id '7' and '007' are two series"),
        (("\u00e9", "e\u0301"), r"in column id '\xe9' and 'e\u0301' are two series"),
        (("a", "nan"), "column id has a series named nan: was its name missing?"),
        (("None", "a"), "column id has a series named None: was its name missing?"),
    ],
)
def test_what_a_person_may_read_otherwise_is_said(ids: tuple[Any, ...], words: str) -> None:
    assert read(*ids).remarks == (words,)


def test_text_of_whole_floats_is_known_as_the_integers_that_it_was() -> None:
    found = read("12.0", "7.0")
    assert (found.names, found.labels) == (["12", "7"], ["12.0", "7.0"])


def test_a_name_that_the_model_knows_by_another_spelling_is_said() -> None:
    assert note_names(["7"], "numbers", ["007"], "text") == ["series '7' is unknown to the model, which knows '007'"]
    assert note_names(["a ", "B"], "text", ["a", "b"], "text") == [
        "series 'a ' is unknown to the model, which knows 'a'; 1 more are like it"
    ]
    (note,) = note_names(["7", "8"], "numbers", ["7"], "text")
    assert note.startswith("names of series are numbers here and were text when the model was fitted")
    assert note_names(["7", "new"], "text", ["7"], "text") == []
    assert note_names(["7"], "text", ["7"], None) == []
