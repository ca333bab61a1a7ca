"""A grid that does not fit the rows: what would make scores flatter is refused, the rest is said."""

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.frames.columns import Columns
from jobs.frames.frames import Readings, read_frame
from jobs.frames.grid_choice import Wish
from pipeline.errors import ConfigError
from pipeline.grid.frequency import Frequency
from pipeline.settings import Policy
from tests.unit.jobs.tiny import make_frame, make_wave

RANDOM = np.random.default_rng(0)


def read(frame: pd.DataFrame, frequency: str | None, duplicates: Policy | None = None) -> Readings:
    grid = None if frequency is None else Frequency(frequency)
    return read_frame(frame, Columns(), frequency=grid or Wish(), duplicates=duplicates)


def make_rows(frequency: str, count: int = 400, **names: float) -> pd.DataFrame:
    """Series at regular times, of one frequency."""
    return make_frame(
        frequency=frequency, **{name: np.arange(count) + level for name, level in (names or {"a": 0}).items()}
    )


def test_a_grid_that_fits_says_nothing() -> None:
    for frequency in ("1s", "15min", "1h", "1D", "B", "W-SUN", "MS", "QS-JAN"):
        assert read(make_rows(frequency, 120), frequency).notes() == []


@pytest.mark.parametrize(
    ("rows", "grid"), [("1D", "1h"), ("1h", "1min"), ("2h", "1h"), ("MS", "1D"), ("YS-JAN", "MS"), ("W-SUN", "1D")]
)
def test_rows_of_a_coarser_frequency_are_refused_by_its_name(rows: str, grid: str) -> None:
    with pytest.raises(ConfigError, match=f"values are {rows} apart, as series a, .* --frequency {rows}$"):
        read(make_rows(rows, 120), grid)
    gaps = make_rows(rows, 120).sample(frac=0.7, random_state=1)
    with pytest.raises(ConfigError, match=f"values are {rows} apart"):
        read(gaps, grid)
    filled = make_rows(rows, 40).set_index("time").resample(grid).asfreq().assign(series_id="a").reset_index()
    with pytest.raises(ConfigError, match=f"values are {rows} apart"):
        read(filled, grid)


@pytest.mark.parametrize(
    ("rows", "grid"), [("1h", "1D"), ("15min", "1h"), ("1D", "MS"), ("1D", "W-SUN"), ("1s", "1min")]
)
def test_rows_of_a_finer_frequency_are_refused_unless_it_was_said_how_they_are_merged(rows: str, grid: str) -> None:
    frame = make_rows(rows, 960)
    with pytest.raises(
        ConfigError, match=f"of 960 rows share a step of {grid} .* as rows are {rows} apart in series a: give"
    ):
        read(frame, grid)
    for policy in ("last", "first", "mean", "sum", "max"):
        assert read(frame, grid, policy).remarks == ()


def test_real_gaps_are_no_other_frequency() -> None:
    rows = make_rows("1h", 500)
    assert read(rows.sample(frac=0.4, random_state=2), "1h").notes() == []
    outage = pd.concat([rows.head(50), rows.tail(50)])
    assert read(outage, "1h").notes() == []
    assert read(make_frame(a=[1.0, *[np.nan] * 9, 2.0]), "1h").notes() == []


def test_what_is_sold_now_and_then_is_said_and_not_refused() -> None:
    days = make_rows("1D", 2000)
    (note,) = read(days[RANDOM.random(2000) < 0.06], "1D").notes()
    assert note == "most steps of 1D hold no value: 1 series have few, as series a"


def test_one_series_of_another_frequency_is_named_and_many_are_refused() -> None:
    hours = make_rows("1h", 100, **{f"h{number}": 0.0 for number in range(12)})
    daily = make_rows("1D", 20, odd=5.0)
    (note,) = read(pd.concat([hours, daily]), "1h").notes()
    assert note == "series odd: values are 1D apart, so that most steps of 1h are empty"
    more = make_rows("1D", 20, **{f"d{number}": 0.0 for number in range(4)})
    with pytest.raises(
        ConfigError, match=r"1D apart in 4 of 16 series, as series d0, d1, d2, ..., .*: fit a forecaster for"
    ):
        read(pd.concat([hours, more]), "1h")


