"""Every kind of table is read as its pandas frame: polars, Arrow, a Series, an index of times or periods."""

import warnings
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from jobs.frames.columns import Columns
from jobs.frames.dataframes import name_periods
from jobs.frames.frames import Readings, read_frame, read_table, write_frame
from jobs.frames.grid_choice import Wish
from pipeline.errors import ConfigError
from pipeline.grid.frequency import Frequency
from tests.unit.jobs.tiny import make_forecaster, make_frame, make_wave

LONG = make_frame(a=np.arange(30.0), b=np.arange(20.0))
ONE = make_frame(a=np.arange(30.0)).drop(columns="series_id")
INDEXED = ONE.set_index("time")


@pytest.fixture
def polars() -> ModuleType:
    """The library, where it is installed."""
    found: ModuleType = pytest.importorskip("polars", reason="polars is not installed: pip install polars")
    return found


def read(table: Any, **columns: str) -> Readings:
    return read_frame(table, Columns(**columns), frequency=Wish(), duplicates=None)


def assert_same(table: Any, expected: Readings, **columns: str) -> Readings:
    found = read(table, **columns)
    assert found.names == expected.names
    assert found.history.observed_at.tolist() == expected.history.observed_at.tolist()
    assert found.history.value.tolist() == expected.history.value.tolist()
    assert found.frequency.text == expected.frequency.text
    return found


