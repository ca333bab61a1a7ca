"""Frequency: event time <-> integer step, for any pandas frequency in a time zone, and the calendar of the steps.

A step of fixed length (seconds to days, in UTC) is arithmetic from 1970. Every other one (weeks, months, quarters,
business days and hours; hours and days where clocks are set forward and back) is a table of its times between 1900 and
2250, searched. Steps begin when the zone's clocks show 0:00, 2:00, the first of a month, and so on, and `phase` after
it: a gas day begins at 6:00. An event belongs to the newest grid time that is not after it.
"""

import re
from collections.abc import Mapping
from functools import cached_property, lru_cache
from typing import Any, Protocol, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.tseries.frequencies import to_offset

from pipeline.errors import ConfigError
from pipeline.grid.times import FIRST_TIME, LAST_TIME
from pipeline.grid.zones import UTC, find_zone
from pipeline.records import Floats, Ints

MODERN = int(pd.Timestamp("2000-01-01").value // 1000)
TABLE = ("1900-01-01", "2250-01-01")
LONGEST_HORIZON = 50 * 365.2425 * 86_400  # seconds; the grid's tables end in 2250
SECOND = 1_000_000
DAY = 86_400 * SECOND
YEAR = 365.2425 * DAY


class GridSettings(Protocol):
    """What a deployment says of its grid; a phase of None is found from the events."""

    @property
    def frequency(self) -> str:
        """The pandas frequency."""
        ...

    @property
    def timezone(self) -> str:
        """The zone by whose clocks steps begin."""
        ...

    @property
    def phase(self) -> float | None:
        """Seconds from the steps of the frequency to those of the grid."""
        ...


class Frequency:
    """A regular grid of event times; steps are consecutive integers, all times microseconds UTC.

    timezone: name of the zone by whose clocks steps begin. phase: seconds, less than a step, from there to the grid
    time. Raises ConfigError for a text that is not a pandas frequency, or one finer than a second, an unknown zone, and
    a phase that is not whole seconds within a step.
    """

    def __init__(self, text: str, timezone: str = UTC, phase: float = 0) -> None:
        try:
            offset = to_offset(text)
        except ValueError as error:
            raise ConfigError(
                f"series.frequency {text!r} is not a pandas frequency; write {_hint(text)}1h, 15min, D, MS, ..."
            ) from error
        if offset is None or offset.n < 1:
            raise ConfigError(f"series.frequency {text!r} must move forward")
        self.text = text
        self._offset = offset
        self._zone = find_zone(timezone)
        unfit = f"series.phase must be whole seconds, at least 0 and less than a step of {text}"
        if not 0 <= phase < LONGEST_HORIZON:
            raise ConfigError(unfit)
        self.phase = int(phase)
        self._phase = self.phase * SECOND
        self._table: Ints | None = None
        self._origin = 0
        self._fixed = isinstance(offset, pd.offsets.Tick | pd.offsets.Day)
        if self._fixed:
            days = isinstance(offset, pd.offsets.Day)
            self._length = int(pd.Timedelta(days=offset.n).value if days else offset.nanos) // 1000
            if self._length < SECOND:
                raise ConfigError(f"series.frequency {text!r} is finer than one second")
            if self._on_the_wall():
                first, stop = (pd.Timestamp(day).value // 1000 // self._length for day in TABLE)
                self._table = self._times(np.arange(first, stop) * self._length)
            else:
                self._origin = int(self._phase - self._zone.offsets[-1]) % self._length
            self._shortest = self._length
        else:
            wall = _wall(offset)
            self._table = self._times(wall)
            self._length = int((wall[-1] - wall[0]) / (len(wall) - 1))
            self._shortest = int(np.diff(wall).min())
        if self.phase != phase or not self.allows(self.phase):
            raise ConfigError(unfit)

    def allows(self, phase: int) -> bool:
        """Tell whether a grid of this frequency may have a phase: each of its steps is longer than those seconds."""
        return 0 <= phase * SECOND < self._shortest

    @classmethod
    def of(cls, series: "GridSettings") -> Self:
        """Make the grid of the settings; one whose phase is not known yet begins with its frequency."""
        return cls(series.frequency, series.timezone, series.phase or 0)

    @property
    def facts(self) -> dict[str, Any]:
        """What an artifact notes of the grid that its model was made for."""
        return {"frequency": self.text, "timezone": self.timezone, "phase": self.phase}

    def differs(self, facts: Mapping[str, Any]) -> str:
        """Say on which other grid a model was made, by the facts of its artifact; "" for this one."""
        made = facts.get("frequency"), facts.get("timezone", UTC)
        if made == (self.text, self.timezone):
            return ""
        zone = "" if made[1] == self.timezone else f" in {made[1]}"
        here = "" if made[1] == self.timezone else f" in {self.timezone}"
        return f"frequency {made[0]}{zone}, the settings say {self.text}{here}"

    def __repr__(self) -> str:
        """Spell the grid: Frequency('1D in Europe/Berlin, 6h after')."""
        return f"Frequency({self.words!r})"

    @property
    def timezone(self) -> str:
        """The zone's name; UTC under all its names is UTC."""
        return self._zone.name

    @property
    def words(self) -> str:
        """The grid for people."""
        zone = "" if self.timezone == UTC else f" in {self.timezone}"
        return self.text + zone + (f", {spell_seconds(self.phase)} after" if self.phase else "")

    @property
    def canonical(self) -> str:
        """The same text for the same grid but for its phase: 60min and 1h are both 3600s."""
        text = f"{self._length // SECOND}s" if self._fixed else str(self._offset.freqstr)
        return text if self.timezone == UTC else f"{text} in {self.timezone}"

    @property
    def seconds(self) -> float:
        """The (mean) length of a step."""
        return self._length / SECOND

    def holds(self, times: Ints) -> NDArray[np.bool_]:
        """Tell which times (microseconds) the grid covers."""
        first = FIRST_TIME if self._table is None else self._table[0]
        return (times >= first) & (times < LAST_TIME)

    def step_of(self, times: Ints) -> Ints:
        """Map times (microseconds) that the grid holds to the step they fall into."""
        if self._table is None:
            return (times - self._origin) // self._length
        return np.searchsorted(self._table, times, side="right") - 1

    def time_of(self, steps: Ints) -> Ints:
        """Map steps to their grid times (microseconds)."""
        if self._table is None:
            return steps * self._length + self._origin
        return self._table[np.clip(steps, 0, len(self._table) - 1)]

    def past_step(self, times: Ints) -> Ints:
        """How long after their step's grid time some times are, by the zone's clocks; 0 on the grid; microseconds."""
        return self._zone.wall(times) - self._zone.wall(self.time_of(self.step_of(times)))

    def on_grid(self, times: Ints) -> NDArray[np.bool_]:
        """Tell which times are grid times."""
        same: NDArray[np.bool_] = self.time_of(self.step_of(times)) == times
        return same

    @cached_property
    def season(self) -> int:
        """The usual season in steps: a day below a day, a week of days, a year above; 1 where none fits."""
        if not self._fixed and self._table is not None and self._length < DAY:  # business hours: what a day has of them
            return int(np.median(np.unique(self._table // DAY, return_counts=True)[1]))
        for cycle in (DAY, 7 * DAY, YEAR):
            steps = round(cycle / self._length)
            if steps >= 2:
                return steps
        return 1

    def calendar(self, steps: Ints) -> Floats:
        """Describe the steps' times by sine and cosine of each cycle that the grid can see: (N, F)."""
        times = self._zone.wall(self.time_of(steps))
        columns = [np.empty((len(times), 0))]
        for cycle, phase in zip((DAY, 7 * DAY, YEAR), self._phases(times), strict=True):
            if cycle >= 2 * self._length:
                angle = 2 * np.pi * phase[:, None]
                columns += [np.sin(angle), np.cos(angle)]
        return np.concatenate(columns, axis=1)

    @property
    def calendar_features(self) -> int:
        """F, the columns of `calendar`."""
        return 2 * sum(cycle >= 2 * self._length for cycle in (DAY, 7 * DAY, YEAR))

    def _on_the_wall(self) -> bool:
        """Whether steps of fixed length are not so in UTC: days always follow the clocks, parts of a day since 2000."""
        offsets = self._zone.offsets if self._length >= DAY else self._zone.offsets_since(MODERN)
        whole = self._length % DAY == 0 or DAY % self._length == 0
        return whole and len(np.unique(offsets % self._length)) > 1

    def _times(self, wall: Ints) -> Ints:
        """The times at which clocks show `wall` and the phase; a day that a zone has left out has none."""
        times = self._zone.time(wall + self._phase)
        distinct: Ints = times[np.append(True, np.diff(times) > 0)]
        return distinct

    def _phases(self, times: Ints) -> tuple[Floats, Floats, Floats]:
        days = times // DAY
        stamps = times.astype("datetime64[us]")
        year = stamps.astype("datetime64[Y]")
        since = (stamps - year.astype("datetime64[us]")).astype(np.int64)
        length = ((year + 1).astype("datetime64[us]") - year.astype("datetime64[us]")).astype(np.int64)
        return (times % DAY) / DAY, ((days + 3) % 7 + (times % DAY) / DAY) / 7, since / length


@lru_cache(maxsize=8)
def _wall(offset: pd.offsets.BaseOffset) -> Ints:
    """Return what clocks show at every step of TABLE; a frequency is read often, and its table takes pandas 0.1 s.

    pandas counts hour by hour, 8 s for the business hours of TABLE. A step of n of them is back at the same hour of
    the same day 40 steps and n weeks later.
    """
    first, last = map(pd.Timestamp, TABLE)
    if not isinstance(offset, pd.offsets.BusinessHour):
        return _micro(pd.date_range(first, last, freq=offset, unit="us"))
    weeks = min(offset.n, (last - first).days // 7 + 1)
    cycle = _micro(pd.date_range(first, first + pd.Timedelta(weeks=weeks), inclusive="left", freq=offset, unit="us"))
    starts = np.arange(0, (last - first) // pd.Timedelta(microseconds=1), weeks * 7 * DAY)
    wall = (starts[:, None] + cycle).ravel()
    within: Ints = wall[wall <= last.value // 1000]
    return within


def _micro(times: pd.DatetimeIndex) -> Ints:
    micro: Ints = times.to_numpy().astype("datetime64[us]").astype(np.int64)
    return micro


def spell_seconds(seconds: int) -> str:
    """Write a duration as settings take it: '1 day 6 h'."""
    parts = []
    for unit, length in (("day", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count, seconds = divmod(seconds, length)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts) or "0 s"


def _hint(text: str) -> str:
    """Name what pandas would have instead of an outdated alias, as "2h, or " for 2H; nothing where it has no idea."""
    found = re.fullmatch(r"(\d*) ?([A-Za-z]+)(-[A-Z]{3})?", text.strip())
    if found is None:
        return ""
    count, old, anchor = found[1], found[2], found[3] or ""
    alias = "min" if old == "m" else old
    for _ in range(2):  # A is told to be Y, and Y to be YE
        try:
            to_offset(alias)
        except ValueError as error:
            better = re.search(r"(?:Did you mean |use ')(\w+)", str(error))
            alias = better[1] if better else old
    if alias == old:
        return ""
    starts = f"{count}{alias[:-1]}S, " if alias.endswith("E") and not anchor else ""
    return f"{starts}{count}{alias}{anchor}, or "
