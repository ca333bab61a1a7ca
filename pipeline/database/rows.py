"""What the two databases do in bulk, each in its own way, inside a transaction that the caller opened."""

from dataclasses import fields
from typing import Protocol

import numpy as np
from sqlalchemy import Connection, Engine

from pipeline.database.tables import QUANTILES
from pipeline.records import Forecasts, History, Ints, Mask, Observations
from pipeline.settings import Policy

OBSERVATION_COLUMNS = (
    "series_id, observed_at, value, events, source_topic, source_partition, source_offset, recorded_at"
)
FORECAST_COLUMNS = (
    "series_id, origin, step, target_time, model_version, issued_at, "
    + ", ".join(QUANTILES)
    + ", quality, source_topic, source_partition, source_offset"
)


FORECASTS_AT_ONCE = 1000
"""Forecasts that become rows at a time: bounds memory when a turn holds tens of thousands."""


class Rows(Protocol):
    """Bulk reading and writing of the two large tables."""

    def insert_observations(self, connection: Connection, new: Observations, topic: int, now: int) -> None:
        """Insert rows that should be new; the driver's IntegrityError if one is not."""
        ...

    def merge_observations(
        self, connection: Connection, new: Observations, topic: int, now: int, policy: Policy
    ) -> None:
        """Insert rows, or combine them with the rows that are there."""
        ...

    def insert_forecasts(self, connection: Connection, new: Forecasts, topic: int) -> None:
        """Insert one row per step; the driver's IntegrityError if one is there."""
        ...

    def stored(self, connection: Connection, forecasts: Forecasts) -> Mask:
        """Say which forecasts (series_id, origin, model_version) are rows already."""
        ...

    def newest(self, connection: Connection, series_ids: Ints, depth: int, since: int | None) -> History:
        """Return each series' newest `depth` observations at or after `since`, in the order of the ids."""
        ...


def rows_of(engine: Engine) -> Rows:
    """Choose the implementation for an engine."""
    from pipeline.database.postgresql import PostgresRows
    from pipeline.database.sqlite import SqliteRows

    return PostgresRows() if engine.dialect.name == "postgresql" else SqliteRows()


_MERGED = {
    "last": "excluded.value",
    "first": "COALESCE(observations.value, excluded.value)",
    "sum": "COALESCE(observations.value + excluded.value, observations.value, excluded.value)",
    "mean": (
        "COALESCE((observations.value * observations.events + excluded.value * excluded.events)"
        " / (observations.events + excluded.events), observations.value, excluded.value)"
    ),
    "max": (
        "CASE WHEN observations.value IS NULL OR excluded.value > observations.value"
        " THEN excluded.value ELSE observations.value END"
    ),
}


def merge_clause(policy: Policy) -> str:
    """Spell how a row takes in a newer one of the same key, in SQL that both databases read.

    A null is the absence of a value: only `last` lets it replace one. Sums with NULL are NULL, hence COALESCE.
    """
    return (
        "ON CONFLICT (series_id, observed_at) DO UPDATE SET"
        f" value = {_MERGED[policy]}, events = observations.events + excluded.events,"
        " source_topic = excluded.source_topic, source_partition = excluded.source_partition,"
        " source_offset = excluded.source_offset, recorded_at = excluded.recorded_at"
    )


def take(observations: Observations, chosen: Ints | Mask) -> Observations:
    """Select rows by index or mask, in the order given."""
    return Observations(*(getattr(observations, field.name)[chosen] for field in fields(observations)))


def in_key_order(forecasts: Forecasts) -> Forecasts:
    """Sort by series and origin."""
    return forecasts.take(np.lexsort((forecasts.origin, forecasts.series_id)))


def first_of_each(forecasts: Forecasts) -> Mask:
    """Mark the first forecast of each key (series_id, origin, model_version)."""
    keys = np.stack([forecasts.series_id, forecasts.origin, forecasts.model_version], axis=1)  # (N, 3)
    first = np.zeros(len(forecasts), np.bool_)
    first[np.unique(keys, axis=0, return_index=True)[1]] = True
    return first