class Stream:
    """A table of a library that pandas does not know, which gives itself as Arrow."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return pa.Table.from_pandas(LONG).__arrow_c_stream__(requested_schema)


class Foreign:
    """A table that can make itself a pandas frame."""

    def to_pandas(self) -> pd.DataFrame:
        return LONG


class Lazy:
    """A table that is yet to be computed."""

    def compute(self) -> pd.DataFrame:
        return LONG


ARROW = pa.Table.from_pandas(LONG)


@pytest.mark.parametrize(
    "table",
    [ARROW, ARROW.to_reader(), ARROW.combine_chunks().to_batches()[0], Stream(), Foreign()],
    ids=lambda t: type(t).__name__,
)
def test_what_gives_itself_as_arrow_is_read_as_the_frame(table: Any) -> None:
    assert_same(table, read(LONG))


def test_a_polars_frame_is_read_as_the_frame(polars: ModuleType) -> None:
    table, expected = polars.from_pandas(LONG), read(LONG)
    assert_same(table, expected)
    assert_same(table.with_columns(polars.col("series_id").cast(polars.Categorical)), expected)
    assert_same(table.with_columns(polars.col("time").cast(polars.Datetime("ms"))), expected)
    assert_same(table.with_columns(polars.col("value").cast(polars.Decimal(10, 2))), expected)
    zoned = read(table.with_columns(polars.col("time").dt.replace_time_zone("Europe/Berlin")))
    assert str(zoned.zone) == "Europe/Berlin"
    days = polars.DataFrame(
        {"time": polars.date_range(pd.Timestamp("2026-01-01"), pd.Timestamp("2026-01-20"), eager=True)}
    )
    assert read(days.with_columns(value=1.0)).frequency.text == "1D"
    with pytest.raises(ConfigError, match=r"LazyFrame is not computed yet: give its \.collect\(\)"):
        read(table.lazy())
    with pytest.raises(ConfigError, match="an Arrow table: Series cannot be read as one"):
        read(table["value"])


def test_a_forecast_of_polars_is_that_of_pandas(polars: ModuleType) -> None:
    frame = make_frame(a=make_wave(), b=make_wave(50, seed=2))
    forecaster = make_forecaster(training={"steps": 3}).fit(polars.from_pandas(frame))
    pd.testing.assert_frame_equal(forecaster.predict(polars.from_pandas(frame)), forecaster.predict(frame))


@pytest.mark.parametrize(
    ("table", "name"),
    [
        (INDEXED.rename_axis(None), "time"),
        (INDEXED.rename_axis("Date"), "Date"),
        (INDEXED.rename_axis("ds"), "ds"),
        (INDEXED.set_index(INDEXED.index, drop=False), "time"),
        (ONE.set_index("time", drop=False), "time"),
        (INDEXED["value"], "time"),
        (INDEXED["value"].rename("kwh").rename_axis(None), "time"),
        (pd.Series(np.arange(30.0), index=pd.period_range("2026-01-01", periods=30, freq="h")), "time"),
    ],
)
def test_an_index_of_times_is_the_time(table: Any, name: str) -> None:
    assert assert_same(table, read(ONE)).columns.time == name


@pytest.mark.parametrize(
    ("levels", "series", "time"),
    [
        (["item_id", "timestamp"], "item_id", "timestamp"),
        ([None, None], "level_0", "time"),
        (["meter", None], "meter", "time"),
    ],
)
def test_an_index_of_series_and_times_is_both(levels: list[str | None], series: str, time: str) -> None:
    table = LONG.set_index(["series_id", "time"]).rename_axis(levels)
    found = assert_same(table, read(LONG))
    assert (found.columns.series_id, found.columns.time) == (series, time)
    assert_same(table["value"], read(LONG))


def test_the_value_of_a_series_may_be_named() -> None:
    assert assert_same(INDEXED["value"].rename("kwh"), read(ONE), value="kwh").columns.value == "kwh"


def test_names_of_columns_may_be_numbers() -> None:
    assert_same(ONE.set_axis([0, 1], axis=1), read(ONE), time="0", value="1")


PERIODS = [
    ("M", "MS"),
    ("2M", "2MS"),
    ("Q-DEC", "QS-JAN"),
    ("Q-JAN", "QS-FEB"),
    ("Q-NOV", "QS-MAR"),
    ("Y-DEC", "YS-JAN"),
    ("Y-JUN", "YS-JUL"),
    ("W-SUN", "W-MON"),
    ("W-WED", "W-THU"),
    ("D", "1D"),
    ("3D", "3D"),
    ("B", "B"),
    ("h", "1h"),
    ("15min", "15min"),
    ("s", "1s"),
]


@pytest.mark.parametrize(("periods", "frequency"), PERIODS)
def test_periods_give_the_frequency_and_come_back_as_periods(periods: str, frequency: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        index = pd.period_range("2001-01-01", periods=20, freq=periods)
        text = index.astype(str).tolist()
    assert name_periods(periods) == frequency
    found = read(pd.DataFrame({"time": index[:18], "value": np.arange(18.0)}))
    assert (found.frequency.text, found.notes()) == (frequency, [])
    first = found.frequency.step_of(found.history.observed_at[-1:]) + 1
    row = np.zeros(1, np.int64)
    forecast = write_frame(found, row, first, np.zeros((1, 2, 13)), frequency=found.frequency, more={})
    if not periods[0].isdigit():  # the grid of several months or days begins elsewhere
        assert forecast["time"].astype(str).tolist() == text[18:]
        assert forecast["origin"].astype(str).tolist() == [text[17]] * 2


def test_periods_in_a_column_of_objects_are_periods() -> None:
    periods = pd.Series(list(pd.period_range("2001-01", periods=9, freq="M")), dtype=object)
    found = read(pd.DataFrame({"time": periods, "value": np.arange(9.0)}))
    assert (found.frequency.text, found.period) == ("MS", "M")


def test_periods_are_laid_on_another_frequency_that_is_given() -> None:
    frame = pd.DataFrame({"time": pd.period_range("2001-01-01", periods=60, freq="D"), "value": np.arange(60.0)})
    found = read_frame(frame, Columns(), frequency=Frequency("MS"), duplicates="sum")
    assert found.history.value.tolist() == [465.0, 1246.0, 59.0]


def test_a_file_with_an_index_of_times_is_read(tmp_path: Any) -> None:
    INDEXED.rename_axis("Date").to_parquet(tmp_path / "values.parquet")
    assert_same(read_table(tmp_path / "values.parquet", Columns()), read(ONE))


REFUSED: dict[str, tuple[Any, str]] = {
    "a list": (
        [1.0],
        "a pandas DataFrame is needed, or a Series with times as its index, a polars DataFrame or .*, not list",
    ),
    "a dict": ({"time": []}, "not dict"),
    "an array": (np.ones(3), "not ndarray"),
    "nothing": (None, "not NoneType"),
    "an Arrow column": (pa.chunked_array([[1, 2]]), "ChunkedArray cannot be read as one"),
    "a Series without times": (ONE["value"], r"a Series needs times as its index: series.index = pd.to_datetime\("),
    "a lazy table": (Lazy(), r"Lazy is not computed yet: give its \.compute\(\)"),
    "periods of two lengths": (
        pd.DataFrame({"time": [pd.Period("2001-01", "M"), pd.Period("2001", "Y")], "value": 1.0}),
        "column time holds what are not periods of one length",
    ),
    "two times": (
        ONE.set_index("time", drop=False).rename_axis("Date"),
        "columns time and Date may each be that of time",
    ),
    "an index beside a column": (
        ONE.set_index("time", drop=False).rename_axis(None),
        "the index and column time are both times",
    ),
    "two levels of columns": (
        pd.DataFrame(np.ones((2, 1)), columns=[["Close"], ["A"]]),
        "have 2 levels: make one of them",
    ),
    "two levels of series": (
        LONG.assign(store=1).set_index(["store", "series_id", "time"]).rename_axis(["store", "item", "time"]),
        "columns store and item may each be that of series_id: .* make one of them: frame = frame.reset_index",
    ),
    "a column per series": (INDEXED.assign(north=1.0, south=2.0).drop(columns="value"), "if north, south are series"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_table_of_rows_says_what_to_give(case: str) -> None:
    table, words = REFUSED[case]
    with pytest.raises(ConfigError, match=words) as refused:
        read(table)
    assert "\n" not in str(refused.value)


def test_without_pyarrow_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(table: object) -> pd.DataFrame:
        raise ImportError

    monkeypatch.setattr(pd.DataFrame, "from_arrow", fail)
    with pytest.raises(ConfigError, match=r"needs pyarrow: pip install 'tidecast\[parquet\]'"):
        read(ARROW)
