"""The forecasts table read as an outbox: what the turns over a range of offsets stored, to publish it again."""

from typing import Any, cast

import numpy as np
from sqlalchemy import Connection, select

from models.config import QUANTILE_NAMES
from pipeline.database.schema.tables import dead_letters, forecasts, series, topics
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
    first, step = forecasts.alias("first"), forecasts.alias("step")
    source = first.join(topics, topics.c.topic_id == first.c.source_topic)
    chosen = (
        (topics.c.topic == topic)
        & (first.c.step == 1)
        & (first.c.source_partition == partition)
        & first.c.source_offset.between(start, stop - 1)
    )
    order = (first.c.source_offset, first.c.series_id, first.c.origin, first.c.model_version)
    head_query = (
        select(series.c.name, *(first.c[name] for name in _HEAD))
        .select_from(source.join(series, series.c.series_id == first.c.series_id))
        .where(chosen)
        .order_by(*order)
    )
    heads = connection.execute(head_query).all()  # (N,)
    if not heads:
        return no_forecasts(1)
    step_query = (
        select(step.c.step, step.c.target_time, *(step.c[name] for name in QUANTILE_NAMES))
        .select_from(
            source.join(
                step,
                (step.c.series_id == first.c.series_id)
                & (step.c.target_time >= first.c.target_time)  # lets the primary key find the steps
                & (step.c.origin == first.c.origin)
                & (step.c.model_version == first.c.model_version),
            )
        )
        .where(chosen)
        .order_by(*order, step.c.step)
    )
    steps, times, quantiles = [], [], []  # arrays, chunk by chunk: a million rows as tuples would take gigabytes
    for chunk in connection.execute(step_query, execution_options={"yield_per": 10_000}).partitions():
        steps.append(np.array([row[0] for row in chunk], np.int64))
        times.append(np.array([row[1] for row in chunk], np.int64))
        quantiles.append(np.array([row[2:] for row in chunk], np.float64))
    horizon = len(np.concatenate(steps)) // len(heads)
    if not np.array_equal(np.concatenate(steps), np.tile(np.arange(1, horizon + 1), len(heads))):
        raise Corrupt(f"offsets {start} to {stop} of partition {partition} hold forecasts of several horizons")

    def column(name: str) -> Any:
        return np.array([getattr(row, name) for row in heads], np.int64)

    return Forecasts(
        series=[str(row.name) for row in heads],
        series_id=column("series_id"),
        origin=column("origin"),
        target_times=np.concatenate(times).reshape(-1, horizon),
        quantiles=np.concatenate(quantiles).reshape(-1, horizon, len(QUANTILE_NAMES)),
        model_version=column("model_version"),
        calibration=column("calibration"),
        quality=[cast(Quality, row.quality) for row in heads],
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
