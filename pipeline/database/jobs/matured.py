"""Matured forecasts as sums per cell, a batch of ranges of days at a time."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Connection, Row, Table, func, select

from pipeline.database.engine import driver
from pipeline.database.jobs.judged import DAY, JudgedSteps, Observed, find_at, find_naive, sum_steps
from pipeline.database.jobs.scales import SEASONS, find_scales, season_length
from pipeline.database.packed import longest_reach, packed_columns_of, unpack_steps
from pipeline.database.schema.instants import FIRST, from_datetime, from_text, to_datetime, to_text
from pipeline.database.schema.packed_sql import target_time
from pipeline.database.schema.shadow_tables import packed_shadow_forecasts
from pipeline.database.schema.tables import BASELINE, horizon_steps, models, packed_forecasts
from pipeline.database.turns.rows import Rows
from pipeline.grid.times import EPOCH

CELL = ("series_id", "model_version", "day", "horizon_from")
_ALL = 2**31 - 1
_SERIES_PER_QUERY = 10_000  # keeps a statement far below its timeout
_FORECASTS_AT_ONCE = 500

BOUNDS = """
SELECT CASE WHEN EXISTS (SELECT 1 FROM packed_forecasts p WHERE p.series_id = {id} AND p.origin >= {oldest}
                         AND p.origin < {since} AND {last_target} >= {since})
            THEN {since}
            ELSE (SELECT {first_target} FROM packed_forecasts p WHERE p.series_id = {id} AND p.origin >= {since}
                  ORDER BY p.origin LIMIT 1) END AS first_target,
       (SELECT MAX(o.observed_at) FROM observations o WHERE o.series_id = {id}) AS last_observed
"""
BOUNDS_OF_ALL = (
    "SELECT b.* FROM unnest(%s::int[], %s::timestamptz[], %s::timestamptz[]) WITH ORDINALITY"
    f" AS w (series_id, oldest, since, place) CROSS JOIN LATERAL ({BOUNDS}) b ORDER BY w.place"
)


class Range(NamedTuple):
    """Whole UTC days of a series, [since, until) in microseconds."""

    series_id: int
    since: int
    until: int


@dataclass(frozen=True, slots=True)
class GridOfViews:
    """The grid that the views use, kept with model version 0; None where it was never described."""

    season: int | None
    step_seconds: float | None


def read_grid(connection: Connection) -> GridOfViews:
    """Return the grid of the moment."""
    found = connection.execute(select(models.c.season, models.c.step_seconds).where(models.c.version == BASELINE)).one()
    return GridOfViews(found.season, found.step_seconds)


def clip(connection: Connection, ranges: Iterable[tuple[int, int]]) -> Iterator[Range]:
    """Turn (series, since) into the days from its first target there to its last observation; none if there is none.

    Days before the first forecast have no forecasts any more, so what was summed while they were there stays.
    """
    wanted = list(ranges)
    for start in range(0, len(wanted), _SERIES_PER_QUERY):
        some = wanted[start : start + _SERIES_PER_QUERY]
        for (series_id, _), (first, last) in zip(some, _bounds(connection, some), strict=True):
            if first is not None and last is not None and first <= last:
                yield Range(series_id, first // DAY * DAY, (last // DAY + 1) * DAY)


def _bounds(connection: Connection, wanted: list[tuple[int, int]]) -> Iterator[tuple[int | None, int | None]]:
    cursor = driver(connection).cursor()
    dialect = connection.dialect.name
    targets = {"first_target": target_time(dialect, "1"), "last_target": target_time(dialect, "p.steps")}
    reach = longest_reach(connection)
    if dialect == "sqlite":
        query = BOUNDS.format(id="?1", oldest="?2", since="?3", **targets)
        for series_id, since in wanted:
            oldest = to_text(max(since - reach, FIRST))
            ((first, last),) = cursor.execute(query, (series_id, oldest, to_text(since)))
            yield first and from_text(first), last and from_text(last)
        return
    query = BOUNDS_OF_ALL.format(id="w.series_id", oldest="w.oldest", since="w.since", **targets)
    ids, times = [own for own, _ in wanted], [to_datetime(since) for _, since in wanted]
    oldest_of_all = [to_datetime(max(since - reach, FIRST)) for _, since in wanted]
    for first, last in cursor.execute(query, (ids, oldest_of_all, times)):
        yield first and from_datetime(first), last and from_datetime(last)


def sum_up(connection: Connection, rows: Rows, ranges: list[Range]) -> list[dict[str, Any]]:
    """Return the rows of `evaluations` for these ranges, at most one range per series and cell."""
    grid = read_grid(connection)
    tables = [packed_forecasts]
    if connection.execute(select(packed_shadow_forecasts.c.series_id).limit(1)).first():
        tables.append(packed_shadow_forecasts)
    history = _read_history(connection, rows, ranges, grid)
    reach = longest_reach(connection)
    cells: list[dict[str, Any]] = []
    for each in ranges:
        observed = history[each.series_id]
        own = [cell for table in tables for cell in _sum_range(connection, table, each, reach, observed, grid)]
        cells += _merge({"series_id": each.series_id, **cell} for cell in own)
    scales = _scales(cells, history, grid)
    for cell in cells:
        scale = scales.get((cell["series_id"], cell["day"]), math.nan)
        usable = scale > 0  # a series that repeats its season exactly has no scale, as one without history
        cell["scale"] = scale if usable else None
        cell["scaled_n"] = cell["n"] if usable else 0
        cell["scaled_error"] = cell["absolute_error"] / scale if usable else 0.0
    return cells


def _sum_range(
    connection: Connection, table: Table, own: Range, reach: int, observed: Observed, grid: GridOfViews
) -> Iterator[Mapping[str, Any]]:
    """Sum up the steps of a series with a target in the range that have matured."""
    row = table.c
    query = (
        select(row.origin, row.model_version, *packed_columns_of(table))
        .where(row.series_id == own.series_id, row.origin >= max(own.since - reach, FIRST), row.origin < own.until)
        .execution_options(yield_per=_FORECASTS_AT_ONCE)
    )
    for some in connection.execute(query).partitions():  # summed piece by piece: a month of minutes has 2 million steps
        for steps in _judge(list(some), own, observed):
            naive = np.full(len(steps.step), np.nan)
            if grid.season is not None and grid.step_seconds is not None:
                naive = find_naive(observed, steps, grid.season, grid.step_seconds)
            yield from sum_steps(steps, naive)


def _judge(rows: list[Row[Any]], own: Range, observed: Observed) -> Iterator[JudgedSteps]:
    version = np.array([row.model_version for row in rows], np.int64)
    for steps in unpack_steps(np.array([row.origin for row in rows], np.int64), rows):
        wanted = (steps.target_times >= own.since) & (steps.target_times < own.until)
        forecast, step = np.nonzero(wanted)
        target = steps.target_times[forecast, step]
        actual = find_at(observed, target)
        seen = ~np.isnan(actual)
        forecast, step = forecast[seen], step[seen]
        yield JudgedSteps(
            version[steps.places[forecast]], step + 1, target[seen], steps.quantiles[forecast, step], actual[seen]
        )


def _merge(cells: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add the sums of equal cells: a model that became champion was its shadow on the same day."""
    merged: dict[tuple[Any, ...], dict[str, Any]] = {}
    for cell in cells:
        there = merged.setdefault(tuple(cell[name] for name in CELL), cell)
        if there is not cell:
            there.update({name: value + cell[name] for name, value in there.items() if name not in CELL})
    return list(merged.values())


