"""Event time <-> step on any pandas frequency."""

from functools import cache

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigError
from pipeline.grid.frequency import Frequency

FREQUENCIES = (
    "s",
    "15s",
    "min",
    "15min",
    "h",
    "6h",
    "D",
    "3D",
    "W-SUN",
    "W-WED",
    "MS",
    "ME",
    "QS",
    "YS",
    "B",
    "bh",
    "SMS",
)
FIRST = int(pd.Timestamp("1905-01-01").value // 1000)
LAST = int(pd.Timestamp("2185-01-01").value // 1000)


@cache
def grid(text: str) -> Frequency:
    return Frequency(text)


@pytest.mark.parametrize("text", FREQUENCIES)
@given(times=st.lists(st.integers(FIRST, LAST), min_size=1, max_size=20))
def test_an_event_belongs_to_the_newest_grid_time_not_after_it(text: str, times: list[int]) -> None:
    frequency, at = grid(text), np.array(times)
    steps = frequency.step_of(at)
    assert (frequency.time_of(steps) <= at).all()
    assert (frequency.time_of(steps + 1) > at).all()
    assert (frequency.step_of(frequency.time_of(steps)) == steps).all()


@pytest.mark.parametrize("text", FREQUENCIES)
def test_grid_times_are_those_of_pandas(text: str) -> None:
    expected = pd.date_range("2023-12-20", periods=40, freq=text, unit="us")
    micro = expected.to_numpy().astype("datetime64[us]").astype(np.int64)
    steps = grid(text).step_of(micro)
    assert (np.diff(steps) == 1).all()
    if text not in ("15s", "3D", "6h", "15min"):  # pandas starts multiples where it is told; the grid at 1970
        assert (grid(text).time_of(steps) == micro).all()


@pytest.mark.parametrize("text", ["bh", "3bh", "7cbh", "200bh"])
def test_business_hours_are_counted_as_pandas_counts_them_from_the_first_day_on(text: str) -> None:
    expected = pd.date_range("1900-01-01", "1904-03-01", freq=text, unit="us")
    micro = expected.to_numpy().astype("datetime64[us]").astype(np.int64)
    frequency = Frequency(text)
    assert (frequency.time_of(np.arange(len(micro))) == micro).all()
    last = frequency.time_of(np.array([10**9]))  # the newest step of the grid
    assert pd.Timestamp("2249-12-01") < pd.Timestamp(last[0], unit="us") < pd.Timestamp("2250-01-01")


@pytest.mark.parametrize(
    ("text", "season"),
    [
        ("min", 1440),
        ("15min", 96),
        ("h", 24),
        ("6h", 4),
        ("D", 7),
        ("W-SUN", 52),
        ("MS", 12),
        ("QS", 4),
        ("B", 5),
        ("bh", 8),
        ("YS", 1),
    ],
)
def test_the_usual_season_is_a_day_a_week_or_a_year(text: str, season: int) -> None:
    assert Frequency(text).season == season


@pytest.mark.parametrize("text", ["", "foo", "-1h", "ms", "1us", "0h"])
def test_a_frequency_that_cannot_be_used_is_refused_in_words(text: str) -> None:
    with pytest.raises(ConfigError, match=r"series\.frequency"):
        Frequency(text)


def test_times_outside_the_grid_are_not_held() -> None:
    frequency = Frequency("h")
    far = [int(pd.Timestamp(year).value // 1000) for year in ("1899-12-31", "2190-01-01")]
    near = [int(pd.Timestamp(year).value // 1000) for year in ("1900-01-01", "2189-12-31")]
    assert not frequency.holds(np.array([*far, np.iinfo(np.int64).min, np.iinfo(np.int64).max])).any()
    assert frequency.holds(np.array(near)).all()


@pytest.mark.parametrize("text", FREQUENCIES)
def test_the_calendar_has_one_row_per_step_and_is_bounded(text: str) -> None:
    calendar = grid(text).calendar(np.arange(100, 200))
    assert calendar.shape == (100, grid(text).calendar_features)
    assert (np.abs(calendar) <= 1).all()


def test_the_calendar_of_hours_repeats_each_day_and_each_week() -> None:
    calendar = Frequency("h").calendar(np.arange(0, 24 * 14))
    np.testing.assert_allclose(calendar[:24, :2], calendar[24:48, :2], atol=1e-12)
    np.testing.assert_allclose(calendar[:168, :4], calendar[168:, :4], atol=1e-12)
    assert not np.allclose(calendar[:24, 2:4], calendar[24:48, 2:4])


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("H", "write h, or 1h"),
        ("15T", "write 15min, or 1h"),
        ("2 H", "write 2h, or 1h"),
        ("1m", "write 1min, or 1h"),
        ("M", "write MS, ME, or 1h"),
        ("Q", "write QS, QE, or 1h"),
        ("A", "write YS, YE, or 1h"),
        ("A-JUN", "write YE-JUN, or 1h"),
        ("BM", "write BMS, BME, or 1h"),
        ("W-XYZ", "write 1h, 15min"),
        ("often", "write 1h, 15min"),
        ("", "write 1h, 15min"),
    ],
)
def test_an_outdated_name_is_told_the_one_of_today(text: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=f"{text!r} is not a pandas frequency; {hint}"):
        Frequency(text)


ZONES = ("Europe/Berlin", "America/New_York", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia")
OF_A_ZONE = ("15min", "h", "D", "W-MON", "MS", "ME", "QS", "B", "YE")


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("text", OF_A_ZONE)
def test_a_grid_in_a_zone_is_that_of_pandas_in_that_zone(text: str, zone: str) -> None:
    times = micro(pd.date_range("2023-12-01", periods=160, freq=text, tz=zone, unit="us"))
    grid = Frequency(text, zone)
    assert grid.on_grid(times).all()
    assert (np.diff(grid.step_of(times)) == 1).all()
    assert (grid.time_of(grid.step_of(times)) == times).all()


@cache
def day_of(zone: str, phase: int) -> Frequency:
    return Frequency("D", zone, phase * 3600)


@pytest.mark.parametrize("zone", ZONES)
@given(times=st.lists(st.integers(FIRST, LAST), min_size=1, max_size=20), phase=st.integers(0, 23))
def test_a_day_of_a_zone_with_a_phase_holds_what_is_not_before_it(zone: str, phase: int, times: list[int]) -> None:
    grid, at = day_of(zone, phase), np.array(times)
    steps = grid.step_of(at)
    assert (grid.time_of(steps) <= at).all()
    assert (grid.time_of(steps + 1) > at).all()
    assert (grid.step_of(grid.time_of(steps)) == steps).all()
    wall = pd.DatetimeIndex(grid.time_of(steps).astype("datetime64[us]")).tz_localize("UTC").tz_convert(zone)
    usual = wall.year >= 1950  # clocks that were set forward at midnight begin their day later
    assert np.isin(wall.hour[usual], (phase, phase + 1)).all()


def test_days_of_23_and_25_hours_are_days() -> None:
    grid = Frequency("D", "Europe/Berlin")
    times = pd.date_range("2024-03-29", "2024-11-02", freq="D", tz="Europe/Berlin", unit="us")
    lengths = set(np.diff(grid.time_of(grid.step_of(micro(times)))) // 3_600_000_000)
    assert lengths == {23, 24, 25}
    assert grid.season == 7
    assert (np.diff(grid.step_of(micro(times))) == 1).all()


def test_parts_of_a_day_follow_the_clocks() -> None:
    grid = Frequency("2h", "Europe/Berlin")
    first = int(grid.step_of(micro(pd.DatetimeIndex(["2024-03-31"]).tz_localize("Europe/Berlin")))[0])
    shown = pd.DatetimeIndex(grid.time_of(first + np.arange(4)).astype("datetime64[us]"), tz="UTC")
    assert list(shown.tz_convert("Europe/Berlin").hour) == [0, 3, 4, 6]
    assert grid.season == 12


def test_an_hour_where_clocks_are_half_an_hour_apart_from_utc_begins_at_theirs() -> None:
    assert (
        Frequency("h", "Asia/Kolkata")
        .on_grid(np.array([1_800_000_000 * 1_000_000 // 3_600_000_000 * 3_600_000_000]))
        .sum()
        == 0
    )
    assert Frequency("h", "Asia/Kolkata").on_grid(np.array([30 * 60 * 1_000_000])).all()


def test_the_calendar_shows_the_hour_of_the_zone() -> None:
    noon = micro(pd.DatetimeIndex(["2024-07-01 12:00"]).tz_localize("Europe/Berlin"))
    here, utc = Frequency("h", "Europe/Berlin"), Frequency("h")
    assert here.calendar(here.step_of(noon))[0, :2] == pytest.approx([0.0, -1.0])  # sine and cosine of half a day
    assert utc.calendar(utc.step_of(noon))[0, :2] != pytest.approx([0.0, -1.0])


@pytest.mark.parametrize(
    ("text", "zone", "canonical"),
    [("60min", "UTC", "3600s"), ("1h", "Europe/Berlin", "3600s in Europe/Berlin"), ("MS", "Etc/UTC", "MS")],
)
def test_a_grid_in_another_zone_is_another_grid(text: str, zone: str, canonical: str) -> None:
    assert Frequency(text, zone).canonical == canonical


@pytest.mark.parametrize(("text", "phase"), [("1h", 3600), ("1D", -1), ("1D", 0.5), ("MS", 28 * 86_400), ("1min", 61)])
def test_a_phase_that_is_no_part_of_a_step_is_refused(text: str, phase: float) -> None:
    with pytest.raises(ConfigError, match=r"series\.phase"):
        Frequency(text, phase=phase)


def test_a_gas_day_begins_at_six() -> None:
    grid = Frequency("D", "Europe/Berlin", 6 * 3600)
    times = pd.date_range("2024-01-01 06:00", "2024-12-31 06:00", freq="D", tz="Europe/Berlin", unit="us")
    assert grid.on_grid(micro(times)).all()
    assert (np.diff(grid.step_of(micro(times))) == 1).all()
    assert repr(grid) == "Frequency('D in Europe/Berlin, 6 h after')"


def micro(index: pd.DatetimeIndex) -> np.ndarray:
    return index.tz_convert("UTC").tz_localize(None).to_numpy().astype("datetime64[us]").astype(np.int64)
