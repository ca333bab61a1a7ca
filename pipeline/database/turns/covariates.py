"""Covariates between the columns of Observations and History, and the rows of their own table."""

from collections.abc import Sequence

import numpy as np
from sqlalchemy import Connection, select

from pipeline.database.schema.tables import covariate_names, inserting
from pipeline.database.turns.rows import CovariateRows, Rows
from pipeline.records import NOTHING, History, Ints, Mask, Observations, RecentHistory
from pipeline.settings import Policy


def find_names(connection: Connection, names: Sequence[str]) -> dict[str, int]:
    """Look the ids of names up; one that was never stored has none."""
    query = select(covariate_names.c.name, covariate_names.c.name_id).where(covariate_names.c.name.in_(names))
    return {row.name: row.name_id for row in connection.execute(query)}


def enter_names(connection: Connection, names: Sequence[str]) -> Ints:
    """Return the ids (P,) of names, which get one if they have none."""
    new = [{"name": name} for name in sorted(names)]  # sorted, so that two workers cannot deadlock
    connection.execute(inserting(connection, covariate_names).on_conflict_do_nothing(index_elements=["name"]), new)
    ids = find_names(connection, names)
    return np.array([ids[name] for name in names], np.int64)


def rows_of_covariates(new: Observations, name_ids: Ints, policy: Policy) -> CovariateRows:
    """List what is to be stored of the covariates (N, P): no row for one that is missing.

    Under `last` a missing one replaces what may be there, so only an observation that is fresh can do without a row.
    """
    observed = ~np.isnan(new.covariates)
    kept = observed | (new.covariate_events > 0)
    if policy == "last":
        kept |= ~new.fresh[:, None]
    at, column = np.nonzero(kept)
    return CovariateRows(
        series_id=new.series_id[at],
        observed_at=new.observed_at[at],
        name_id=name_ids[column],
        value=np.where(observed, new.covariates, 0.0)[at, column],
        observed=observed[at, column],
        events=new.covariate_events[at, column],
    )


def with_covariates(connection: Connection, rows: Rows, history: History, names: Sequence[str]) -> RecentHistory:
    """Lay the covariates of these names beside a history; without names there is nothing to ask the database."""
    values = np.full((len(history.observed_at), len(names)), np.nan)
    events = np.zeros(values.shape, np.int64)
    ids = find_names(connection, names) if values.size else {}
    if ids:
        some = np.diff(history.bounds) > 0
        since = history.observed_at[history.bounds[:-1][some]]
        found = rows.covariates(connection, history.series_id[some], since, np.array(sorted(ids.values()), np.int64))
        at, there = _places(history, found)
        column_of = {ids[name]: column for column, name in enumerate(names) if name in ids}
        column = np.fromiter(map(column_of.__getitem__, found.name_id[there].tolist()), np.int64, int(there.sum()))
        values[at[there], column] = found.value[there]
        events[at[there], column] = found.events[there]
    return RecentHistory(
        series_id=history.series_id,
        bounds=history.bounds,
        observed_at=history.observed_at,
        value=history.value,
        observed=history.observed,
        events=history.events,
        covariates=values,
        covariate_events=events,
        beyond=np.full((len(history.series_id), 2), NOTHING, np.int64),
    )


def _places(history: History, found: CovariateRows) -> tuple[Ints, Mask]:
    """Find each row's observation in a history that has some: its index (M,), and whether it is there (M,)."""
    times, code = np.unique(history.observed_at, return_inverse=True)
    ids, order = np.sort(history.series_id), np.argsort(history.series_id)
    owner = np.repeat(np.arange(len(history.series_id)), np.diff(history.bounds))
    known = owner * len(times) + code  # ascending: series by series, oldest first
    time = np.searchsorted(times, found.observed_at).clip(max=len(times) - 1)
    wanted = order[np.searchsorted(ids, found.series_id)] * len(times) + time
    at = np.searchsorted(known, wanted).clip(max=len(known) - 1)
    return at, (known[at] == wanted) & (times[time] == found.observed_at)
