"""Reading long frames: which columns, which times, what is merged, missing or refused."""

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from jobs.frames.columns import Columns
from jobs.frames.covariates import CovariateNames
from jobs.frames.frames import Readings, read_frame, read_table
from pipeline.errors import ConfigError
from pipeline.grid.frequency import Frequency
from pipeline.grid.stamps import read_stamps
from pipeline.grid.times import AUTO
from tests.unit.jobs.tiny import make_frame

HOURLY = Frequency("1h")
HOUR = 3_600_000_000


def read(frame: pd.DataFrame, columns: Columns | None = None, duplicates: Any = "last") -> Readings:
    return read_frame(frame, columns or Columns(), frequency=HOURLY, duplicates=duplicates)


def values(readings: Readings) -> list[float]:
    return np.where(readings.history.observed, readings.history.value, np.nan).tolist()


@pytest.mark.parametrize(
    "names",
    [("series_id", "time", "value"), ("unique_id", "ds", "y"), ("series_id", "timestamp", "value")],
)
def test_known_column_names_are_found(names: tuple[str, str, str]) -> None:
    frame = make_frame(a=[1.0, 2.0])
    frame.columns = pd.Index(names)
    assert read(frame).columns == Columns(*names)


def test_names_that_are_given_win() -> None:
    frame = make_frame(a=[1.0, 2.0]).assign(kwh=[3.0, 4.0])
    assert values(read(frame, Columns(value="kwh"))) == [3.0, 4.0]


def test_an_index_of_series_is_a_column() -> None:
    frame = make_frame(a=[1.0], b=[2.0]).rename(columns={"series_id": "unique_id"}).set_index("unique_id")
    assert read(frame).names == ("a", "b")
    both = make_frame(a=[1.0], b=[2.0]).set_index("series_id", drop=False)
    assert read(both).names == ("a", "b")


def test_rows_in_any_order_give_the_same_readings() -> None:
    frame = make_frame(b=np.arange(9.0), a=np.arange(5.0))
    one, other = read(frame), read(frame.sample(frac=1.0, random_state=1))
    assert one.names == other.names == ("a", "b")
    assert values(one) == values(other)
    assert one.history.observed_at.tolist() == other.history.observed_at.tolist()


@pytest.mark.parametrize(
    ("policy", "expected"), [("last", 3.0), ("first", 2.0), ("mean", 2.5), ("sum", 5.0), ("max", 3.0)]
)
def test_rows_of_one_step_are_merged_by_the_policy_in_the_order_of_time(policy: str, expected: float) -> None:
    times = ["2026-01-01T00:40:00", "2026-01-01T00:10:00", "2026-01-01T01:00:00"]
    readings = read(pd.DataFrame({"series_id": "a", "time": times, "value": [3.0, 2.0, 9.0]}), duplicates=policy)
    assert values(readings) == [expected, 9.0]
    assert readings.merged == 1


@pytest.mark.parametrize(
    ("time", "zone"),
    [
        (pd.Timestamp("2026-01-01T05:00:00"), None),
        (pd.Timestamp("2026-01-01T07:00:00+02:00"), "UTC+02:00"),
        (pd.Timestamp("2026-01-01T06:00:00", tz="Europe/Berlin"), "Europe/Berlin"),
        ("2026-01-01 05:00:00", None),
        ("2026-01-01T07:00:00+02:00", "UTC+02:00"),
        ("2026-01-01T05:00:00Z", "UTC"),
        (dt.datetime(2026, 1, 1, 7, tzinfo=dt.timezone(dt.timedelta(hours=2))), "UTC+02:00"),
        (np.datetime64("2026-01-01T05"), None),
        (pd.Period("2026-01-01T05", "h"), None),
        (dt.datetime(2026, 1, 1, 5, tzinfo=dt.UTC), "UTC"),
        (1_767_243_600, None),
        (1_767_243_600_000, None),
        (1_767_243_600_000_000, None),
        (1_767_243_600_000_000_000, None),
        (1_767_243_600.0, None),
        ("1767243600", None),
    ],
)
def test_every_kind_of_time_is_read_as_utc(time: Any, zone: str | None) -> None:
    readings = read(pd.DataFrame({"series_id": ["a"], "time": [time], "value": [1.0]}))
    assert readings.history.observed_at.tolist() == [1_767_243_600_000_000]
    assert (None if readings.zone is None else str(readings.zone)) == zone


