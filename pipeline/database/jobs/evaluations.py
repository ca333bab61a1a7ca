"""Accuracy as it becomes known: matured forecasts summed up into the table `evaluations`, as far as anything changed.

A row is a cell: one series, one model, one UTC day of the target, one bucket of steps. Its columns are sums and counts,
so every average over any choice of cells is exact. A cell is never added to, only worked out again from the forecasts
and observations and replaced; so it is right after any crash, repetition or overlap.

What changed is found from two marks. Observations: everything recorded after a time. A row becomes visible after the
time that it bears, which was read before the commit on another machine's clock, so the mark stays `margin` behind the
clock of the monitor; what is read twice is worked out twice, to the same. Forecasts: everything at or after an offset
of each partition. Offsets are committed in order, by compare-and-set in the transaction of their rows, so there the
mark is exact; a recorded jump back takes it back.

A correction of a series reaches forward: it is an actual, later the naive's answer, and part of later scales. So
everything of that series from the earliest changed day on is stale, to its newest observation.

Retention deletes rows that were summed up, and a correction may reach back to such a day. There a cell that would have
less evidence than before stays as it is.

At the end of a sweep the sums of its days over the series of each group are written to `daily_accuracy`, so that an
average over days and series looks at a few rows and not at millions of cells. Which days these are is noted with the
place, batch by batch.
"""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Engine, Table, cast, delete, func, select

from pipeline.database.engine import reading, writing
from pipeline.database.jobs.judged import DAY
from pipeline.database.jobs.matured import Range, clip, read_grid, sum_up
from pipeline.database.jobs.pruned import read_pruned
from pipeline.database.jobs.states import read_state, replace_state
from pipeline.database.schema.instants import FIRST, LAST, to_datetime
from pipeline.database.schema.monitor_tables import daily_accuracy, evaluations, series_groups
from pipeline.database.schema.tables import ingest_jumps, ingest_state, observations, packed_forecasts, series, topics
from pipeline.database.turns.dialects import rows_of

STATE = "monitor"
EVERYTHING = "all"
"""The group of every series when there are none."""
NO_GROUP = "other"
"""The group of series that the pattern does not match."""
_DAYS_OF_A_RANGE = 32  # of one series, so that a batch is bounded however far back a correction reaches
_DAYS_OF_A_BATCH = 128  # series times days: about a second's work with 48 hourly steps
_ROWS = 10_000
_KEY = tuple(column.name for column in evaluations.primary_key)
_EVIDENCE = ("n", "naive_n", "scaled_n")


class EvaluatedRanges(NamedTuple):
    """Ranges of days that one transaction wrote: `done` of `total` so far, and the cells in these."""

    done: int
    total: int
    cells: int


class Evaluations:
    """The table `evaluations`, kept up to date."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._rows = rows_of(engine)

    def refresh(self, now: int, *, margin: float, group: str | None) -> Iterator[EvaluatedRanges]:
        """Work out again what is stale, batch by batch, each one transaction with the place it reached.

        `margin` in seconds: the longest commit and clock difference to allow for. `group` is a pattern with one group
        that finds a series' group in its name. Ends early when another process does the same at this moment.

        1 fix the marks that hold when this sweep is done, or find the sweep that was cut short, 2 list what changed
        since the marks before, 3 batch by batch: read, then write if nobody else has, 4 sum up the days, 5 let the new
        marks hold.
        """
        opened = self._open(now, margin, group)
        if opened is None:
            return
        epoch, state = opened
        with reading(self._engine) as connection:
            ranges = [each for each in _find_stale(connection, state) if [each.series_id, each.until] > state["at"]]
        done = 0
        for batch in _in_batches(ranges):
            with reading(self._engine) as connection:
                cells = sum_up(connection, self._rows, batch)
            with writing(self._engine) as connection:
                state = {**state, "at": [batch[-1].series_id, batch[-1].until], "days": _span(state, batch)}
                if not replace_state(connection, STATE, epoch, state):  # first: the row lock orders two monitors
                    return
                _replace_cells(connection, batch, cells)
            epoch += 1
            done += len(batch)
            yield EvaluatedRanges(done, len(ranges), len(cells))
        with reading(self._engine) as connection:
            sums = sum_days(connection, state["days"]) if "days" in state else []
        with writing(self._engine) as connection:
            if replace_state(connection, STATE, epoch, {**state["next"], "group": state["group"]}) and "days" in state:
                replace_days(connection, state["days"], sums)

    def _open(self, now: int, margin: float, group: str | None) -> tuple[int, dict[str, Any]] | None:
        with writing(self._engine) as connection:
            epoch, state = read_state(connection, STATE)
            regroup = not state or state["group"] != group
            if "next" not in state or state["next"]["grid"] != _spell_grid(connection):
                state = {**state, "next": _find_marks(connection, now, margin), "at": [0, FIRST]}
            if regroup and state.get("group", group) != group:
                state = {**state, "days": [FIRST, LAST]}
            if not replace_state(connection, STATE, epoch, state | {"group": group}):
                return None
            if regroup:
                connection.execute(delete(series_groups))
            _assign_groups(connection, group)
        return epoch + 1, state | {"group": group}


def find_group(name: str, pattern: str | None) -> str:
    """Return a series' group: what the one group of the pattern finds in its name."""
    if pattern is None:
        return EVERYTHING
    match = re.search(pattern, name)
    return NO_GROUP if match is None else match.group(1) or NO_GROUP


