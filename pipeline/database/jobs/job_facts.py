"""Reads what the metrics of jobs show; each query is bounded by an index, a limit, or how long runs are kept."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta

from sqlalchemy import BigInteger, ColumnElement, Connection, Double, Engine, cast, func, select

from pipeline.database.engine import reading
from pipeline.database.jobs.states import read_state
from pipeline.database.jobs.tallies import read_deleted
from pipeline.database.schema.instants import to_datetime
from pipeline.database.schema.monitor_tables import daily_accuracy, evaluations
from pipeline.database.schema.tables import (
    BASELINE,
    alias_history,
    aliases,
    calibrations,
    job_pauses,
    job_requests,
    job_runs,
    leases,
    models,
)
from pipeline.job_facts import (
    ENDINGS,
    AccuracyFacts,
    CalibrationFacts,
    ChampionFacts,
    DriftFacts,
    JobFacts,
    LeaseFacts,
    RunFacts,
)

DAYS = 7
"""UTC days of live accuracy that are summed up, today's among them."""
MOST_MODELS = 5
"""Models whose accuracy is told, the newest; the champion and the seasonal naive are always among them."""
MOST_FAILURES = 100
SCHEDULER, CHAMPION, DRIFT = "scheduler", "champion", "drift"
_RUN = job_runs.c


