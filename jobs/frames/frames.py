"""Long pandas frames, one row per observation, to a History on the grid and back to frames of forecasts.

series_id  time              value          names: Columns, or found (Nixtla's unique_id, ds, y too)
a          2026-01-01 00:00  3.2            time without an offset is UTC
a          2026-01-01 02:00  NaN            missing, as is the hour that has no row

Columns of covariates may be beside them (jobs.covariates). Where known-future ones are read, rows after a series' last
observed value are its future, so its history ends at that value.

Reading is total: a frame becomes Readings, or a ConfigError says what is wrong and where.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import tzinfo
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jobs.frames.columns import KNOWN, Columns, read_numbers, read_times
from jobs.frames.covariates import CovariateNames, Rows, check_columns, merge, read_future, read_matrix, read_static
from jobs.frames.dataframes import Table, name_periods, open_table, read_periods, to_periods
from jobs.frames.grid_check import check_empty, check_merged
from jobs.frames.grid_choice import Wish, choose_grid, say_off_grid
from jobs.frames.series_names import read_series
from models.config import QUANTILE_NAMES
from pipeline.errors import ConfigError
from pipeline.forecasting.windows import Known
from pipeline.grid.frequency import Frequency
from pipeline.grid.stamps import as_written
from pipeline.grid.times import AUTO, TimeRule
from pipeline.records import Events, Floats, History, Ints
from pipeline.settings import Policy
from pipeline.stream.observe import fold

OPTIONS = {"series_id": "--series-id", "time": "--timestamp", "value": "--value"}
MOST_NAMES = 20
MOST_STEPS = 100_000_000
SPARSE_STEPS, SPARSE = 10_000_000, 1_000
"""A grid of more steps has a row for every thousandth of them, or it is refused."""
SPARE_STEPS, STRETCH, FEW = 100_000, 10, 5
"""The outermost rows of a series, one of a hundred, stretch it by fewer steps, or to less than ten times the rest."""
NO_COVARIATES = CovariateNames()
FINEST = Frequency("1s")
RESERVED = {"origin", "step", "quality", "seasonal_naive"}
PARQUET = (".parquet", ".pq")


@dataclass(frozen=True, slots=True)
class Readings:
    """S series of a frame on the grid, each with at least one observed value.

    names (S,) as text, labels (S,) as in the frame; known: future and static covariates, those of the past are in the
    history; columns: the names found; zone: of the frame's times, None when they have none (then they are UTC); said:
    in words, of times that were not written alike; merged: rows that shared a step with an earlier one; left_out:
    series without any observed value; frequency: of the grid; kind: of the series' names in the frame; period: the
    frequency of its times if they are periods; remarks: what does not quite fit.
    """

    names: tuple[str, ...]
    labels: tuple[Any, ...]
    history: History
    known: Known
    columns: Columns
    zone: tzinfo | None
    said: tuple[str, ...]
    merged: int
    left_out: tuple[str, ...]
    frequency: Frequency
    kind: str = ""
    period: str | None = None
    remarks: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Readings({len(self.names):,} series, {len(self.history.value):,} rows, {self.frequency.text})"

    def notes(self) -> list[str]:
        """Say in words what a reader may not expect."""
        notes = list(self.said)
        if self.left_out:
            shown = ", ".join(self.left_out[:5]) + (", ..." if len(self.left_out) > 5 else "")
            notes.append(f"{len(self.left_out)} series have no observed value and are left out: {shown}")
        if self.merged and self.columns.series_id is None:
            notes.append(
                f"there is no column of series, so this is one series, and {self.merged:,} rows share a step with "
                "another: if it is several series, name their column"
            )
        return [*notes, *self.remarks]


def read_table(file: Path, columns: Columns) -> pd.DataFrame:
    """Read a CSV or Parquet file, series as text; ConfigError when it cannot be read."""
    if not file.is_file():
        raise ConfigError(f"file {file} does not exist")
    try:
        if file.suffix in PARQUET:
            return pd.read_parquet(file)
        present = pd.read_csv(file, nrows=0).columns
        names = (columns.series_id,) if columns.series_id else KNOWN["series_id"]
        texts = {name: str for name in present if name in names}
        time = columns.time or next((each for each in KNOWN["time"] if each in present), None)
        table = pd.read_csv(file, converters=texts, low_memory=False)  # so that NA is a name, and 007 is
    except ImportError as error:
        raise ConfigError("reading Parquet needs pyarrow: pip install 'tidecast[parquet]'") from error
    except (ValueError, OSError) as error:
        raise ConfigError(f"{file} is not a readable CSV or Parquet file: {' '.join(str(error).split())}") from error
    if not isinstance(table.index, pd.RangeIndex):
        raise ConfigError(f"{file}: rows have more cells than the header; put a cell with a comma in quotes")
    return table if time is None or time not in present else table.assign(**{time: as_written(table[time])})


def read_frame(
    frame: pd.DataFrame,
    columns: Columns,
    *,
    frequency: Frequency | Wish,
    duplicates: Policy | None,
    covariates: CovariateNames = NO_COVARIATES,
    future: pd.DataFrame | None = None,
    times: TimeRule = AUTO,
) -> Readings:
    """Lay a long frame on the grid: rows in any order, several in one step merged by the policy, NaN is missing.

    A wish for a grid is completed from the rows. Without a policy the last row of a step counts, as long as few share
    one. `future` holds known-future covariates in rows of their own, which win over those of `frame`; `times`
    says what is a time. ConfigError says what cannot be read, with the data row (counted from 1, without the header and
    empty lines), or why the grid does not fit the rows.
    """
    table = open_table(frame, value=columns.value)
    frame, columns = table.frame, _find_columns(table, columns, covariates.every())
    check_columns(frame, covariates.every(), columns.to_dict(), RESERVED | set(QUANTILE_NAMES))
    if frame.empty:
        raise ConfigError("there are no rows to read")
    moments, period = read_periods(frame[columns.time])
    if isinstance(frequency, Wish) and frequency.frequency is None and period is not None:
        frequency = replace(frequency, frequency=name_periods(period))
    row, names, labels, kind, said = read_series(frame, columns.series_id)
    stamps = read_times(moments, FINEST if isinstance(frequency, Wish) else frequency, times, row)
    value = read_numbers(frame[columns.value])
    if not np.isfinite(value).any():
        raise ConfigError(f"column {columns.value} has no observed value: there is nothing to forecast from")
    remarks = [*said]
    if isinstance(frequency, Wish):
        frequency, found = choose_grid(frequency, names, row, stamps.times, stamps.zone)
        remarks += found
        read_times(moments, frequency, times, row)  # which says whether its grid holds them
    if duplicates is None:
        remarks += say_off_grid(frequency, stamps.times)
    static = read_static(frame, covariates.static, row, names)

    order = np.argsort(stamps.times, kind="stable")  # the policy goes by event time, then by the frame's order
    ordered = value[order]
    observed = np.isfinite(ordered)
    past = read_matrix(frame, covariates.past)[order]  # (rows, P)
    nowhere = np.zeros(len(order), np.int64)
    place = order.astype(np.int64)
    events = Events(nowhere, (), stamps.times[order], np.where(observed, ordered, 0.0), observed, place, past)
    row, step = row[order], frequency.step_of(stamps.times[order])
    _check_span(names, row, step, place, frequency)
    folded = fold(duplicates or "last", row, step, events)
    some = np.bincount(folded.row, weights=folded.observed, minlength=len(names)) > 0
    kept, ahead = some[folded.row], Rows(row[:0], step[:0], np.empty((0, 0)))
    if covariates.future:
        last = np.full(len(names), np.iinfo(np.int64).min)
        np.maximum.at(last, folded.row[folded.observed], folded.step[folded.observed])
        kept &= folded.step <= last[folded.row]
        ahead = Rows(row, step, read_matrix(frame, covariates.future)[order])
        if future is not None:
            more = read_future(
                future, covariates.future, columns=columns, frequency=frequency, series=names, times=times
            )
            ahead = Rows(*(np.concatenate(parts) for parts in zip(ahead, more, strict=True)))
        ahead = merge(*ahead).of(some)
    bounds = np.concatenate([[0], np.cumsum(np.bincount(folded.row[kept], minlength=len(names))[some])])
    if duplicates is None and len(folded.row) < len(row):
        is_one = columns.series_id is None
        remarks += check_merged(
            names, row, stamps.times[order], ordered, frequency=frequency, zone=stamps.zone, is_one=is_one
        )
    seen = folded.observed
    remarks += check_empty(names, folded.row[seen], folded.step[seen], frequency=frequency, zone=stamps.zone)
    return Readings(
        names=tuple(name for name, has in zip(names, some, strict=True) if has),
        labels=tuple(label for label, has in zip(labels, some, strict=True) if has),
        history=History(
            series_id=np.arange(1, int(some.sum()) + 1),
            bounds=bounds.astype(np.int64),
            observed_at=frequency.time_of(folded.step[kept]),
            value=folded.value[kept],
            observed=folded.observed[kept],
            events=folded.events[kept],
            covariates=np.where(folded.past[1], folded.past[0], np.nan)[kept],
        ),
        known=Known(ahead.row, ahead.step, ahead.values, static[some]),
        columns=columns,
        zone=stamps.zone,
        said=stamps.notes,
        merged=len(row) - len(folded.row),
        left_out=tuple(name for name, has in zip(names, some, strict=True) if not has),
        frequency=frequency,
        kind=kind,
        period=period,
        remarks=tuple(remarks),
    )


def write_frame(
    readings: Readings,
    rows: Ints,
    firsts: Ints,
    quantiles: Floats,
    *,
    frequency: Frequency,
    more: Mapping[str, Any],
) -> pd.DataFrame:
    """Write forecasts as a long frame in the words and the time zone of what was read.

    rows (N,) of `readings`; firsts (N,) grid steps of the first targets; quantiles (N, H, Q); `more` are further
    columns, (N,) or (N, H).
    """
    count, horizon = quantiles.shape[:2]
    steps = firsts[:, None] + np.arange(horizon)  # (N, H)
    times = frequency.time_of(steps.ravel()).reshape(steps.shape)
    if (np.diff(times, axis=1) <= 0).any():
        raise ConfigError(f"a horizon of {horizon} steps of {frequency.text} leaves the grid")
    labels = pd.Series(list(readings.labels))
    columns: dict[str, Any] = {
        readings.columns.series_id or "series_id": labels.iloc[np.repeat(rows, horizon)].to_numpy(),
        readings.columns.time or "time": _stamps(times.ravel(), readings),
        "origin": _stamps(np.repeat(frequency.time_of(firsts - 1), horizon), readings),
        "step": np.tile(np.arange(1, horizon + 1), count),
    }
    columns |= {name: quantiles[:, :, q].ravel() for q, name in enumerate(QUANTILE_NAMES)}
    for name, values in more.items():
        columns[name] = np.repeat(values, horizon) if np.ndim(values) == 1 else np.ravel(values)
    return pd.DataFrame(columns)


def _find_columns(table: Table, wanted: Columns, covariates: Sequence[str]) -> Columns:
    frame, of_index = table.frame, {"time": (table.time,) if table.time else (), "series_id": table.series}
    present = list(frame.columns)
    given = {*covariates, *filter(None, asdict(wanted).values())}
    found = wanted
    for role, known in KNOWN.items():
        may_be = [name for name in known if name in present]
        may_be = [name for name in may_be if name not in given] or may_be
        levels = of_index.get(role, ())
        if role == "time" or not may_be:  # an index of times is one beside a column; levels beside it are its series
            may_be += [name for name in levels if name not in may_be]
        name = getattr(wanted, role) or next(iter(may_be), None)
        how = f"columns={{{role!r}: ...}} or {OPTIONS[role]}"
        if getattr(wanted, role) is None and len(may_be) > 1:
            joined = " + '/' + ".join(f"frame[{name!r}].astype(str)" for name in may_be)
            both = (
                f"; or make one of them: frame = frame.reset_index(); frame[{role!r}] = {joined}"
                if may_be == list(levels)
                else ""
            )
            raise ConfigError(f"columns {' and '.join(may_be)} may each be that of {role}: choose one, {how}{both}")
        if name is None and role != "series_id":
            hint = _hint_wide(table, found) if role == "value" else ""
            words = f"no column {' or '.join(known)}: there are {_list(present)}"
            raise ConfigError(f"{words}; name the {role} column: {how}{hint}")
        if name is not None and present.count(name) != 1:
            times = "more than one" if name in present else "no"
            raise ConfigError(f"there is {times} column {name}: there are {_list(present)}; name it: {how}")
        found = replace(found, **{role: name})
    chosen = [name for name in (found.series_id, found.time, found.value) if name is not None]
    if len(set(chosen)) < len(chosen):
        raise ConfigError(f"series, time and value must be different columns, not {', '.join(chosen)}")
    taken = sorted(set(chosen) & (RESERVED | set(QUANTILE_NAMES)))
    if taken:
        raise ConfigError(f"rename column {', '.join(taken)}: forecasts have a column of that name")
    return found


def _hint_wide(table: Table, found: Columns) -> str:
    """Say how a frame with a column per series becomes one with a row per value."""
    frame = table.frame
    others = [name for name in frame.columns if str(name) not in (found.series_id, found.time)]
    numbers = [str(name) for name in others if pd.api.types.is_numeric_dtype(frame[name].dtype)]
    if len(numbers) < 2:
        return ""
    rows = f"frame.reset_index(names={found.time!r})" if table.time else "frame"
    melt = f"{rows}.melt({found.time!r}, var_name='series_id', value_name='value')"
    return f"; if {_list(numbers)} are series, make a row of each value: {melt}"


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:MOST_NAMES]) + (", ..." if len(names) > MOST_NAMES else "")


def _check_span(names: Sequence[str], row: Ints, step: Ints, place: Ints, frequency: Frequency) -> None:
    """Refuse rows that make a nearly empty grid; they are in the order of time, `place` says where in the frame.

    One time of 1980 in a file of minutes would lay out 24 million steps.
    """
    sort = np.argsort(row, kind="stable")
    counts = np.bincount(row, minlength=len(names))
    stops = np.cumsum(counts)
    first, last = step[sort][stops - counts], step[sort][stops - 1]
    span = last - first + 1
    for series in np.flatnonzero((span > SPARE_STEPS) & (counts >= FEW)).tolist():
        own = sort[stops[series] - counts[series] : stops[series]]
        steps, outer = step[own], max(1, len(own) // 100)
        low, high = int(steps[outer]), int(steps[-1 - outer])
        core = high - low + 1
        if span[series] > max(STRETCH * core, core + SPARE_STEPS):
            early = low - steps[0] > steps[-1] - high
            stray, away = (own[0], low - steps[0]) if early else (own[-1], steps[-1] - high)
            at = np.datetime_as_string(
                frequency.time_of(steps[:1] if early else steps[-1:]).astype("datetime64[us]"), "s"
            )
            raise ConfigError(
                f"data row {int(place[stray]) + 1}: {at[0]}Z is {int(away):,} steps of {frequency.text} away from "
                f"nearly all {len(own):,} rows of series {names[series]}: correct its time, or leave it out"
            )
    total = int(span.sum())
    if total > MOST_STEPS or (total > SPARSE_STEPS and total > SPARSE * len(row)):
        widest = int(span.argmax())
        raise ConfigError(
            f"series {names[widest]} reaches over {int(span[widest]):,} steps of {frequency.text} with "
            f"{int(counts[widest]):,} rows: check its times, or choose a longer frequency"
        )


def _stamps(times: Ints, readings: Readings) -> "pd.DatetimeIndex | pd.PeriodIndex":
    stamps = pd.DatetimeIndex(times.astype("datetime64[us]"))
    if readings.period is not None:
        return to_periods(stamps, readings.period)
    return stamps if readings.zone is None else stamps.tz_localize("UTC").tz_convert(readings.zone)
