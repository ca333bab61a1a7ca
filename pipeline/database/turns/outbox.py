"""The forecasts read as an outbox: what the turns over a range of offsets stored, to publish it again."""

from typing import Any, cast

import numpy as np
from sqlalchemy import Connection, select

from models.config import QUANTILE_LEVELS
from pipeline.database.packed import packed_columns_of, unpack_steps
from pipeline.database.schema.tables import dead_letters, packed_forecasts, series, topics
from pipeline.database.turns.letters import COLUMNS, letter_of
from pipeline.errors import Corrupt
from pipeline.records import DeadLetter, Forecasts, Quality, no_forecasts

_HEAD = (
    "series_id",
    "origin",
    "model_version",
    "issued_at",
    "quality",
    "source_partition",
    "source_offset",
    "calibration",
)


def read_forecasts(connection: Connection, topic: str, partition: int, start: int, stop: int) -> Forecasts:
    """Return the forecasts of offsets [start, stop) of a partition, by offset; the quantiles are the stored bits."""
    made = packed_forecasts.c
    query = (
        select(series.c.name, *(made[name] for name in _HEAD), *packed_columns_of(packed_forecasts))
        .join_from(packed_forecasts, topics, topics.c.topic_id == made.source_topic)
        .join(series, series.c.series_id == made.series_id)
        .where(topics.c.topic == topic, made.source_partition == partition)
        .where(made.source_offset.between(start, stop - 1))
        .order_by(made.source_offset, made.series_id, made.origin, made.model_version)
    )
    rows = connection.execute(query).all()  # (N,)
    if not rows:
        return no_forecasts(1)
    if len({row.steps for row in rows}) > 1:
        raise Corrupt(f"offsets {start} to {stop} of partition {partition} hold forecasts of several horizons")

    def column(name: str) -> Any:
        return np.array([getattr(row, name) for row in rows], np.int64)

    origin = column("origin")
    target_times = np.empty((len(rows), rows[0].steps), np.int64)
    quantiles = np.empty((*target_times.shape, len(QUANTILE_LEVELS)))
    for steps in unpack_steps(origin, rows):
        target_times[steps.places], quantiles[steps.places] = steps.target_times, steps.quantiles
    return Forecasts(
        series=[str(row.name) for row in rows],
        series_id=column("series_id"),
        origin=origin,
        target_times=target_times,
        quantiles=quantiles,
        model_version=column("model_version"),
        calibration=column("calibration"),
        quality=[cast(Quality, row.quality) for row in rows],
        issued_at=column("issued_at"),
        partition=column("source_partition"),
        offset=column("source_offset"),
    )


def read_dead_letters(
    connection: Connection, topic: str, partition: int, start: int, stop: int
) -> tuple[DeadLetter, ...]:
    """Return the dead letters of offsets [start, stop) of a partition, by offset."""
    letter = dead_letters.c
    query = (
        select(*COLUMNS)
        .where(letter.topic == topic, letter.source_partition == partition)
        .where(letter.source_offset >= start, letter.source_offset < stop)
        .order_by(letter.source_offset)
    )
    return tuple(letter_of(row) for row in connection.execute(query))
