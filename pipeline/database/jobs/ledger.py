"""Who may run jobs (leases), what was requested, what ran, and what became of it. Times are microseconds UTC."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Connection, Engine, and_, delete, or_, select, update

from pipeline.database.engine import reading, writing
from pipeline.database.schema.tables import inserting, job_pauses, job_requests, job_runs, leases
from pipeline.job_facts import Ending

OPEN = ("running", "lost")
"""Outcomes of a run whose process may still be alive."""
Holding = tuple[str, int, int]
"""Who holds a lease: owner, epoch, expiry. Every renewal changes it; one that stays the same is nobody's."""


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run of a job; key (job, scheduled_for); outcome running, ok, failed, timeout or lost.

    `cause` says who requested it and why, None for the timetable.
    """

    id: int
    job: str
    scheduled_for: int
    owner: str
    started_at: int
    heartbeat_at: int
    finished_at: int | None
    outcome: str
    reason: str | None
    progress: dict[str, Any] | None
    cause: str | None
    exit_code: int | None


@dataclass(frozen=True, slots=True)
class PauseRow:
    """The latest pause of a job, which goes on while `resumed_at` is None."""

    job: str
    paused_by: str
    reason: str | None
    paused_at: int
    resumed_at: int | None


def request_job(connection: Connection, job: str, reason: str, now: int) -> bool:
    """Ask the scheduler on duty to run a job at once; False when a request waits already, which stays as it is."""
    new = inserting(connection, job_requests).values(job=job, reason=reason, requested_at=now)
    once = new.on_conflict_do_nothing(index_elements=["job"]).returning(job_requests.c.job)
    return connection.execute(once).scalar() is not None


RUN = tuple(job_runs.c[field.name] for field in fields(RunRow))


class Ledger:
    """Leases and job runs, each changed by one compare-and-set statement."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def holding(self, name: str) -> Holding | None:
        """Return who holds or held a lease last; None when nobody ever did."""
        lease = leases.c
        with reading(self._engine) as connection:
            query = select(lease.owner, lease.epoch, lease.expires_at).where(lease.name == name)
            row = connection.execute(query).first()
            return None if row is None else (row.owner, row.epoch, row.expires_at)

    def acquire(self, name: str, owner: str, now: int, seconds: float, *, silent: Holding | None = None) -> int | None:
        """Take a lease that is free or has expired; return its new fencing epoch, None while somebody holds it.

        One that is still exactly `silent` is taken too, whatever its expiry: the clock that set it may be wrong.
        """
        expires_at = _later(now, seconds)
        lease = leases.c
        free = lease.expires_at <= now
        if silent is not None:
            owned, epoch, expiry = silent
            free = or_(free, and_(lease.owner == owned, lease.epoch == epoch, lease.expires_at == expiry))
        with writing(self._engine) as connection:
            new = inserting(connection, leases).values(name=name, owner=owner, epoch=1, expires_at=expires_at)
            taken = new.on_conflict_do_update(
                index_elements=["name"],
                set_={"owner": owner, "epoch": leases.c.epoch + 1, "expires_at": expires_at},
                where=free,
            ).returning(leases.c.epoch)
            new_epoch: int | None = connection.execute(taken).scalar()
            return new_epoch

    def renew(self, name: str, owner: str, epoch: int, now: int, seconds: float) -> bool:
        """Extend a lease that has not expired; False when it has, or is somebody else's: stop what it guards."""
        lease = leases.c
        held = update(leases).where(lease.name == name, lease.owner == owner, lease.epoch == epoch)
        with writing(self._engine) as connection:
            kept = connection.execute(held.where(lease.expires_at > now).values(expires_at=_later(now, seconds)))
            return kept.rowcount == 1

    def release(self, name: str, owner: str, epoch: int) -> None:
        """Give a lease back at once; nothing happens if it is no longer ours. The epoch is never used again."""
        lease = leases.c
        held = update(leases).where(lease.name == name, lease.owner == owner, lease.epoch == epoch)
        with writing(self._engine) as connection:
            connection.execute(held.values(expires_at=0))

    def begin(self, job: str, scheduled_for: int, owner: str, now: int, *, cause: str | None = None) -> int | None:
        """Start the run that was due at `scheduled_for` and return its id; None when somebody has it."""
        with writing(self._engine) as connection:
            return _begin(connection, job=job, scheduled_for=scheduled_for, owner=owner, now=now, cause=cause)

    def request(self, job: str, reason: str, now: int) -> bool:
        """Ask the scheduler on duty to run a job at once; False when a request waits already, which stays as it is."""
        with writing(self._engine) as connection:
            return request_job(connection, job, reason, now)

    def requested(self) -> list[str]:
        """List the jobs for which a request waits, the oldest first."""
        query = select(job_requests.c.job).order_by(job_requests.c.requested_at, job_requests.c.job)
        with reading(self._engine) as connection:
            return list(connection.execute(query).scalars())

    def caused(self, job: str, cause: str) -> bool:
        """Tell whether a run of the job had this cause, or one runs at this moment, whatever its cause."""
        run = job_runs.c
        query = select(run.id).where(run.job == job, or_(run.cause == cause, run.outcome == "running")).limit(1)
        with reading(self._engine) as connection:
            return connection.execute(query).first() is not None

    def begin_requested(self, job: str, owner: str, now: int) -> int | None:
        """Turn the request that waits for a job into its run, in one transaction; None when none waits.

        The run is that of the time of the request: if the job has one for that microsecond, that was it.
        """
        taking = delete(job_requests).where(job_requests.c.job == job)
        with writing(self._engine) as connection:
            taken = connection.execute(taking.returning(job_requests.c.reason, job_requests.c.requested_at)).first()
            if taken is None:
                return None
            due: int = taken.requested_at
            return _begin(connection, job=job, scheduled_for=due, owner=owner, now=now, cause=taken.reason)

    def heartbeat(self, run: int, now: int, progress: Mapping[str, Any] | None = None) -> bool:
        """Say that a run is alive, and how far it is; False when it has ended in the ledger.

        One that was thought lost, because it or the clock stood still, is running again.
        """
        values: dict[str, Any] = {"heartbeat_at": now, "outcome": "running", "reason": None, "finished_at": None}
        if progress is not None:
            values["progress"] = dict(progress)
        with writing(self._engine) as connection:
            open_run = update(job_runs).where(job_runs.c.id == run, job_runs.c.outcome.in_(OPEN))
            return connection.execute(open_run.values(values)).rowcount == 1

    def finish(
        self,
        run: int,
        outcome: Ending,
        reason: str | None,
        now: int,
        *,
        exit_code: int | None = None,
        log: str | None = None,
    ) -> bool:
        """End a run that is running or was thought lost; False, with nothing changed, when it has ended before.

        `exit_code` is that of its process, minus the signal that ended it, and `log` the end of what it wrote.
        """
        open_run = update(job_runs).where(job_runs.c.id == run, job_runs.c.outcome.in_(OPEN))
        with writing(self._engine) as connection:
            words = {"outcome": outcome, "reason": reason, "exit_code": exit_code, "log": log}
            return connection.execute(open_run.values(**words, finished_at=now)).rowcount == 1

    def mark_lost(self, now: int, silent_seconds: float) -> int:
        """Mark running runs without a heartbeat for so long as lost; return how many."""
        silent = update(job_runs).where(
            job_runs.c.outcome == "running", job_runs.c.heartbeat_at < _later(now, -silent_seconds)
        )
        reason = f"no heartbeat for {silent_seconds:g} s"
        with writing(self._engine) as connection:
            return connection.execute(silent.values(outcome="lost", reason=reason, finished_at=now)).rowcount

    def pause(self, job: str, by: str, reason: str | None, now: int) -> bool:
        """Keep the scheduler from starting a job, until it is resumed; False when it is paused already."""
        values = {"paused_by": by, "reason": reason, "paused_at": now, "resumed_at": None}
        with writing(self._engine) as connection:
            new = inserting(connection, job_pauses).values(job=job, **values)
            once = new.on_conflict_do_update(
                index_elements=["job"], set_=values, where=job_pauses.c.resumed_at.is_not(None)
            )
            return connection.execute(once.returning(job_pauses.c.job)).scalar() is not None

    def resume(self, job: str, now: int) -> bool:
        """End a pause; what was due before `now` is not made up for. False when the job was not paused."""
        paused = update(job_pauses).where(job_pauses.c.job == job, job_pauses.c.resumed_at.is_(None))
        with writing(self._engine) as connection:
            return connection.execute(paused.values(resumed_at=now)).rowcount == 1

    def pauses(self) -> dict[str, PauseRow]:
        """Return the jobs that are paused now."""
        query = select(job_pauses).where(job_pauses.c.resumed_at.is_(None))
        with reading(self._engine) as connection:
            return {row["job"]: PauseRow(**row) for row in connection.execute(query).mappings()}

    def held(self, job: str, due: int | None) -> bool:
        """Tell whether a job is paused, or still was at `due`; None means this moment only."""
        pause = job_pauses.c
        until = pause.resumed_at.is_(None) if due is None else or_(pause.resumed_at.is_(None), pause.resumed_at > due)
        with reading(self._engine) as connection:
            return connection.execute(select(pause.job).where(pause.job == job, until)).first() is not None

    def log(self, run: int) -> str | None:
        """Return the end of what a run's process wrote; None when it wrote nothing or there is no such run."""
        with reading(self._engine) as connection:
            text: str | None = connection.execute(select(job_runs.c.log).where(job_runs.c.id == run)).scalar()
            return text

    def last(self, job: str) -> RunRow | None:
        """Return the run of a job with the latest due time."""
        found = self.runs(job, limit=1)
        return found[0] if found else None

    def runs(self, job: str | None = None, limit: int = 100, *, failed: bool = False) -> list[RunRow]:
        """Return the latest runs, latest due time first, of one job or of all; only what went wrong if `failed`."""
        query = select(*RUN).order_by(job_runs.c.scheduled_for.desc(), job_runs.c.id.desc()).limit(limit)
        if job is not None:
            query = query.where(job_runs.c.job == job)
        if failed:
            query = query.where(job_runs.c.outcome.in_(["failed", "timeout", "lost"]))
        with reading(self._engine) as connection:
            return [RunRow(**row) for row in connection.execute(query).mappings()]


def _begin(connection: Connection, *, now: int, **key: Any) -> int | None:
    new = inserting(connection, job_runs).values(**key, started_at=now, heartbeat_at=now, outcome="running")
    once = new.on_conflict_do_nothing(index_elements=["job", "scheduled_for"]).returning(job_runs.c.id)
    run: int | None = connection.execute(once).scalar()
    return run


def _later(now: int, seconds: float) -> int:
    return now + round(seconds * 1_000_000)
