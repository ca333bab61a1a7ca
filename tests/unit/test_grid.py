"""Event time <-> step on any pandas frequency."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigError
from pipeline.grid import Frequency

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


@pytest.mark.parametrize("text", FREQUENCIES)
@given(times=st.lists(st.integers(FIRST, LAST), min_size=1, max_size=20))
def test_an_event_belongs_to_the_newest_grid_time_not_after_it(text: str, times: list[int]) -> None:
    frequency, at = GRIDS[text], np.array(times)
    steps = frequency.step_of(at)
    assert (frequency.time_of(steps) <= at).all()
    assert (frequency.time_of(steps + 1) > at).all()
    assert (frequency.step_of(frequency.time_of(steps)) == steps).all()


@pytest.mark.parametrize("text", FREQUENCIES)
def test_grid_times_are_those_of_pandas(text: str) -> None:
    expected = pd.date_range("2023-12-20", periods=40, freq=text, unit="us")
    micro = expected.to_numpy().astype("datetime64[us]").astype(np.int64)
    steps = GRIDS[text].step_of(micro)
    assert (np.diff(steps) == 1).all()
    if text not in ("15s", "3D", "6h", "15min"):  # pandas starts multiples where it is told; the grid at 1970
        assert (GRIDS[text].time_of(steps) == micro).all()


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
    calendar = GRIDS[text].calendar(np.arange(100, 200))
    assert calendar.shape == (100, GRIDS[text].calendar_features)
    assert (np.abs(calendar) <= 1).all()


def test_the_calendar_of_hours_repeats_each_day_and_each_week() -> None:
    calendar = Frequency("h").calendar(np.arange(0, 24 * 14))
    np.testing.assert_allclose(calendar[:24, :2], calendar[24:48, :2], atol=1e-12)
    np.testing.assert_allclose(calendar[:168, :4], calendar[168:, :4], atol=1e-12)
    assert not np.allclose(calendar[:24, 2:4], calendar[24:48, 2:4])


GRIDS = {text: Frequency(text) for text in FREQUENCIES}
