"""Matured forecasts as sums per cell, worked out by the database, a batch of ranges of days at a time."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Connection, select

from pipeline.database.engine import driver
from pipeline.database.jobs.scales import SEASONS, find_scales, season_length
from pipeline.database.packed import longest_reach
from pipeline.database.schema.instants import FIRST, from_datetime, from_text, to_datetime, to_text
from pipeline.database.schema.packed_sql import target_time
from pipeline.database.schema.shadow_tables import packed_shadow_forecasts
from pipeline.database.schema.tables import BASELINE, models
from pipeline.database.turns.rows import Rows
from pipeline.grid.times import EPOCH
from pipeline.job_facts import HORIZON_BUCKETS
from pipeline.records import Ints

DAY = 86_400_000_000  # microseconds
CELL = ("series_id", "model_version", "day", "horizon_from")
_ALL = 2**31 - 1
_SERIES_PER_QUERY = 10_000  # keeps a statement far below its timeout

_FIRST_STEP = " ".join(
    f"ELSE {first}" if last is None else f"WHEN v.step <= {last} THEN {first}"
    for first, last in HORIZON_BUCKETS.items()
)
SUMS = """
SELECT v.series_id, v.model_version, v.day,
       CASE {bucket} END AS horizon_from,
       COUNT(*) AS n,
       SUM(v.error) AS error,
       SUM(v.absolute_error) AS absolute_error,
       SUM(v.error * v.error) AS squared_error,
       SUM(v.pinball) AS pinball,
       SUM(ABS(v.actual)) AS absolute_actual,
       SUM(v.inside_80) AS inside_80,
       SUM(v.inside_95) AS inside_95,
       COUNT(v.naive_error) AS naive_n,
       COALESCE(SUM(ABS(v.naive_error)), 0) AS naive_absolute_error,
       COALESCE(SUM(CASE WHEN v.naive_error IS NOT NULL THEN v.absolute_error END), 0) AS absolute_error_beside_naive
FROM {view} v
WHERE v.series_id = {id} AND v.origin >= {oldest} AND v.origin < {until}
  AND v.target_time >= {since} AND v.target_time < {until}
GROUP BY v.series_id, v.model_version, v.day, 4
""".replace("{bucket}", _FIRST_STEP)
# LATERAL with a GROUP BY inside is not flattened, so each range reads its rows by primary key whatever the statistics.
_RANGES = (
    "FROM unnest(%s::int[], %s::timestamptz[], %s::timestamptz[], %s::timestamptz[])"
    " AS w (series_id, oldest, since, until)"
)
SUMS_OF_ALL = f"SELECT c.* {_RANGES} CROSS JOIN LATERAL ({SUMS}) c"
PUBLISHED, SHADOWS = "forecast_vs_actual", "shadow_vs_actual"
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
    cells = list(_sums(connection, ranges, PUBLISHED))
    if connection.execute(select(packed_shadow_forecasts.c.series_id).limit(1)).first():
        cells = _merge(cells, _sums(connection, ranges, SHADOWS))
    scales = _scales(connection, rows, cells)
    for cell in cells:
        scale = scales.get((cell["series_id"], cell["day"]), math.nan)
        usable = scale > 0  # a series that repeats its season exactly has no scale, as one without history
        cell["scale"] = scale if usable else None
        cell["scaled_n"] = cell["n"] if usable else 0
        cell["scaled_error"] = cell["absolute_error"] / scale if usable else 0.0
    return cells


def _merge(cells: list[dict[str, Any]], more: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add the sums of equal cells: a model that became champion was its shadow on the same day."""
    merged = {tuple(cell[name] for name in CELL): cell for cell in cells}
    for cell in more:
        there = merged.setdefault(tuple(cell[name] for name in CELL), cell)
        if there is not cell:
            there.update({name: value + cell[name] for name, value in there.items() if name not in CELL})
    return list(merged.values())


def _sums(connection: Connection, ranges: list[Range], view: str) -> Iterator[dict[str, Any]]:
    cursor = driver(connection).cursor()
    reach = longest_reach(connection)
    if connection.dialect.name == "sqlite":
        query = SUMS.format(view=view, id="?1", oldest="?2", since="?3", until="?4")
        for series_id, since, until in ranges:
            oldest = to_text(max(since - reach, FIRST))
            cursor.execute(query, (series_id, oldest, to_text(since), to_text(until)))
            names = [column[0] for column in cursor.description]
            for row in cursor:
                cell = dict(zip(names, row, strict=True))
                yield cell | {"day": date.fromisoformat(cell["day"])}
        return
    ids = [each.series_id for each in ranges]
    oldest_of_all = [to_datetime(max(each.since - reach, FIRST)) for each in ranges]
    bounds = [to_datetime(each.since) for each in ranges], [to_datetime(each.until) for each in ranges]
    query = SUMS_OF_ALL.format(view=view, id="w.series_id", oldest="w.oldest", since="w.since", until="w.until")
    cursor.execute(query, (ids, oldest_of_all, *bounds))
    names = [column.name for column in cursor.description]
    for row in cursor:
        yield dict(zip(names, row, strict=True))


def _scales(connection: Connection, rows: Rows, cells: list[dict[str, Any]]) -> dict[tuple[int, date], float]:
    grid = read_grid(connection)
    if grid.season is None or grid.step_seconds is None or not cells:
        return {}
    keys = sorted({(cell["series_id"], cell["day"]) for cell in cells})
    ids: Ints = np.array([own for own, _ in keys], np.int64)
    starts: Ints = np.array([midnight(day) for _, day in keys], np.int64)
    distinct, first = np.unique(ids, return_index=True)
    wanted = [starts[a:b] for a, b in pairwise([*first.tolist(), len(ids)])]
    length, tolerance = season_length(grid.season, grid.step_seconds)
    since = max(int(starts.min()) - (SEASONS + 1) * length - tolerance, midnight(date.min))
    history = rows.newest(connection, distinct, _ALL, since)
    found = np.concatenate(find_scales(history, grid.season, grid.step_seconds, wanted))
    return dict(zip(keys, found.tolist(), strict=True))


def midnight(day: date) -> int:
    """Return the first microsecond of a UTC day."""
    return (datetime(day.year, day.month, day.day, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
