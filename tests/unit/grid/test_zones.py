"""Wall times and UTC, beside pandas."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigError
from pipeline.grid.zones import find_zone

NAMES = (
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Africa/Casablanca",
    "America/Sao_Paulo",
    "UTC",
)
FIRST = int(pd.Timestamp("1901-01-01").value // 1000)
LAST = int(pd.Timestamp("2200-01-01").value // 1000)
SUMMER_2024 = int(pd.Timestamp("2024-03-31T01:00").value // 1000)


def micro(index: pd.DatetimeIndex) -> np.ndarray:
    return index.to_numpy().astype("datetime64[us]").astype(np.int64)


@pytest.mark.parametrize("name", NAMES)
@given(seconds=st.lists(st.integers(FIRST // 10**6, LAST // 10**6), min_size=1, max_size=20))
def test_clocks_show_what_pandas_says(name: str, seconds: list[int]) -> None:
    times = np.array(seconds) * 1_000_000
    expected = pd.DatetimeIndex(times.astype("datetime64[us]")).tz_localize("UTC").tz_convert(name).tz_localize(None)
    assert (find_zone(name).wall(times) == micro(expected)).all()


@pytest.mark.parametrize("name", NAMES)
@given(seconds=st.lists(st.integers(0, LAST // 10**6), min_size=1, max_size=20))
def test_a_wall_time_is_the_first_that_the_clocks_show_or_when_they_jump_over_it(name: str, seconds: list[int]) -> None:
    zone, wall = find_zone(name), np.array(seconds) * 1_000_000
    times = zone.time(wall)
    assert (zone.wall(times) >= wall).all()
    assert (zone.wall(times - 1) < wall).all()
    for jumped in wall[zone.wall(times) > wall].tolist():  # Python's way to tell that a time does not exist
        local = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=jumped)).replace(tzinfo=ZoneInfo(name))
        assert local.astimezone(UTC).astimezone(ZoneInfo(name)).replace(tzinfo=None) != local.replace(tzinfo=None)


def test_a_change_of_clocks_is_known_to_the_microsecond() -> None:
    berlin = find_zone("Europe/Berlin")
    before, after = berlin.wall(np.array([SUMMER_2024 - 1, SUMMER_2024]))
    assert after - before == 3_600_000_001


@pytest.mark.parametrize("name", ["utc", "Etc/UTC", "Zulu", "UCT"])
def test_utc_under_another_name_is_utc(name: str) -> None:
    assert find_zone(name).name == "UTC"


@pytest.mark.parametrize(
    "name",
    ["", "Berlin", "+01:00", "../../etc/passwd", "/etc/localtime", "Europe/Berlin ", "CETX", "localtime", "Factory"],
)
def test_what_is_no_zone_is_refused_in_words(name: str) -> None:
    with pytest.raises(ConfigError, match=r"series\.timezone .* is not a time zone; write its name"):
        find_zone(name)
