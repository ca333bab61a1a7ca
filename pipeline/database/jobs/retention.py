"""The deleting side of the database; the contract is `jobs.upkeep.retention.Stock`. Times are microseconds UTC, passed
in.
"""

from collections.abc import Iterator

import numpy as np
from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Table,
    and_,
    bindparam,
    delete,
    func,
    not_,
    or_,
    select,
    update,
)

from pipeline.database.engine import reading, writing
from pipeline.database.jobs.matured import read_grid
from pipeline.database.jobs.periods import add_periods, thin_period, waited_for, whole_periods
from pipeline.database.jobs.pruned import note_pruned
from pipeline.database.jobs.scales import SEASONS, season_length
from pipeline.database.jobs.tallies import add_deleted
from pipeline.database.models.aliases import CHAMPION, SHADOW
from pipeline.database.packed import last_target
from pipeline.database.schema.instants import FIRST, LAST
from pipeline.database.schema.shadow_tables import packed_shadow_forecasts
from pipeline.database.schema.tables import (
    BASELINE,
    alias_history,
    aliases,
    covariates,
    dead_letters,
    ingest_state,
    job_runs,
    models,
    observations,
    packed_forecasts,
    series,
    topics,
)
from pipeline.records import Ints

_STATE, _FORECAST, _SHADOW = ingest_state.c, packed_forecasts.c, packed_shadow_forecasts.c