class JobFactsReader:
    """Reads JobFacts; for one thread at a time, because it remembers what takes long until it may have changed.

    That is accuracy, between two good runs of the monitor, and counts of all runs, until one begins or ends.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._accuracy: tuple[object, Sequence[AccuracyFacts]] = (None, ())
        self._counts: tuple[object, Mapping[tuple[str, str], int]] = (None, {})

    def read(self, jobs: Sequence[str], now: int) -> JobFacts:
        """Read the facts of these jobs in one transaction, which only reads."""
        with reading(self._engine) as connection:
            deleted = read_deleted(connection)
            runs = self._read_runs(connection, jobs, deleted.runs)
            champion = _read_champion(connection)
            changed = select(alias_history.c.action, func.count().label("n")).where(alias_history.c.alias == CHAMPION)
            actions = changed.group_by(alias_history.c.action)
            monitored = runs["monitor"].succeeded_at if "monitor" in runs else None
            today, version = to_datetime(now).date(), champion.version if champion else BASELINE
            as_of = (monitored, today, version)
            if (
                monitored is None or self._accuracy[0] != as_of
            ):  # a week of cells is a second's work where series are many
                self._accuracy = as_of, _read_accuracy(connection, today - timedelta(days=DAYS - 1), version)
            return JobFacts(
                read_at=now,
                runs=runs,
                lease=_read_lease(connection),
                champion=champion,
                changes={row.action: row.n for row in connection.execute(actions)},
                accuracy=self._accuracy[1],
                drift=_read_drift(connection),
                deleted=deleted.rows,
            )

    def _read_runs(
        self, connection: Connection, jobs: Sequence[str], deleted: Mapping[tuple[str, str], int]
    ) -> dict[str, RunFacts]:
        endings = {job: _read_endings(connection, job) for job in jobs}
        as_of = (connection.execute(select(func.max(_RUN.id))).scalar(), endings, deleted)
        if self._counts[0] != as_of:
            counting = select(_RUN.job, _RUN.outcome, func.count()).group_by(_RUN.job, _RUN.outcome)
            self._counts = as_of, {(job, ending): count for job, ending, count in connection.execute(counting)}
        counts = self._counts[1]
        paused = set(connection.execute(select(job_pauses.c.job).where(job_pauses.c.resumed_at.is_(None))).scalars())
        requested = set(connection.execute(select(job_requests.c.job)).scalars())
        found = {}
        for job, ended in endings.items():
            newest = [outcome for _, outcome in ended]
            good = select(_RUN.started_at, _RUN.finished_at).where(_RUN.job == job, _RUN.outcome == "ok")
            last = connection.execute(good.order_by(_RUN.scheduled_for.desc()).limit(1)).first()
            found[job] = RunFacts(
                endings={each: counts.get((job, each), 0) + deleted.get((job, each), 0) for each in ENDINGS},
                running=counts.get((job, "running"), 0),
                failures=newest.index("ok") if "ok" in newest else len(newest),
                succeeded_at=last.finished_at if last else None,
                seconds=(last.finished_at - last.started_at) / 1e6 if last else None,
                paused=job in paused,
                requested=job in requested,
            )
        return found


def _read_endings(connection: Connection, job: str) -> list[tuple[int, str]]:
    """List the newest runs of a job that ended, id and outcome, newest first."""
    ended = select(_RUN.id, _RUN.outcome).where(_RUN.job == job, _RUN.outcome != "running")
    ended = ended.order_by(_RUN.scheduled_for.desc()).limit(MOST_FAILURES)
    return [(row.id, row.outcome) for row in connection.execute(ended)]


def _read_lease(connection: Connection) -> LeaseFacts | None:
    row = connection.execute(select(leases.c.epoch, leases.c.expires_at).where(leases.c.name == SCHEDULER)).first()
    return None if row is None else LeaseFacts(row.epoch, row.expires_at)


def _read_champion(connection: Connection) -> ChampionFacts | None:
    named = select(models.c.version, models.c.created_at).join_from(aliases, models)
    model = connection.execute(named.where(aliases.c.alias == CHAMPION)).first()
    if model is None:
        return None
    changed = select(alias_history.c.changed_at).where(alias_history.c.alias == CHAMPION)
    since: int = connection.execute(changed.order_by(alias_history.c.id.desc()).limit(1)).scalar_one()
    own = calibrations.c
    newest = select(own.version, own.created_at, own.n).where(own.model_version == model.version)
    row = connection.execute(newest.order_by(own.version.desc()).limit(1)).first()
    calibration = None if row is None else CalibrationFacts(row.version, row.created_at, row.n)
    return ChampionFacts(model.version, since, model.created_at, calibration)


def newest_day(connection: Connection, series_id: int | None = None) -> date | None:
    """Return the newest UTC day of targets that the job `monitor` has summed up, of all series or of one."""
    query = select(func.max(daily_accuracy.c.day))
    if series_id is not None:
        query = select(func.max(evaluations.c.day)).where(evaluations.c.series_id == series_id)
    found: date | None = connection.execute(query).scalar()
    return found


def sum_accuracy(connection: Connection, since: date, series_id: int | None = None) -> list[AccuracyFacts]:
    """Average as the view forecast_accuracy does, over some days instead of one, of all series or of one."""
    own = daily_accuracy.c if series_id is None else evaluations.c

    def total(name: str) -> ColumnElement[float]:
        return cast(func.sum(own[name]), Double)

    def share(above: ColumnElement[float], below: ColumnElement[float]) -> ColumnElement[float]:
        return above / func.nullif(below, 0)

    query = (
        select(
            own.model_version,
            own.horizon_from,
            cast(func.sum(own.n), BigInteger).label("n"),
            share(total("scaled_error"), total("scaled_n")).label("mase"),
            share(2 * total("pinball"), total("absolute_actual")).label("wql"),
            (1 - share(total("absolute_error_beside_naive"), total("naive_absolute_error"))).label("skill"),
            share(total("inside_80"), total("n")).label("coverage_80"),
            share(total("inside_95"), total("n")).label("coverage_95"),
        )
        .where(own.day >= since)
        .group_by(own.model_version, own.horizon_from)
        .order_by(own.model_version.desc(), own.horizon_from)
    )
    if series_id is not None:
        query = query.where(evaluations.c.series_id == series_id)
    return [AccuracyFacts(**row) for row in connection.execute(query).mappings()]


def _read_accuracy(connection: Connection, since: date, champion: int) -> list[AccuracyFacts]:
    cells = sum_accuracy(connection, since)
    told = {champion, BASELINE, *sorted({cell.model_version for cell in cells}, reverse=True)[:MOST_MODELS]}
    return [cell for cell in cells if cell.model_version in told]


def _read_drift(connection: Connection) -> DriftFacts:
    _, state = read_state(connection, DRIFT)
    return DriftFacts(state.get("requests", 0), state.get("asked_at"), state.get("waiting") is not None)