def test_nan_is_missing_and_a_series_of_nothing_else_is_left_out_by_name() -> None:
    readings = read(make_frame(a=[1.0, np.nan, 3.0], dead=[np.nan, np.nan]))
    assert (readings.names, readings.left_out) == (("a",), ("dead",))
    assert np.array_equal(values(readings), [1.0, np.nan, 3.0], equal_nan=True)
    assert readings.notes() == ["1 series have no observed value and are left out: dead"]


@pytest.mark.parametrize("kind", ["float32", "int64", "Int64", "Float64", "bool", "object"])
def test_every_kind_of_number_is_read(kind: str) -> None:
    frame = make_frame(a=[1.0, 0.0])
    assert values(read(frame.assign(value=frame["value"].astype(kind)))) == [1.0, 0.0]


def test_names_keep_their_kind() -> None:
    readings = read(make_frame(a=[1.0], b=[1.0]).assign(series_id=[7, 12]))
    assert (readings.names, readings.labels) == (("12", "7"), (12, 7))


def test_without_a_column_of_series_it_is_one_and_merged_rows_are_pointed_out() -> None:
    frame = make_frame(a=[1.0, 2.0], b=[3.0, 4.0]).drop(columns="series_id")
    readings = read(frame)
    assert readings.names == ("series",)
    assert "2 rows share a step" in readings.notes()[0]