class Retention:
    """Deletes what it is told to, as far as that is published and nobody needs it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def series(self) -> Ints:
        """Return the ids of all series, ascending."""
        with reading(self._engine) as connection:
            found = connection.execute(select(series.c.series_id).order_by(series.c.series_id))
            return np.array(found.scalars().all(), np.int64)

    def add_periods(self, since: int, until: int, length: str) -> bool:
        """Make PostgreSQL's partitions of forecasts, of a month, a week or a day each, from one time to another."""
        return add_periods(self._engine, since, until, length)

    def whole_periods(self, *, shadow: bool, delete_before: int | None, thin_before: int | None) -> list[str]:
        """Name the large partitions of forecasts that can be thinned as a whole, oldest first; none on SQLite."""
        return whole_periods(self._engine, shadow=shadow, delete_before=delete_before, thin_before=thin_before)

    def thin_period(
        self, name: str, *, shadow: bool, delete_before: int | None, thin_before: int | None, issued_before: int
    ) -> int | None:
        """Thin such a partition, and return how many forecasts went; None where somebody was in the way."""
        return thin_period(
            self._engine,
            name,
            shadow=shadow,
            delete_before=delete_before,
            thin_before=thin_before,
            issued_before=issued_before,
        )

    def waited_for(self, before: int, longest: int, *, shadow: bool) -> int:
        """Return up to when forecasts go one by one; what is newer, up to `before`, goes with its partition."""
        return waited_for(self._engine, before, longest, shadow=shadow)

    def origins(self, series_ids: Ints, before: int) -> tuple[Ints, Ints, Ints, Ints]:
        """Return series_id, origin, model_version and the series' newest origin of forecasts from before `before`."""
        ids = series.c.series_id.in_(series_ids.tolist())
        newest = select(func.max(_FORECAST.origin)).where(_FORECAST.series_id == series.c.series_id).scalar_subquery()
        # From `series`, so that the primary key is read for each series' old origins and no others.
        old = (
            select(_FORECAST.series_id, _FORECAST.origin, _FORECAST.model_version)
            .select_from(series.join(packed_forecasts, _FORECAST.series_id == series.c.series_id))
            .where(ids, _FORECAST.origin < before)
            .order_by(_FORECAST.series_id, _FORECAST.origin, _FORECAST.model_version)
        )
        with reading(self._engine) as connection:
            rows = np.array([tuple(row) for row in connection.execute(old)], np.int64).reshape(-1, 3)  # (N, 3)
            last = {row[0]: row[1] for row in connection.execute(select(series.c.series_id, newest).where(ids))}
        columns = rows[:, 0], rows[:, 1], rows[:, 2]
        return *columns, np.array([last[one] for one in columns[0].tolist()], np.int64)

    def delete_forecasts(self, series_id: Ints, origin: Ints, model_version: Ints, *, issued_before: int) -> int:
        """Delete these forecasts, if published and issued before then; return how many."""
        with writing(self._engine) as connection:
            chosen = [
                (mine, found)
                for mine, wanted in _by_model(packed_forecasts, series_id, origin, model_version)
                if (found := _ready(connection, mine, wanted, issued_before))
            ]
            return _delete(connection, packed_forecasts, chosen, "forecasts")

    def shadow_origins(self, series_ids: Ints, before: int) -> tuple[Ints, Ints, Ints, Ints]:
        """Return the same of forecasts of shadows of the past, of which none must stay: the newest is never reached.

        Those of the shadow of the moment are still to be judged.
        """
        judged = select(aliases.c.version).where(aliases.c.alias == SHADOW)
        old = (
            select(_SHADOW.series_id, _SHADOW.origin, _SHADOW.model_version)
            .where(_SHADOW.series_id.in_(series_ids.tolist()), _SHADOW.origin < before)
            .where(_SHADOW.model_version.not_in(judged))
            .order_by(_SHADOW.series_id, _SHADOW.origin, _SHADOW.model_version)
        )
        with reading(self._engine) as connection:
            rows = np.array([tuple(row) for row in connection.execute(old)], np.int64).reshape(-1, 3)  # (N, 3)
        return rows[:, 0], rows[:, 1], rows[:, 2], np.full(len(rows), LAST)

    def delete_shadow(self, series_id: Ints, origin: Ints, model_version: Ints) -> int:
        """Delete these forecasts of a shadow; return how many."""
        with writing(self._engine) as connection:
            chosen = list(_by_model(packed_shadow_forecasts, series_id, origin, model_version))
            return _delete(connection, packed_shadow_forecasts, chosen, "shadow_forecasts")

    def delete_observations(self, series_ids: Ints, before: int, *, kept: int, most: int) -> int:
        """Delete at most `most` observations, with their covariates, oldest first; the newest `kept` rows stay."""
        left = most
        with writing(self._engine) as connection:
            for own in series_ids.tolist():
                stop = _oldest_kept(connection, own, before, kept, left)
                if stop is not None:
                    if left == most:  # before any row is locked, as above
                        note_pruned(connection, min(before + _reach_of_values(connection), LAST))
                    for table in (covariates, observations):
                        old = delete(table).where(table.c.series_id == own, table.c.observed_at < stop)
                        count = connection.execute(old).rowcount
                    left -= count  # of observations
                if left == 0:
                    break
            add_deleted(connection, "observations", most - left)
        return most - left

    def delete_dead_letters(self, requeued_before: int | None, waiting_since: int | None, most: int) -> int:
        """Delete at most `most` published dead letters: requeued before, or recorded before and still waiting."""
        letter = dead_letters.c
        old = [letter.requeued_at < requeued_before] if requeued_before is not None else []
        if waiting_since is not None:
            old.append(and_(letter.requeued_at.is_(None), letter.recorded_at < waiting_since))
        key = letter.topic, letter.source_partition, letter.source_offset
        mine = and_(_STATE.topic == letter.topic, _STATE.partition == letter.source_partition)
        published = _STATE.turn_start > letter.source_offset
        chosen = select(*key).join_from(dead_letters, ingest_state, mine).where(published, or_(*old)).order_by(*key)
        gone = delete(dead_letters).where(*(column == bindparam(f"own_{column.name}") for column in key))
        with writing(self._engine) as connection:
            keys = [
                {f"own_{name}": value for name, value in row.items()}
                for row in connection.execute(chosen.limit(most)).mappings()
            ]
            if keys:
                connection.execute(gone, keys)
            add_deleted(connection, "dead_letters", len(keys))
        return len(keys)

    def delete_runs(self, before: int, most: int) -> int:
        """Delete at most `most` ended runs of before `before`, but no job's newest run, nor its newest good one."""
        run, other = job_runs.c, job_runs.alias()
        newest = select(func.max(other.c.scheduled_for)).where(other.c.job == run.job)
        chosen = (
            select(run.id)
            .where(run.outcome != "running", run.scheduled_for < before, run.started_at < before)
            .where(run.scheduled_for < newest.scalar_subquery())
            .where(
                or_(run.outcome != "ok", run.scheduled_for < newest.where(other.c.outcome == "ok").scalar_subquery())
            )
            .order_by(run.id)
            .limit(most)
        )
        with writing(self._engine) as connection:
            found = connection.execute(chosen).scalars().all()
            gone = delete(job_runs).where(run.id.in_(found))
            ended = connection.execute(gone.returning(run.job, run.outcome)).all()
            add_deleted(connection, "job_runs", len(ended), [(row.job, row.outcome) for row in ended])
        return len(ended)

    def drop_artifacts(self, before: int, most: int) -> int:
        """Forget the bytes of at most `most` models made before `before` that no alias names or ever named."""
        model = models.c
        crowned = select(alias_history.c.version).where(alias_history.c.alias == CHAMPION)
        held = select(aliases.c.version).union(crowned)
        old = (
            select(model.version)
            .where(model.artifact.is_not(None), model.version != BASELINE, model.created_at < before)
            .where(model.version.not_in(held))
            .order_by(model.version)
            .limit(most)
        )
        with writing(self._engine) as connection:
            # Locked first and looked at again: a promotion locks the row too, so either sees what the other did.
            locked = connection.execute(old.with_for_update(key_share=True)).scalars().all()
            free = set(locked) - set(connection.execute(held).scalars())
            connection.execute(update(models).where(model.version.in_(free)).values(artifact=None))
            add_deleted(connection, "artifacts", len(free))
        return len(free)