def test_the_same_row_twice_is_harmless_and_another_value_at_its_time_is_not() -> None:
    rows = make_rows("1h", 100)
    assert read(pd.concat([rows, rows]), "1h").notes() == []
    other = pd.concat([rows, rows.assign(value=rows["value"] + 1)])
    with pytest.raises(
        ConfigError, match=r"100 of 200 rows have the time of another .*first: series a, 2026-01-01T00:00:00"
    ):
        read(other, "1h")
    with pytest.raises(
        ConfigError, match=r"no column of series, this is one: .* --series-id; otherwise .* --set series.dup"
    ):
        read(other.drop(columns="series_id"), None)
    assert read(other, "1h", "mean").history.value[:2].tolist() == [0.5, 1.5]


def test_the_order_of_rows_changes_nothing_of_what_is_said() -> None:
    rows = make_rows("1h", 200)
    last = rows.tail(4)
    several = pd.concat([rows, last.assign(value=7.0), last, last.assign(value=8.0)])
    said = {tuple(read(several.sample(frac=1.0, random_state=seed), "1h").remarks) for seed in range(9)}
    assert said == {("8 of 208 rows share a step of 1h with another, first in series a: the last one counts",)}


def test_a_few_rows_that_share_a_step_are_counted() -> None:
    rows = make_rows("1h", 100)
    late = rows.tail(3).assign(time=lambda frame: frame["time"] + pd.Timedelta("5min"), value=7.0)
    (note,) = read(pd.concat([rows, late]), "1h").notes()
    assert note == "3 of 103 rows share a step of 1h with another, first in series a: the last one counts"


def test_events_are_merged_when_it_is_said_how_and_warned_of_or_refused_otherwise() -> None:
    seconds = np.sort(RANDOM.choice(200 * 3600, 300, replace=False))
    frame = pd.DataFrame(
        {"time": pd.Timestamp("2026-01-01") + pd.to_timedelta(seconds, unit="s"), "value": make_wave(300)}
    )
    assert "share a step of 1h with another: the last one counts; duplicates='mean'" in " ".join(
        read(frame, "1h").notes()
    )
    with pytest.raises(
        ConfigError, match="share a step of 1D with another and would be lost: give a frequency that they"
    ):
        read(frame, "1D")
    assert read(frame, "1D", "sum").remarks == ()


def test_the_frequency_is_found_when_none_is_given() -> None:
    assert read(make_rows("15min"), None).frequency.text == "15min"
    assert (
        read(make_rows("MS", 40).assign(time=lambda f: f["time"].dt.tz_localize("Europe/Berlin")), None).frequency.text
        == "MS"
    )
    with pytest.raises(ConfigError, match="no series has rows at two times"):
        read(make_rows("1h", 1), None)


@cache
def plainly(frequency: str) -> tuple[pd.DataFrame, Readings]:
    """Two series of 40 rows, and what is read of all but five."""
    rows = make_rows(frequency, 40, a=0.0, b=3.0).assign(series_id=np.repeat([1, 2], 40))
    return rows, read(rows.iloc[5:], None)


@given(
    unit=st.sampled_from(["s", "ms", "us", "ns"]),
    zone=st.sampled_from([None, "UTC", "Asia/Kolkata", "America/New_York"]),
    ids=st.sampled_from(["int64", "float64", "str", "category", object]),
    frequency=st.sampled_from(["1s", "15min", "1h", "1D", "W-MON", "MS"]),
    seed=st.integers(0, 99),
)
def test_unit_zone_kind_of_ids_and_order_change_nothing(
    unit: str, zone: str | None, ids: Any, frequency: str, seed: int
) -> None:
    plain, expected = plainly(frequency)
    times = plain["time"].dt.as_unit(unit) if zone is None else plain["time"].dt.as_unit(unit).dt.tz_localize("UTC")
    moved = plain.assign(time=times, series_id=plain["series_id"].astype(ids)).iloc[5:]
    moved = moved.sample(frac=1.0, random_state=seed)
    if zone is not None and frequency in ("15min", "1h", "1s"):
        moved["time"] = moved["time"].dt.tz_convert(zone)
    found = read(moved, None)
    assert (found.names, found.frequency.text, found.notes()) == (expected.names, frequency, [])
    assert found.history.observed_at.tolist() == expected.history.observed_at.tolist()
    assert found.history.value.tolist() == expected.history.value.tolist()


def test_readings_are_short_to_look_at() -> None:
    assert repr(read(make_rows("1h", 5000), None)) == "Readings(1 series, 5,000 rows, 1h)"