GOOD = make_frame(a=[1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"y": 1.0}, r"columns value and y may each be that of value: choose one, columns=\{'value': ...\} or --value"),
        (
            {"ds": GOOD["time"]},
            r"columns time and ds may each be that of time: choose one, .*'time': ...\} or --timestamp",
        ),
        ({"timestamp": 1, "ds": 2}, "columns time and timestamp and ds may each be that of time"),
        ({"unique_id": "b"}, r"columns series_id and unique_id may each be that of series_id: .* or --series-id"),
    ],
)
def test_two_columns_of_a_kind_are_asked_about(columns: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read(GOOD.assign(**columns))


def test_a_column_that_is_something_else_is_not_asked_about() -> None:
    assert read(GOOD.assign(y=1.0), Columns(value="y")).columns == Columns("series_id", "time", "y")
    assert read(GOOD.assign(y=1.0), Columns(value="value")).columns.value == "value"
    frame = GOOD.assign(y=[4.0, 5.0, 6.0])
    names = CovariateNames(past=("value",))
    assert read_frame(frame, Columns(), frequency=HOURLY, duplicates="last", covariates=names).columns.value == "y"


def test_a_column_per_series_is_told_how_to_become_rows() -> None:
    wide = pd.DataFrame({"ds": GOOD["time"], "north": 1.0, "south": 2.0})
    for frame in (wide, wide.set_index("ds"), wide.set_index("ds").rename_axis(None)):
        check_melt(frame)


def check_melt(wide: pd.DataFrame) -> None:
    """What the error says to write gives the two series."""
    with pytest.raises(
        ConfigError, match=r"no column value or y: .*; if north, south are series, make a row of"
    ) as refused:
        read(wide)
    time = "ds" if "ds" in wide or wide.index.name else "time"
    first = "" if "ds" in wide else f".reset_index(names={time!r})"
    line = f"frame{first}.melt({time!r}, var_name='series_id', value_name='value')"
    assert str(refused.value).endswith(f": {line}")
    table = wide if "ds" in wide else wide.reset_index(names=time)
    assert read(table.melt(time, var_name="series_id", value_name="value")).names == ("north", "south")


REFUSED: dict[str, tuple[Any, str]] = {
    "no frame": ([1.0, 2.0], "a pandas DataFrame is needed, or .* an Arrow table, not list"),
    "no rows": (GOOD.head(0), "there are no rows"),
    "no value column": (GOOD.drop(columns="value"), "no column value or y: there are series_id, time"),
    "no time column": (GOOD.drop(columns="time"), "no column time or timestamp or ds.* or --timestamp$"),
    "two value columns": (pd.concat([GOOD, GOOD[["value"]]], axis=1), "more than one column value"),
    "infinite": (GOOD.assign(value=[1.0, np.inf, 2.0]), "row 2: value inf is not finite"),
    "minus infinite": (GOOD.assign(value=[-np.inf, 1.0, 2.0]), "row 1: value -inf is not finite"),
    "too large": (GOOD.assign(value=[1.0, 1e31, 2.0]), "row 2: value 1e.31 is larger than 1e.30"),
    "text": (GOOD.assign(value=["1", "x", "2"]), "row 2: value x is not a number"),
    "all missing": (GOOD.assign(value=np.nan), "has no observed value"),
    "no series name": (GOOD.assign(series_id=["a", None, "a"]), "row 2: series_id .* is not a name"),
    "no name": (GOOD.assign(series_id=[{}, {}, {}]), "column series_id holds what cannot be a name"),
    "no time": (
        GOOD.assign(time=["2026-01-01", "soon", None]),
        'data row 2: time "soon" is no time in ISO 8601; write',
    ),
    "NaT": (GOOD.assign(time=[pd.NaT, *GOOD["time"][1:]]), "data row 1: time is missing"),
    "a counter": (GOOD.assign(time=[1, 2, 3]), "data row 1: time the number 1 looks like an uptime or another counter"),
    "years": (GOOD.assign(time=[2024, 2025, 2026]), "data row 1: time the number 2024 looks like a year"),
    "dates as numbers": (GOOD.assign(time=[20260101, 20260102, 20260103]), "looks like a date, YYYYMMDD"),
    "one zero": (GOOD.assign(time=[1_767_243_600, 0, 1_767_247_200]), "data row 2: time the number 0 is 1970"),
    "numbers before 1980": (GOOD.assign(time=[1.2e8] * 3), "is 1973-10-20 .* set oldest_time, and time_unit to s"),
    "true": (GOOD.assign(time=[True, False, True]), "data row 1: time True is no time"),
    "no period": (
        GOOD.assign(time=pd.PeriodIndex(["2026-01", None, "2026-03"], freq="M")),
        "data row 2: time is missing",
    ),
    "lists": (GOOD.assign(value=[[1.0], [2.0], [3.0]]), "row 1: value .* is not a number"),
    "times as values": (GOOD.assign(value=GOOD["time"]), "column value holds datetime64.*, not numbers"),
    "durations as values": (GOOD.assign(value=GOOD["time"].diff()), "column value holds timedelta64.*, not numbers"),
    "complex": (GOOD.assign(value=GOOD["value"].astype(complex)), "column value holds complex128, not numbers"),
    "before the grid": (GOOD.assign(time=["1850-01-01"] * 3), 'data row 1: time "1850-01-01" is outside 1900 to 2190'),
    "centuries of hours": (
        pd.concat([GOOD.assign(series_id=f"s{n}", time=["1900-01-01", "2000-01-01", "2180-01-01"]) for n in range(50)]),
        "reaches over 2,45.,... steps of 1h with 3 rows",
    ),
}


MINUTELY = Frequency("1min")


@pytest.mark.parametrize(
    ("strays", "words"),
    [
        (
            ["1981-06-01"],
            "data row 4: 1981-06-01T00:00:00Z is 23,450,419 steps of 1min away from nearly all 2,001 rows",
        ),
        (["2100-01-01"], "data row 4: 2100-01-01T00:00:00Z is"),
        (["1999-01-01"] * 5, "data row 4: 1999-01-01T00:00:00Z is"),
        (["1981-06-01", "2100-01-01"], "data row 5: 2100-01-01T00:00:00Z is"),
    ],
)
def test_a_stray_time_is_refused_before_a_grid_of_years_is_laid_out(strays: list[str], words: str) -> None:
    good = make_frame("2026-01-01", "1min", a=np.arange(2_000.0))
    stray = pd.DataFrame({"series_id": "a", "time": pd.to_datetime(strays), "value": 1.0})
    frame = pd.concat([good[:3], stray, good[3:]], ignore_index=True)
    with pytest.raises(ConfigError, match=words):
        read_frame(frame, Columns(), frequency=MINUTELY, duplicates="last")
    both = pd.concat([make_frame("2026-01-01", "1min", b=np.arange(9_000.0)), frame], ignore_index=True)
    with pytest.raises(ConfigError, match="of series a: correct its time, or leave it out"):
        read_frame(both, Columns(), frequency=MINUTELY, duplicates="last")


@pytest.mark.parametrize(
    "times",
    [
        pd.Timestamp("2021-01-01")
        + pd.to_timedelta(np.sort(np.random.default_rng(0).choice(2_700_000, 1_900, replace=False)), unit="min"),
        pd.date_range("2026-01-01", periods=300, freq="1min").append(
            pd.date_range("2027-06-01", periods=300, freq="1min")
        ),
        pd.to_datetime(["2026-01-01", "2026-04-01", "2026-07-01"]),
        pd.date_range("2026-01-01", periods=100, freq="1min").append(pd.to_datetime(["2026-03-01"])),
    ],
    ids=["rows at any time", "a gap of a year", "three rows", "one late row"],
)
def test_rows_that_are_few_or_far_apart_are_read_all_the_same(times: pd.DatetimeIndex) -> None:
    frame = pd.DataFrame({"series_id": "a", "time": times, "value": 1.0})
    read = read_frame(frame, Columns(), frequency=MINUTELY, duplicates="last")
    assert len(read.history.value) == len(times)


def test_a_grid_of_which_hardly_a_step_has_a_row_is_refused() -> None:
    times = pd.date_range("1990-01-01", "2025-01-01", freq="365D")
    frame = pd.DataFrame({"series_id": "a", "time": times, "value": 1.0})
    with pytest.raises(ConfigError, match=r"reaches over 18,396,001 steps of 1min with 36 rows: check its times"):
        read_frame(frame, Columns(), frequency=MINUTELY, duplicates="last")


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_one_line_with_the_row(case: str) -> None:
    frame, words = REFUSED[case]
    with pytest.raises(ConfigError, match=words) as refused:
        read(frame)
    assert "\n" not in str(refused.value)


def test_columns_that_are_not_there_or_not_different_are_refused() -> None:
    with pytest.raises(ConfigError, match="there is no column kwh: there are series_id, time, value"):
        read(GOOD, Columns(value="kwh"))
    with pytest.raises(ConfigError, match="must be different columns"):
        read(GOOD, Columns(series_id="time"))
    with pytest.raises(ConfigError, match="rename column step"):
        read(GOOD.rename(columns={"value": "step"}), Columns(value="step"))
    with pytest.raises(ConfigError, match="unknown key valu; there are series_id, time, value"):
        Columns.of({"valu": "y"})


def test_a_file_keeps_series_as_text(tmp_path: Path) -> None:
    file = tmp_path / "values.csv"
    file.write_text("unique_id,ds,y\n007,2026-01-01,1\n007,2026-01-01T01:00,\n", encoding="utf-8")
    readings = read(read_table(file, Columns()))
    assert readings.names == ("007",)
    assert np.array_equal(values(readings), [1.0, np.nan], equal_nan=True)


@pytest.mark.parametrize(
    ("stamps", "expected"),
    [
        (["1901", "2026", "2025"], ["1901-01-01", "2026-01-01", "2025-01-01"]),
        (["20260101", "19010203"], ["2026-01-01", "1901-02-03"]),
        (["1767225600", "1767225600000"], ["2026-01-01", "2026-01-01"]),
        (["1767225600.5", "2026-01-01T00:00Z"], ["2026-01-01T00:00:00.5", "2026-01-01"]),
    ],
)
def test_years_and_dates_of_digits_are_text_in_a_csv(stamps: list[str], expected: list[str], tmp_path: Path) -> None:
    file = tmp_path / "values.csv"
    file.write_text("time,value\n" + "".join(f"{stamp},1\n" for stamp in stamps), encoding="utf-8")
    table = read_table(file, Columns())
    times = read_stamps(table["time"], AUTO).times
    assert times.tolist() == np.array(expected, "datetime64[us]").astype(np.int64).tolist()


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("2026,1\n,2\n2028,3\n", "data row 2: time is missing"),
        ("1767225600,1\n,2\n", "data row 2: time is missing"),
        ("1767225600,1\n\n\nsoon,2\n", 'data row 2: time "soon" is no time'),
        ("202601010000,1\n", "data row 1: time the number 202601010000 looks like a date and time, YYYYMMDDHHMM"),
        ("2026010100,1\n2026010101,1\n", "data row 1: time the number 2026010100 looks like a date and time"),
        ("1,767,225\n", "rows have more cells than the header"),
    ],
)
def test_the_data_row_of_a_file_is_named(rows: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "values.csv"
    file.write_text("time,value\n" + rows, encoding="utf-8")
    with pytest.raises(ConfigError, match=words):
        read(read_table(file, Columns()))


def test_a_parquet_file_reads_as_its_csv(tmp_path: Path) -> None:
    frame = make_frame(a=[1.0, 2.0], b=[3.0])
    frame.to_csv(tmp_path / "values.csv", index=False)
    frame.to_parquet(tmp_path / "values.parquet")
    one, other = (read(read_table(tmp_path / f"values.{suffix}", Columns())) for suffix in ("csv", "parquet"))
    assert one.names == other.names
    assert one.history.observed_at.tolist() == other.history.observed_at.tolist()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("nowhere.csv", None, "does not exist"),
        ("empty.csv", b"", "is not a readable CSV or Parquet file"),
        ("not.parquet", b"PAR", "is not a readable CSV or Parquet file"),
        ("latin.csv", b"time,value\n\xff\xfe,1\n", "is not a readable CSV or Parquet file"),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error_for_a_person(
    name: str, content: bytes | None, words: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        read_table(tmp_path / name, Columns())