def _find_marks(connection: Connection, now: int, margin: float) -> dict[str, Any]:
    # Jumps before offsets: a jump between the two then counts as one that the next sweep has yet to see.
    jump = connection.execute(select(func.coalesce(func.max(ingest_jumps.c.id), 0))).scalar_one()
    state = ingest_state.c
    query = select(topics.c.topic_id, state.partition, state.next_offset, state.reforecasts).join(
        topics, topics.c.topic == state.topic
    )
    rows = connection.execute(query).all()
    return {
        "since": now - round(margin * 1e6),
        "offsets": {f"{row.topic_id}/{row.partition}": row.next_offset for row in rows},
        "reforecasts": {f"{row.topic_id}/{row.partition}": row.reforecasts for row in rows},
        "jump": jump,
        "grid": _spell_grid(connection),
    }


def _spell_grid(connection: Connection) -> list[float | None]:
    grid = read_grid(connection)
    return [grid.season, grid.step_seconds]


def _find_stale(connection: Connection, state: dict[str, Any]) -> list[Range]:
    """List the stale days, series by series in order of time, at most so many days in one."""
    since: dict[int, int] = {}
    if state.get("grid") != state["next"]["grid"]:  # the first time, or with another season: everything
        since = dict.fromkeys(connection.execute(select(series.c.series_id)).scalars(), FIRST)
    else:
        changed = _changed_observations(connection, state["since"]) + _new_forecasts(connection, state)
        for series_id, time in changed:
            since[series_id] = min(time, since.get(series_id, time))
    days = [(own, time // DAY * DAY if time > FIRST else FIRST) for own, time in sorted(since.items())]
    return [
        Range(own, start, min(start + _DAYS_OF_A_RANGE * DAY, until))
        for own, first, until in clip(connection, days)
        for start in range(first, until, _DAYS_OF_A_RANGE * DAY)
    ]


def _changed_observations(connection: Connection, since: int) -> list[tuple[int, int]]:
    column = observations.c
    query = select(column.series_id, func.min(column.observed_at)).where(column.recorded_at > since)
    return [(own, time) for own, time in connection.execute(query.group_by(column.series_id))]


def _new_forecasts(connection: Connection, state: dict[str, Any]) -> list[tuple[int, int]]:
    marks = {partition: state["offsets"].get(partition, 0) for partition in state["next"]["offsets"]}
    jumps = (
        select(topics.c.topic_id, ingest_jumps.c.partition, func.min(ingest_jumps.c.to_offset).label("to_offset"))
        .join(topics, topics.c.topic == ingest_jumps.c.topic)
        .where(ingest_jumps.c.id > state["jump"])
        .group_by(topics.c.topic_id, ingest_jumps.c.partition)
    )
    for row in connection.execute(jumps):
        partition = f"{row.topic_id}/{row.partition}"
        marks[partition] = min(row.to_offset, marks.get(partition, 0))
    found = []
    column = packed_forecasts.c
    for partition, offset in marks.items():
        topic_id, number = map(int, partition.split("/"))
        again = state.get("reforecasts", {}).get(partition, 0)
        for later in (column.source_offset >= offset, column.source_offset < -again):  # the n-th re-forecast is at -n
            new = select(column.series_id, func.min(column.origin)).where(
                column.source_topic == topic_id,
                column.source_partition == number,
                later,
            )
            found += [(own, time) for own, time in connection.execute(new.group_by(column.series_id))]
    return found


def _in_batches(ranges: list[Range]) -> Iterator[list[Range]]:
    batch: list[Range] = []
    days = 0
    for each in ranges:
        batch.append(each)
        days += (each.until - each.since) // DAY
        if days >= _DAYS_OF_A_BATCH:
            yield batch
            batch, days = [], 0
    if batch:
        yield batch


def _replace_cells(connection: Connection, batch: list[Range], cells: list[dict[str, Any]]) -> None:
    new = {tuple(cell[name] for name in _KEY): cell for cell in cells}
    pruned = read_pruned(connection)
    for own, since, until in batch:
        first, stop = (to_datetime(time).date() for time in (since, until))
        days = evaluations.c.series_id == own, evaluations.c.day >= first, evaluations.c.day < stop
        if since < pruned:
            before = evaluations.c.day <= to_datetime(pruned).date()
            for old in connection.execute(select(evaluations).where(*days, before)).mappings():
                key = tuple(old[name] for name in _KEY)
                if key not in new or any(new[key][name] < old[name] for name in _EVIDENCE):
                    new[key] = dict(old)
        connection.execute(delete(evaluations).where(*days))
    if new:
        connection.execute(evaluations.insert(), list(new.values()))


def _span(state: dict[str, Any], batch: list[Range]) -> list[int]:
    """Return the first of the days that a sweep has changed so far, and the end of the last."""
    first, until = state.get("days", [LAST, FIRST])
    return [min(first, *(each.since for each in batch)), max(until, *(each.until for each in batch))]


def sum_days(connection: Connection, span: list[int]) -> list[dict[str, Any]]:
    """Sum cells up over the series of each group, day by day, as rows of `daily_accuracy`."""
    keys = [evaluations.c[name] for name in ("day", "model_version", "horizon_from")]
    group = func.coalesce(series_groups.c.series_group, EVERYTHING).label("series_group")
    sums = [
        cast(func.sum(evaluations.c[column.name]), column.type).label(column.name)
        for column in daily_accuracy.columns
        if not column.primary_key
    ]
    query = (
        select(*keys, group, *sums)
        .select_from(evaluations.outerjoin(series_groups, series_groups.c.series_id == evaluations.c.series_id))
        .where(*_within(evaluations, span))
        .group_by(*keys, group)
    )
    return [dict(row) for row in connection.execute(query).mappings()]


def replace_days(connection: Connection, span: list[int], sums: list[dict[str, Any]]) -> None:
    """Write the rows of `daily_accuracy` of some days."""
    connection.execute(delete(daily_accuracy).where(*_within(daily_accuracy, span)))
    if sums:
        connection.execute(daily_accuracy.insert(), sums)


def _within(table: Table, span: list[int]) -> tuple[ColumnElement[bool], ...]:
    first, last = (to_datetime(time).date() for time in (span[0], span[1] - 1))
    return table.c.day >= first, table.c.day <= last


def _assign_groups(connection: Connection, pattern: str | None) -> None:
    query = (
        select(series.c.series_id, series.c.name)
        .outerjoin(series_groups, series_groups.c.series_id == series.c.series_id)
        .where(series_groups.c.series_id.is_(None))
    )
    missing = connection.execute(query).all()
    for start in range(0, len(missing), _ROWS):
        named = [
            {"series_id": row.series_id, "series_group": find_group(row.name, pattern)}
            for row in missing[start : start + _ROWS]
        ]
        connection.execute(series_groups.insert(), named)
