"""Forecasts that earlier releases stored, one row a step, become one row each, a batch a transaction.

What is done is noted in the transaction that does it, so an upgrade that was cut short goes on where it was. Nothing
is deleted meanwhile: the former tables are dropped at the end. Numbers stay what they were.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Double,
    Engine,
    Integer,
    MetaData,
    Row,
    Table,
    Text,
    delete,
    func,
    inspect,
    select,
)

from models.config import QUANTILE_NAMES
from pipeline.database.jobs.states import read_state, replace_state
from pipeline.database.schema.instants import LAST, Instant
from pipeline.database.schema.monitor_tables import job_states
from pipeline.database.turns.dialects import rows_of
from pipeline.database.turns.rows import Rows, enter_steps
from pipeline.records import Forecasts, Quality

STATE = "packing"
AT_ONCE = 500
"""Forecasts of a series in one transaction, or fewer, so that their steps are at most"""
STEPS_AT_ONCE = 25_000
"""so many, which take 60 MB."""
SERIES_AT_ONCE = 50
"""Series in one transaction, where each has few forecasts."""
_REACH = 86_400_000_000  # microseconds after an origin where its last step is looked for first


def _former(name: str, *more: Column[Any]) -> Table:
    return Table(
        name,
        MetaData(),
        Column("series_id", Integer),
        Column("origin", Instant),
        Column("step", Integer),
        Column("target_time", Instant),
        Column("model_version", Integer),
        Column("issued_at", Instant),
        *(Column(quantile, Double) for quantile in QUANTILE_NAMES),
        Column("quality", Text),
        *more,
    )


FORECASTS = _former(
    "former_forecasts",
    Column("source_topic", Integer),
    Column("source_partition", Integer),
    Column("source_offset", BigInteger),
    Column("calibration", Integer),
)
SHADOWS = _former("former_shadow_forecasts")


class PackedSeries(NamedTuple):
    """How far it is: series done and in all of one of the two tables, forecasts of both that were left out so far."""

    done: int
    total: int
    left_out: int


def pack_former(engine: Engine, locked: Callable[[], AbstractContextManager[Connection]]) -> Iterator[PackedSeries]:
    """Pack what is left, batch by batch. A forecast that somebody deleted steps of cannot be packed: it is left out.

    `locked` opens a transaction that no other upgrade's overlaps. Another one that is running takes batches, too, and
    the former tables are gone when it has come to its end first.
    """
    rows = rows_of(engine)
    for table in (FORECASTS, SHADOWS):
        more = True
        while more:
            with locked() as connection:
                if not inspect(connection).has_table(table.name):
                    return
                last = connection.execute(select(func.max(table.c.series_id))).scalar()
                if last is None:
                    break
                epoch, state = read_state(connection, STATE)
                place = state.get(table.name, {"series": 0, "origin": None})
                place, left_out, more = _pack_some(connection, rows, table, place)
                state = {**state, table.name: place, "left_out": state.get("left_out", 0) + left_out}
                replace_state(connection, STATE, epoch, state)
            yield PackedSeries(place["series"], last, state["left_out"])


def forget(connection: Connection) -> None:
    """Forget how far it was: all is packed."""
    connection.execute(delete(job_states).where(job_states.c.name == STATE))


def _pack_some(
    connection: Connection, rows: Rows, table: Table, place: dict[str, Any]
) -> tuple[dict[str, Any], int, bool]:
    """Pack the next forecasts of one series, or those of a few, after a place.

    Returns the place reached, how many were left out, and whether there may be more.
    """
    left_out = 0
    for _ in range(SERIES_AT_ONCE):
        own = place["series"]
        if place["origin"] is None:
            following = select(table.c.series_id).where(table.c.series_id > own).order_by(table.c.series_id).limit(1)
            own = connection.execute(following).scalar()
            if own is None:
                return place, left_out, False
        longest = select(func.max(table.c.step)).where(table.c.series_id == own)
        at_once = max(1, min(AT_ONCE, STEPS_AT_ONCE // (connection.execute(longest).scalar() or 1)))
        origins = _next_origins(connection, table, own, place["origin"], at_once)
        if origins:
            left_out += _pack_origins(connection, rows, table, own, origins)
        place = {"series": own, "origin": origins[-1] if len(origins) == at_once else None}
        if place["origin"] is not None:
            break
    return place, left_out, True


def _next_origins(connection: Connection, table: Table, own: int, after: int | None, most: int) -> list[int]:
    query = select(table.c.origin).where(table.c.series_id == own, table.c.step == 1).distinct()
    if after is not None:
        query = query.where(table.c.origin > after)
    return list(connection.execute(query.order_by(table.c.origin).limit(most)).scalars())


def _pack_origins(connection: Connection, rows: Rows, table: Table, own: int, origins: list[int]) -> int:
    """Pack a series' forecasts of these origins and return how many were left out."""
    column = table.c
    end = _end(connection, table, own, origins[-1])
    query = (
        select(table)
        .where(column.series_id == own, column.target_time > origins[0], column.target_time <= end)
        .where(column.origin >= origins[0], column.origin <= origins[-1])
        .order_by(column.origin, column.model_version, column.step)
    )
    whole: dict[tuple[int, int], list[list[Row[Any]]]] = {}
    left_out = 0
    for _, group in groupby(connection.execute(query), key=lambda row: (row.origin, row.model_version)):
        steps = list(group)
        if [row.step for row in steps] == list(range(1, len(steps) + 1)):
            whole.setdefault((len(steps), getattr(steps[0], "source_topic", 0)), []).append(steps)
        else:
            left_out += 1
    for (horizon, topic), some in whole.items():
        enter_steps(connection, horizon)
        forecasts = _forecasts_of(some)
        if table is FORECASTS:
            rows.insert_forecasts(connection, forecasts, topic)
        else:
            rows.insert_shadow(connection, forecasts)
    return left_out


def _forecasts_of(some: list[list[Row[Any]]]) -> Forecasts:
    heads = [steps[0] for steps in some]

    def column(name: str) -> Any:
        return np.array([getattr(head, name, 0) for head in heads], np.int64)

    quality: list[Quality] = [head.quality for head in heads]
    return Forecasts(
        series=[""] * len(heads),
        series_id=column("series_id"),
        origin=column("origin"),
        target_times=np.array([[row.target_time for row in steps] for steps in some], np.int64),
        quantiles=np.array([[[getattr(row, name) for name in QUANTILE_NAMES] for row in steps] for steps in some]),
        model_version=column("model_version"),
        calibration=column("calibration"),
        quality=quality,
        issued_at=column("issued_at"),
        partition=column("source_partition"),
        offset=column("source_offset"),
    )


def _end(connection: Connection, table: Table, own: int, origin: int) -> int:
    """Find a time that no forecast of the series with an origin up to `origin` reaches beyond.

    Of the rows of one target the first has the oldest origin; where that is newer than `origin`, no older one reaches.
    """
    reach = _REACH
    while True:
        end = min(origin + reach, LAST)
        beyond = (
            select(table.c.origin)
            .where(table.c.series_id == own, table.c.target_time > end)
            .order_by(table.c.target_time, table.c.origin)
            .limit(1)
        )
        oldest: Any = connection.execute(beyond).scalar()
        if oldest is None or oldest > origin:
            return end
        reach *= 2
