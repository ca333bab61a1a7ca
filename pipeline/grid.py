"""Frequency: event time <-> integer step, for any pandas frequency, and the calendar of the steps.

A frequency of fixed length (seconds to days) is arithmetic from 1970. Every other one (weeks, months, quarters,
business days, business hours) is a table of its times between 1900 and 2250, searched. An event belongs to the
newest grid time that is not after it.
"""

from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.tseries.frequencies import to_offset

from pipeline.errors import ConfigError
from pipeline.records import Floats, Ints

FIRST_TIME = int(pd.Timestamp("1900-01-01").value // 1000)
LAST_TIME = int(pd.Timestamp("2190-01-01").value // 1000)
LONGEST_HORIZON = 50 * 365.2425 * 86_400  # seconds; the grid's tables end in 2250
SECOND = 1_000_000
DAY = 86_400 * SECOND
YEAR = 365.2425 * DAY


class Frequency:
    """A regular grid of event times in UTC; steps are consecutive integers.

    Raises ConfigError for a text that is not a pandas frequency, or one finer than a second.
    """

    def __init__(self, text: str) -> None:
        try:
            offset = to_offset(text)
        except ValueError as error:
            raise ConfigError(
                f"series.frequency {text!r} is not a pandas frequency; write 1h, 15min, D, MS, ..."
            ) from error
        if offset is None or offset.n < 1:
            raise ConfigError(f"series.frequency {text!r} must move forward")
        self.text = text
        self._offset = offset
        self._table: Ints | None = None
        if isinstance(offset, pd.offsets.Tick | pd.offsets.Day):
            self._length = (
                int(pd.Timedelta(days=offset.n).value if isinstance(offset, pd.offsets.Day) else offset.nanos) // 1000
            )
            if self._length < SECOND:
                raise ConfigError(f"series.frequency {text!r} is finer than one second")
        else:
            times = pd.date_range("1900-01-01", "2250-01-01", freq=offset, unit="us")
            self._table = times.to_numpy().astype("datetime64[us]").astype(np.int64)
            self._length = int((self._table[-1] - self._table[0]) / (len(self._table) - 1))

    def __repr__(self) -> str:
        return f"Frequency({self.text!r})"

    @property
    def canonical(self) -> str:
        """The same text for the same grid, however it was written: 60min and 1h are both 3600s."""
        return f"{self._length // SECOND}s" if self._table is None else str(self._offset.freqstr)

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
            return times // self._length
        return np.searchsorted(self._table, times, side="right") - 1

    def time_of(self, steps: Ints) -> Ints:
        """Map steps to their grid times (microseconds)."""
        if self._table is None:
            return steps * self._length
        return self._table[np.clip(steps, 0, len(self._table) - 1)]

    @cached_property
    def season(self) -> int:
        """The usual season in steps: a day below a day, a week of days, a year above; 1 where none fits."""
        if self._table is not None and self._length < DAY:  # business hours: what a day that has any has
            return int(np.median(np.unique(self._table // DAY, return_counts=True)[1]))
        for cycle in (DAY, 7 * DAY, YEAR):
            steps = round(cycle / self._length)
            if steps >= 2:
                return steps
        return 1

    def calendar(self, steps: Ints) -> Floats:
        """Describe the steps' times by sine and cosine of each cycle that the grid can see: (N, F)."""
        times = self.time_of(steps)
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

    def _phases(self, times: Ints) -> tuple[Floats, Floats, Floats]:
        days = times // DAY
        stamps = times.astype("datetime64[us]")
        year = stamps.astype("datetime64[Y]")
        since = (stamps - year.astype("datetime64[us]")).astype(np.int64)
        length = ((year + 1).astype("datetime64[us]") - year.astype("datetime64[us]")).astype(np.int64)
        return (times % DAY) / DAY, ((days + 3) % 7 + (times % DAY) / DAY) / 7, since / length
