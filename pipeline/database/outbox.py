"""The forecasts table read as an outbox: what the turns over a range of offsets stored, to publish it again."""

from typing import Any, cast

import numpy as np
from sqlalchemy import Connection, select

from pipeline.database.tables import QUANTILES, dead_letters, forecasts, series, topics
from pipeline.errors import Corrupt
from pipeline.records import DeadLetter, Forecasts, Quality, no_forecasts


def read_forecasts(connection: Connection, topic: str, partition: int, start: int, stop: int) -> Forecasts:
    """Return the forecasts of offsets [start, stop) of a partition, by offset; the quantiles are the stored bits."""
    first, step = forecasts.alias("first"), forecasts.alias("step")
    query = (
        select(step, series.c.name)
        .select_from(first)
        .join(topics, topics.c.topic_id == first.c.source_topic)
        .join(
            step,
            (step.c.series_id == first.c.series_id)
            & (step.c.target_time >= first.c.target_time)  # lets the primary key find the steps
            & (step.c.origin == first.c.origin)
            & (step.c.model_version == first.c.model_version),
        )
        .join(series, series.c.series_id == first.c.series_id)
        .where(topics.c.topic == topic, first.c.step == 1, first.c.source_partition == partition)
        .where(first.c.source_offset >= start, first.c.source_offset < stop)
        .order_by(first.c.source_offset, first.c.series_id, first.c.origin, first.c.model_version, step.c.step)
    )
    rows = connection.execute(query).mappings().all()
    if not rows:
        return no_forecasts(1)
    horizon = max(int(row["step"]) for row in rows)
    if [row["step"] for row in rows] != list(range(1, horizon + 1)) * (len(rows) // horizon):
        raise Corrupt(f"offsets {start} to {stop} of partition {partition} hold forecasts of several horizons")
    heads = rows[::horizon]  # (N,)

    def column(name: str) -> Any:
        return np.array([row[name] for row in heads], np.int64)

    return Forecasts(
        series=[str(row["name"]) for row in heads],
        series_id=column("series_id"),
        origin=column("origin"),
        target_times=np.array([row["target_time"] for row in rows], np.int64).reshape(-1, horizon),
        quantiles=np.array([[row[name] for name in QUANTILES] for row in rows]).reshape(-1, horizon, len(QUANTILES)),
        model_version=column("model_version"),
        quality=[cast(Quality, row["quality"]) for row in heads],
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
        select(letter.source_partition, letter.source_offset, letter.reason, letter.key, letter.value)
        .where(letter.topic == topic, letter.source_partition == partition)
        .where(letter.source_offset >= start, letter.source_offset < stop)
        .order_by(letter.source_offset)
    )
    return tuple(DeadLetter(*row) for row in connection.execute(query))
