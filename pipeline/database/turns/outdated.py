"""Which series' newest origin a version has not forecast yet: asked after a swap, so it is read and not remembered."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Connection, Row, Select, exists, func, select

from pipeline.database.schema.tables import packed_forecasts, series
from pipeline.records import Outdated

LOOKED_AT = 2_000
"""Series looked at in one query: each takes a few lookups in the index of newest forecasts."""


def find_outdated(
    connection: Connection, topic: int | None, partitions: Sequence[int], version: int, after: int, most: int
) -> Outdated:
    """Look at LOOKED_AT series after the id `after` for at most `most` of these partitions that are outdated.

    A series is of the partition in which the event came that made its newest forecast due.
    """
    ours = set(partitions)
    found: list[Row[Any]] = []
    reached = None
    rows = connection.execute(_query(version, after)).all()
    for row in rows:
        if len(found) == most:
            break
        reached = row.series_id
        if row.origin is not None and not row.done and row.source_topic == topic and row.source_partition in ours:
            found.append(row)
    else:
        reached = reached if len(rows) == LOOKED_AT else None
    return Outdated(
        partition=np.array([row.source_partition for row in found], np.int64),
        series=[row.name for row in found],
        series_id=np.array([row.series_id for row in found], np.int64),
        origin=np.array([row.origin for row in found], np.int64),
        spread=np.array([row.spread is not None for row in found], np.bool_),
        reached=reached,
    )


def _query(version: int, after: int) -> Select[Any]:
    """Select a stretch of series with their newest origin, who made that due, and whether `version` forecast it.

    The limit inside keeps PostgreSQL from joining before it has cut the stretch out.
    """
    own, any_origin = series.c, packed_forecasts.alias("any_origin").c
    newest = select(func.max(any_origin.origin)).where(any_origin.series_id == own.series_id)
    stretch = (
        select(own.series_id, own.name, own.spread, newest.scalar_subquery().label("origin"))
        .where(own.series_id > after)
        .order_by(own.series_id)
        .limit(LOOKED_AT)
        .subquery("stretch")
    )
    forecast = packed_forecasts.alias("forecast").c
    there = forecast.series_id == stretch.c.series_id, forecast.origin == stretch.c.origin
    last = forecast.issued_at.desc(), forecast.model_version.desc()

    def of_last(name: str) -> ColumnElement[Any]:
        return select(forecast[name]).where(*there).order_by(*last).limit(1).scalar_subquery().label(name)

    done = exists().where(*there, forecast.model_version == version).label("done")
    columns = *stretch.c, of_last("source_topic"), of_last("source_partition"), done
    return select(*columns).order_by(stretch.c.series_id)
