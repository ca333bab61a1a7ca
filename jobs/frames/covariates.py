"""Covariates of a frame: which columns they are, and what they hold on the grid.

past     known up to the origin         wind: measured
future   known before it happens        price: its rows go on past the last value, or come as a frame of their own
static   the same all through a series  size: its first value that is not missing

Missing is NaN. Of several rows in one step, past covariates are merged as values are, by the policy; of the others the
last one that is there counts.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
import pandas as pd

from jobs.frames.columns import read_numbers, read_times
from jobs.frames.dataframes import open_table, read_periods
from jobs.frames.series_names import read_series
from pipeline.errors import ConfigError
from pipeline.grid.frequency import Frequency
from pipeline.grid.times import TimeRule
from pipeline.records import Floats, Ints, Mask

if TYPE_CHECKING:
    from jobs.frames.columns import Columns

HINT = "; a covariate is a number: encode text, 0 and 1 for each of its words"


@dataclass(frozen=True, slots=True)
class CovariateNames:
    """The columns of a frame that are read beside its values."""

    past: tuple[str, ...] = ()
    future: tuple[str, ...] = ()
    static: tuple[str, ...] = ()

    @classmethod
    def of(cls, **kinds: Iterable[str] | None) -> Self:
        """Read lists of names; ConfigError for what is none, or names a column twice."""
        for kind, names in kinds.items():
            if isinstance(names, str):
                raise ConfigError(f"{kind}_covariates: write a list of names, [{names!r}], not {names!r}")
        found = cls(**{kind: tuple(names or ()) for kind, names in kinds.items()})
        every = found.every()
        if not all(isinstance(name, str) and name for name in every):
            raise ConfigError(f"covariates are names of columns, not {', '.join(map(repr, every))}")
        twice = sorted({name for name in every if every.count(name) > 1})
        if twice:
            raise ConfigError(f"covariate {', '.join(twice)} is named twice: it is past, future or static")
        return found

    def every(self) -> tuple[str, ...]:
        """Past, then future, then static names."""
        return (*self.past, *self.future, *self.static)

    def keywords(self) -> dict[str, list[str]]:
        """Name them as the arguments of Forecaster do."""
        return {f"{field.name}_covariates": list(getattr(self, field.name)) for field in fields(self)}


class Rows(NamedTuple):
    """Covariates (M, C) at steps (M,) of series (M,)."""

    row: Ints
    step: Ints
    values: Floats

    def of(self, series: Mask) -> "Rows":
        """Keep those of some series, which are numbered anew."""
        kept = series[self.row]
        return Rows((np.cumsum(series) - 1)[self.row[kept]], self.step[kept], self.values[kept])


def check_columns(
    frame: pd.DataFrame, names: Sequence[str], taken: Mapping[str, str | None], reserved: set[str]
) -> None:
    """Refuse covariates that the frame lacks or has twice, or that are something else; `taken` maps roles to names."""
    roles = {name: role for role, name in taken.items() if name is not None}
    for name in names:
        if name in roles:
            raise ConfigError(f"covariate {name} is the frame's column of {roles[name]}: name another one")
        if name in reserved:
            raise ConfigError(f"rename covariate {name}: forecasts have a column of that name")
    present = [str(name) for name in frame.columns]
    wrong = [name for name in names if present.count(name) != 1]
    if wrong:
        times = "more than one" if wrong[0] in present else "no"
        raise ConfigError(f"there is {times} column {', '.join(wrong)}: there are {', '.join(present)}")


def read_matrix(frame: pd.DataFrame, names: Sequence[str]) -> Floats:
    """Read columns of numbers as (N, C), NaN where there is none."""
    columns = [read_numbers(frame[name], hint=HINT) for name in names]
    return np.column_stack(columns) if columns else np.empty((len(frame), 0))


def merge(row: Ints, step: Ints, values: Floats) -> Rows:
    """Make one row of those of a series and step, sorted; in each column the last value that is there counts."""
    order = np.lexsort((step, row))
    row, step, values = row[order], step[order], values[order]
    starts = np.flatnonzero(np.r_[True, (row[1:] != row[:-1]) | (step[1:] != step[:-1])])
    place = np.where(np.isfinite(values), np.arange(len(row))[:, None], -1)  # (N, C)
    newest = np.maximum.reduceat(place, starts, axis=0)  # (M, C), -1 where none is there
    found = np.take_along_axis(values, newest.clip(min=0), axis=0)
    return Rows(row[starts], step[starts], np.where(newest >= 0, found, np.nan))


def read_static(frame: pd.DataFrame, names: Sequence[str], row: Ints, series: Sequence[str]) -> Floats:
    """Read what is the same all through each of S series, (S, Z); ConfigError for a column that varies within one."""
    values = read_matrix(frame, names)
    known = np.isfinite(values)
    low, high = (np.full((len(series), len(names)), end) for end in (np.inf, -np.inf))
    np.minimum.at(low, row, np.where(known, values, np.inf))
    np.maximum.at(high, row, np.where(known, values, -np.inf))
    varies = low < high
    if varies.any():
        at, column = np.argwhere(varies)[0]
        raise ConfigError(
            f"static covariate {names[column]} varies within series {series[at]}, from {low[at, column]:g} to "
            f"{high[at, column]:g}: name it among the past or future covariates"
        )
    return np.where(np.isfinite(low), low, np.nan)


def read_future(
    future: object,
    names: Sequence[str],
    *,
    columns: "Columns",
    frequency: Frequency,
    series: Sequence[str],
    times: TimeRule,
) -> Rows:
    """Read a frame of future covariates, with the columns of series and time that the first frame has.

    Rows of series that the first frame does not have are not used; ConfigError when it has none of them.
    """
    try:
        frame = open_table(future).frame
        assert columns.time is not None, "found by read_frame"
        check_columns(frame, [name for name in (columns.series_id, columns.time, *names) if name], {}, set())
        if frame.empty:
            return Rows(np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, len(names))))
        own, found, *_ = read_series(frame, columns.series_id)
        at = read_times(read_periods(frame[columns.time])[0], frequency, times, own).times
        place = {name: index for index, name in enumerate(series)}
        row = np.array([place.get(name, -1) for name in found], np.int64)[own]
        values = read_matrix(frame, names)
        if (row < 0).all():
            raise ConfigError(f"series {', '.join(found[:5])} are not in the frame that is forecast")
    except ConfigError as error:
        raise ConfigError(f"future: {error}") from error
    order = np.argsort(at, kind="stable")
    order = order[row[order] >= 0]
    return Rows(row[order], frequency.step_of(at[order]), values[order])