def _by_model(
    table: Table, series_id: Ints, origin: Ints, model_version: Ints
) -> Iterator[tuple[ColumnElement[bool], list[int]]]:
    """Sort forecasts into those of one series and model: a condition on the table, and their origins.

    The ids ascend, as a turn writes, so that the two cannot deadlock.
    """
    for own in np.unique(series_id).tolist():
        for version in np.unique(model_version[series_id == own]).tolist():
            wanted = origin[(series_id == own) & (model_version == version)]
            yield and_(table.c.series_id == own, table.c.model_version == version), wanted.tolist()


def _ready(connection: Connection, mine: ColumnElement[bool], wanted: list[int], issued_before: int) -> list[int]:
    """Find the origins among `wanted` that are published and were not issued lately."""
    state = and_(_STATE.topic == topics.c.topic, _STATE.partition == _FORECAST.source_partition)
    newest = and_(_FORECAST.source_offset < 0, _FORECAST.source_offset <= -_STATE.reforecasts)  # the n-th is at -n
    query = (
        select(_FORECAST.origin)
        .select_from(
            packed_forecasts.join(topics, topics.c.topic_id == _FORECAST.source_topic).join(ingest_state, state)
        )
        .where(mine, _FORECAST.origin.in_(wanted))
        .where(_FORECAST.source_offset < _STATE.turn_start, not_(newest))
        .where(_FORECAST.issued_at < issued_before)
    )
    return list(connection.execute(query).scalars())


def _delete(
    connection: Connection, table: Table, chosen: list[tuple[ColumnElement[bool], list[int]]], kind: str
) -> int:
    if chosen:  # before any row is locked, or two runs could deadlock
        note_pruned(connection, max(_last_target(connection, table, *each) for each in chosen))
    gone = (delete(table).where(mine, table.c.origin.in_(origins)) for mine, origins in chosen)
    deleted = sum(connection.execute(each).rowcount for each in gone)
    add_deleted(connection, kind, deleted)
    return deleted


def _last_target(connection: Connection, table: Table, mine: ColumnElement[bool], origins: list[int]) -> int:
    """Return the last target time of forecasts of one series and model."""
    row = table.c
    query = select(row.origin, row.steps, row.step_seconds, row.step_ends).where(mine, row.origin.in_(origins))
    return max((last_target(found) for found in connection.execute(query)), default=FIRST)


def _reach_of_values(connection: Connection) -> int:
    """Return how long a value is needed after its time: by the seasonal naive, and by the scale of a day."""
    grid = read_grid(connection)
    if grid.season is None or grid.step_seconds is None:
        return 0
    length, tolerance = season_length(grid.season, grid.step_seconds)
    return (SEASONS + 1) * length + tolerance


def _oldest_kept(connection: Connection, own: int, before: int, kept: int, most: int) -> int | None:
    """Find the time of the oldest observation of a series that stays for now; None when all do."""
    row = observations.c
    times = select(row.observed_at).where(row.series_id == own)
    needed = connection.execute(times.order_by(row.observed_at.desc()).offset(kept - 1).limit(1)).scalar()
    if needed is None:
        return None
    stop = min(before, needed)
    oldest = times.where(row.observed_at < stop).order_by(row.observed_at)
    if connection.execute(oldest.limit(1)).scalar() is None:
        return None
    beyond: int | None = connection.execute(oldest.offset(most).limit(1)).scalar()
    return stop if beyond is None else beyond
