"""Finding the frequency: every calendar, with gaps, strays, duplicates and disorder; or why there is none."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.frames.spacing import Spacing, find_frequency
from pipeline.errors import ConfigError
from pipeline.grid.frequency import Frequency

TICKS = ["1s", "7s", "1min", "5min", "15min", "1h", "2h", "6h", "12h", "36h"]
DAYS = ["1D", "2D", "3D", "B", "W-SUN", "W-MON", "W-WED", "2W-MON"]
MONTHS = ["SMS", "SME", "MS", "ME", "BMS", "BME", "2MS", "6MS", "QS-JAN", "QS-FEB", "QE-DEC", "QE-NOV", "BQS-JAN"]
YEARS = ["YS-JAN", "YE-DEC", "YS-APR", "YE-JUN", "2YS-JAN"]
EVERY = [*TICKS, *DAYS, *MONTHS, *YEARS]


def find(*series: Any, zone: Any = None) -> Spacing:
    """Find the frequency of series of times; those with a zone are read in UTC."""
    indexes = [pd.DatetimeIndex(times) for times in series]
    plain = [index.tz_convert("UTC").tz_localize(None) if index.tz is not None else index for index in indexes]
    times = np.concatenate([index.as_unit("us").to_numpy().astype(np.int64) for index in plain])
    row = np.repeat(np.arange(len(plain)), [len(index) for index in plain])
    return find_frequency([f"s{number}" for number in range(len(plain))], row, times, zone)


def make_times(text: str, count: int = 40) -> pd.DatetimeIndex:
    return pd.date_range("2001-01-01", periods=count, freq=text)


@pytest.mark.parametrize("text", EVERY)
@pytest.mark.parametrize("count", [12, 40])
def test_the_frequency_of_regular_rows_is_found(text: str, count: int) -> None:
    assert find(make_times(text, count)) == Spacing(text, pytest.approx(1.0), pytest.approx(1.0))


@given(st.sampled_from(EVERY), st.randoms(use_true_random=False))
def test_gaps_duplicates_and_disorder_do_not_change_it(text: str, random: Any) -> None:
    times = make_times(text, 300 if text not in YEARS else 60).tolist()
    kept = [time for time in times if random.random() < 0.7]
    rows = kept + random.choices(kept, k=10)
    random.shuffle(rows)
    assert find(rows).text == text


@pytest.mark.parametrize("text", EVERY)
def test_a_few_strays_do_not_change_it(text: str) -> None:
    times = make_times(text)
    assert find([*times, times[3] + (times[4] - times[3]) * 0.37, times[20] + pd.Timedelta("31s")]).text == text


@pytest.mark.parametrize("text", ["1D", "W-MON", "MS", "QS-JAN", "YS-JAN", "1h", "15min"])
@pytest.mark.parametrize("zone", ["Europe/Berlin", "Europe/London", "America/New_York", "Asia/Kolkata"])
def test_days_of_23_and_25_hours_are_days_and_months_are_those_of_the_zone(text: str, zone: str) -> None:
    times = pd.date_range(
        "2015-01-01", periods=10 if text == "YS-JAN" else 400 if text != "MS" else 60, freq=text, tz=zone
    )
    assert find(times, zone=times.tz).text == text


def test_local_midnights_on_both_sides_of_midnight_are_of_one_day_each() -> None:
    assert find(pd.date_range("2020-01-01", periods=60, freq="MS", tz="Europe/London")).text == "MS"


@pytest.mark.parametrize(
    ("name", "times", "text"),
    [
        ("clocks that tremble", make_times("1min", 99) + pd.to_timedelta([0, 2, -1] * 33, unit="s"), "1min"),
        ("clocks of milliseconds", make_times("10s", 99) + pd.to_timedelta([0, 120, -70] * 33, unit="ms"), "10s"),
        ("a drift", make_times("60300ms", 200), "1min"),
        ("one day a month, the 15th", make_times("MS") + pd.Timedelta("14D"), "MS"),
        ("the first Monday of each month", make_times("WOM-1MON"), "MS"),
        ("once a day at any hour", make_times("1D") + pd.to_timedelta([8, 17, 11, 9] * 10, unit="h"), "1D"),
        ("gas days", make_times("1D") + pd.Timedelta("6h"), "1D"),
        ("a week from Sunday to Thursday", [t for t in make_times("1D", 99) if t.weekday() not in (4, 5)], "1D"),
        ("five days of one week", make_times("1D", 5), "1D"),
        ("hours of trading", [t for t in make_times("30min", 2000) if t.weekday() < 5 and 9 <= t.hour < 16], "30min"),
        ("a row of 1970", [pd.Timestamp(0), *make_times("1min")], "1min"),
        ("a shop that is closed on holidays", make_times("B", 300).delete([10, 34, 62, 103, 129, 172]), "B"),
        ("a day that is missing", make_times("1D", 8).delete(5), "1D"),
        ("weeks far apart", make_times("W-SUN", 99)[[1, 2, 31, 34, 62, 63, 64, 65, 66, 67, 68, 69, 70]], "W-SUN"),
        ("clocks set back", pd.date_range("2024-10-26", periods=99, freq="h", tz="CET").tz_localize(None), "1h"),
        ("every other day", ["2020-01-01", "2020-01-03", "2020-01-05"], "2D"),
        ("a third of all readings", make_times("10s", 3000)[np.random.default_rng(0).random(3000) < 0.33], "10s"),
        ("two months", make_times("MS", 2), "MS"),
        ("two years", make_times("YE-DEC", 2), "YE-DEC"),
    ],
)
def test_what_is_nearly_regular_is_found(name: str, times: Sequence[pd.Timestamp], text: str) -> None:
    assert find(times).text == text


def test_every_series_has_a_say_whatever_its_length() -> None:
    daily, rows = make_times("1D"), make_times("1h", 3000)
    assert find(rows, *[daily] * 30).text == "1D"
    assert find(*[["2001-01-01"]] * 50, daily, daily).text == "1D"
    assert find(*[make_times("W-SUN")[start::3] for start in range(3)], make_times("W-SUN")).text == "W-SUN"


def test_sparse_series_share_the_frequency_that_all_of_them_are_on() -> None:
    random, weeks = np.random.default_rng(0), make_times("W-SUN", 100)
    assert find(*[weeks[random.random(100) < 0.4] for _ in range(30)]).text == "W-SUN"


REFUSED: dict[str, tuple[list[Any], str]] = {
    "one row": ([["2001-01-01"]], "no series has rows at two times: give one"),
    "one time": ([["2001-01-01"] * 5], "no series has rows at two times"),
    "finer than a second": ([make_times("100ms")], "less than a second apart.*frequency='1s'"),
    "events": (
        [pd.Timestamp("2024-01-01") + pd.to_timedelta(np.random.default_rng(0).integers(0, 10**6, 400), unit="s")],
        r"the rows are irregular: \d+s to .*h apart, half of them no more than .*; give one: frequency='1h', or --freq",
    ),
    "different years": (
        [*[make_times("YE-DEC", 30)] * 5, *[make_times("YE-JUN", 30)] * 2],
        "different frequencies, YE-DEC in s0, s1, s2, ... and YE-JUN in s5, s6: fit each kind alone",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_frequency_says_what_to_give(case: str) -> None:
    series, words = REFUSED[case]
    with pytest.raises(ConfigError, match=words) as refused:
        find(*series)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", [*EVERY])
def test_what_is_found_is_a_frequency_of_the_grid(text: str) -> None:
    assert Frequency(find(make_times(text)).text).seconds > 0
