"""Time zones in arrays: microseconds UTC <-> what the clocks on the wall show, between 1900 and 2250."""

from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from pipeline.errors import ConfigError
from pipeline.grid.times import open_zone
from pipeline.records import Ints

UTC = "UTC"
LOOK = pd.Timedelta(hours=6)
"""Clocks are looked at so often for changes; no zone has changed twice within it."""
MICROSECOND = pd.Timedelta(microseconds=1)


class Zone:
    """A zone of the IANA database. Wall times are microseconds, too: those that the same clock would show in UTC.

    A wall time that comes twice when clocks are set back is the first one; one that is left out is the moment at which
    they are set forward. Raises ConfigError for a name that is no zone.
    """

    def __init__(self, name: str) -> None:
        try:
            zone = open_zone(name)
        except ValueError as error:
            raise ConfigError(f"series.timezone {error}") from error
        self.name = zone.key
        times = pd.date_range("1900-01-01", "2250-01-01", freq=LOOK, unit="us")
        offset = _offsets(times, zone)
        changed = np.flatnonzero(offset[1:] != offset[:-1])
        low, high, before = times[changed], times[changed + 1], offset[changed]
        while len(low) and (high - low).max() > MICROSECOND:  # where exactly, between the two looks
            middle = low + (high - low) // 2
            same = _offsets(middle, zone) == before
            low, high = middle.where(same, low), high.where(same, middle)
        self._changes: Ints = high.to_numpy().astype("datetime64[us]").astype(np.int64)
        self.offsets: Ints = np.concatenate([offset[:1], offset[changed + 1]])
        """What the zone's clocks were ahead of UTC before the first change and after each one, in microseconds."""

    def wall(self, times: Ints) -> Ints:
        """Return what the zone's clocks show at some times."""
        wall: Ints = times + self.offsets[np.searchsorted(self._changes, times, side="right")]
        return wall

    def time(self, wall: Ints) -> Ints:
        """Return when the zone's clocks show something."""
        at = np.searchsorted(self._changes + self.offsets[:-1], wall, side="right")
        begins = np.concatenate([[np.iinfo(np.int64).min], self._changes])[at]
        times: Ints = np.maximum(wall - self.offsets[at], begins)
        return times

    def offsets_since(self, time: int) -> Ints:
        """Return what the clocks have been ahead of UTC at some moment from `time` on."""
        return self.offsets[int(np.searchsorted(self._changes, time, side="right")) :]


@lru_cache(maxsize=32)
def find_zone(name: str) -> Zone:
    """Return a zone by its name."""
    return Zone(name)


def _offsets(times: pd.DatetimeIndex, zone: ZoneInfo) -> Ints:
    wall = times.tz_localize(UTC).tz_convert(zone).tz_localize(None)
    ahead: Ints = (wall.to_numpy() - times.to_numpy()).astype("timedelta64[us]").astype(np.int64)
    return ahead