def _read_history(connection: Connection, rows: Rows, ranges: list[Range], grid: GridOfViews) -> dict[int, Observed]:
    """Read the values of each series that the ranges need: actuals, the naive's answers, and scales before them."""
    ids = np.unique(np.array([each.series_id for each in ranges], np.int64))
    since = min((each.since for each in ranges), default=FIRST)
    if grid.season is not None and grid.step_seconds is not None:
        longest = connection.execute(select(func.max(horizon_steps.c.step))).scalar() or 0
        length, tolerance = season_length(grid.season, grid.step_seconds)
        since = max(since - max(SEASONS + 1, -(-longest // grid.season)) * length - tolerance, midnight(date.min))
    found = rows.newest(connection, ids, _ALL, since)
    observed = {}
    for place, own in enumerate(ids.tolist()):
        part = slice(found.bounds[place], found.bounds[place + 1])
        seen = found.observed[part]
        observed[own] = Observed(found.observed_at[part][seen], found.value[part][seen])
    return observed


def _scales(
    cells: list[dict[str, Any]], history: Mapping[int, Observed], grid: GridOfViews
) -> dict[tuple[int, date], float]:
    if grid.season is None or grid.step_seconds is None:
        return {}
    wanted: dict[int, set[date]] = {}
    for cell in cells:
        wanted.setdefault(cell["series_id"], set()).add(cell["day"])
    found = {}
    for own, days in wanted.items():
        ordered = sorted(days)
        starts = np.array([midnight(day) for day in ordered], np.int64)
        scales = find_scales(history[own], grid.season, grid.step_seconds, starts)
        found.update({(own, day): scale for day, scale in zip(ordered, scales.tolist(), strict=True)})
    return found


def midnight(day: date) -> int:
    """Return the first microsecond of a UTC day."""
    return (datetime(day.year, day.month, day.day, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
