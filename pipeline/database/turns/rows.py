"""What the two databases do in bulk, each in its own way, inside a transaction that the caller opened."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from sqlalchemy import Connection, func, select

from pipeline.columns import take
from pipeline.database.schema.tables import horizon_steps, inserting
from pipeline.records import Floats, Forecasts, History, Ints, Mask, Observations
from pipeline.settings import Policy

OBSERVATION_COLUMNS = (
    "series_id, observed_at, value, events, source_topic, source_partition, source_offset, recorded_at"
)
SHADOW_COLUMNS = (
    "series_id, origin, model_version, issued_at, quality, steps, step_seconds, step_ends, base, scale, width,"
    " quantiles"
)
FORECAST_COLUMNS = f"{SHADOW_COLUMNS}, source_topic, source_partition, source_offset, calibration"
FORECASTS, SHADOWS = "packed_forecasts", "packed_shadow_forecasts"

COVARIATE_COLUMNS = "series_id, observed_at, name_id, value, events"


@dataclass(frozen=True, slots=True)
class CovariateRows:
    """Rows of the covariates table; key (series_id, observed_at, name_id)."""

    series_id: Ints  # (M,)
    observed_at: Ints  # (M,)
    name_id: Ints  # (M,)
    value: Floats  # (M,)
    observed: Mask  # (M,) False for NULL
    events: Ints  # (M,)

    def take(self, chosen: Ints | Mask) -> "CovariateRows":
        """Select rows by index or mask, in the order given."""
        return take(self, chosen)


class Rows(Protocol):
    """Bulk reading and writing of the large tables."""

    def insert_observations(self, connection: Connection, new: Observations, topic: int, now: int) -> None:
        """Insert rows that should be new; the driver's IntegrityError if one is not."""
        ...

    def merge_observations(
        self, connection: Connection, new: Observations, topic: int, now: int, policy: Policy
    ) -> None:
        """Insert rows, or combine them with the rows that are there."""
        ...

    def insert_covariates(self, connection: Connection, new: CovariateRows) -> None:
        """Insert rows that should be new; the driver's IntegrityError if one is not."""
        ...

    def merge_covariates(self, connection: Connection, new: CovariateRows, policy: Policy) -> None:
        """Insert rows, or combine them with the rows that are there."""
        ...

    def insert_forecasts(self, connection: Connection, new: Forecasts, topic: int) -> None:
        """Insert one row each; the driver's IntegrityError if one is there."""
        ...

    def insert_shadow(self, connection: Connection, new: Forecasts) -> None:
        """Insert one row for each of the shadow's; the driver's IntegrityError if one is there."""
        ...

    def stored(self, connection: Connection, forecasts: Forecasts, table: str) -> Mask:
        """Say which forecasts (series_id, origin, model_version) are rows of FORECASTS or SHADOWS already."""
        ...

    def newest(
        self, connection: Connection, series_ids: Ints, depth: int, since: int | None, until: int | None = None
    ) -> History:
        """Return each series' newest `depth` observations from `since` to `until`, in the order of the ids.

        The history is without covariates.
        """
        ...

    def covariates(self, connection: Connection, series_ids: Ints, since: Ints, name_ids: Ints) -> CovariateRows:
        """Return the values under these names of each series at or after its own `since` (S,), in any order."""
        ...


_MERGED = {
    "last": "excluded.value",
    "first": "COALESCE({0}.value, excluded.value)",
    "sum": "COALESCE({0}.value + excluded.value, {0}.value, excluded.value)",
    "mean": (
        "COALESCE(({0}.value * {0}.events + excluded.value * excluded.events)"
        " / ({0}.events + excluded.events), {0}.value, excluded.value)"
    ),
    "max": ("CASE WHEN {0}.value IS NULL OR excluded.value > {0}.value THEN excluded.value ELSE {0}.value END"),
}


def merge_clause(policy: Policy) -> str:
    """Spell how a row takes in a newer one of the same key, in SQL that both databases read.

    A null is the absence of a value: only `last` lets it replace one. Sums with NULL are NULL, hence COALESCE.
    """
    return (
        "ON CONFLICT (series_id, observed_at) DO UPDATE SET"
        f" value = {_MERGED[policy].format('observations')}, events = observations.events + excluded.events,"
        " source_topic = excluded.source_topic, source_partition = excluded.source_partition,"
        " source_offset = excluded.source_offset, recorded_at = excluded.recorded_at"
    )


def merge_covariate_clause(policy: Policy) -> str:
    """Spell the same for a row of the covariates table."""
    return (
        "ON CONFLICT (series_id, observed_at, name_id) DO UPDATE SET"
        f" value = {_MERGED[policy].format('covariates')}, events = covariates.events + excluded.events"
    )


def in_key_order(forecasts: Forecasts) -> Forecasts:
    """Sort by series and origin."""
    return forecasts.take(np.lexsort((forecasts.origin, forecasts.series_id)))


def first_of_each(forecasts: Forecasts) -> Mask:
    """Mark the first forecast of each key (series_id, origin, model_version)."""
    keys = np.stack([forecasts.series_id, forecasts.origin, forecasts.model_version], axis=1)  # (N, 3)
    first = np.zeros(len(forecasts), np.bool_)
    first[np.unique(keys, axis=0, return_index=True)[1]] = True
    return first


def enter_steps(connection: Connection, horizon: int) -> None:
    """Let views show this many steps: enter the numbers that are missing, 1 to `horizon`."""
    known = connection.execute(select(func.max(horizon_steps.c.step))).scalar() or 0
    if known < horizon:
        missing = [{"step": step} for step in range(known + 1, horizon + 1)]
        connection.execute(inserting(connection, horizon_steps).on_conflict_do_nothing(), missing)
