"""The scheduler: the timetable, run by whichever scheduler holds the lease. The only importer of apscheduler.

APScheduler only says when; what ran is our ledger, so its job store is memory. Any number of schedulers may run:

    waiting --acquire--> on duty: mark lost runs, run what was missed, then the timetable; renew the lease
       ^                    |
       +---- lease lost ----+      (running jobs are stopped: another scheduler is on duty now)
"""

import math
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise

import structlog
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.cron import CronTrigger

from jobs.clock.lease import LEASE, Candidate, Leases
from jobs.clock.runner import SILENCE
from jobs.clock.timetable import read_interval, split_cron
from pipeline.errors import ConfigError, Unavailable
from pipeline.health.heartbeat import LATELY, Heartbeat
from pipeline.health.probes import Checks

LOOK_BACK = tuple(timedelta(days=days) for days in (0.05, 1, 8, 32, 367))
"""How far to search for the last time that a job was due, nearest first."""

Fire = Callable[[str, int | None, threading.Event], object]
"""Runs job NAME for the time it was due, None for the request that waits; ends early when the event is set."""
log = structlog.get_logger()


class Every(BaseTrigger):  # type: ignore[misc]
    """Fires at every multiple of so many seconds since 1970; APScheduler's own counts from its last time instead."""

    def __init__(self, seconds: int) -> None:
        self._seconds = seconds

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime:
        """Return the first time that is not before `now` and is after `previous`."""
        count = math.ceil(now.timestamp() / self._seconds)
        if previous is not None:
            count = max(count, math.floor(previous.timestamp() / self._seconds) + 1)
        return datetime.fromtimestamp(count * self._seconds, UTC)


def read_trigger(text: str) -> BaseTrigger:
    """Read a cron expression or an interval, in UTC; raises ConfigError."""
    seconds = read_interval(text)
    if seconds is not None:
        return Every(seconds)
    try:
        return CronTrigger(**split_cron(text), timezone=UTC)
    except ValueError as error:
        raise ConfigError(f"cron {text!r}: {error}") from error


def last_due(trigger: BaseTrigger, now: int) -> int | None:
    """Find the newest time at or before `now` at which the trigger fires; None for none in a year."""
    moment = datetime.fromtimestamp(now // 1_000_000, UTC)
    for distance in LOOK_BACK:
        due = trigger.get_next_fire_time(None, moment - distance)
        newest = None
        while due is not None and due <= moment:
            newest, due = due, trigger.get_next_fire_time(due, due)
        if newest is not None:
            return int(newest.timestamp()) * 1_000_000
    return None


def next_due(trigger: BaseTrigger, now: int) -> int | None:
    """Find the first time after `now` at which the trigger fires; None for never."""
    due = trigger.get_next_fire_time(None, datetime.fromtimestamp(now // 1_000_000 + 1, UTC))
    return None if due is None else int(due.timestamp()) * 1_000_000


def longest_period(trigger: BaseTrigger, now: int) -> float | None:
    """Find the longest time in seconds between the next ten times that a trigger fires; None for fewer than two."""
    due: list[datetime] = []
    following = trigger.get_next_fire_time(None, datetime.fromtimestamp(now // 1_000_000, UTC))
    while following is not None and len(due) < 11:
        due.append(following)
        following = trigger.get_next_fire_time(following, following)
    return max(((b - a).total_seconds() for a, b in pairwise(due)), default=None)


@dataclass(slots=True)
class Duty:
    """What lasts as long as a lease: `turns` lets each job run once at a time, `halt` ends all.

    `epoch` is the lease's, changed under `keeping`; `latest` is what the clock showed last.
    """

    epoch: int
    turns: Mapping[str, threading.Lock]
    latest: int = 0
    halt: threading.Event = field(default_factory=threading.Event)
    keeping: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True, slots=True)
class Schedule:
    """A scheduler: `timetable` is job -> when, None for a job that runs only when it is requested; `lease` is seconds,
    `fire` runs a job and keeps the ledger, and `look` requests what no timetable knows of, again and again on duty.
    """

    timetable: Mapping[str, str | None]
    leases: Leases
    fire: Fire
    clock: Callable[[], int]
    owner: str
    lease: float
    heartbeat: Heartbeat = field(default_factory=lambda: Heartbeat(("database",)))
    look: Callable[[], None] = lambda: None

    def serve(self, stop: threading.Event) -> None:
        """Wait for the lease, be on duty while it is held, and again, until `stop` is set."""
        triggers = {job: read_trigger(text) for job, text in self.timetable.items() if text is not None}
        candidate = Candidate(self.leases, self.owner, self.clock, self.lease)
        log.info("scheduler waits", owner=self.owner, timetable=dict(self.timetable))
        while not stop.is_set():
            self.heartbeat.beat()
            epoch = self._ask(candidate)
            if epoch is None:
                stop.wait(self.lease / 3)
                continue
            log.info("scheduler on duty", owner=self.owner, epoch=epoch)
            self._serve_lease(Duty(epoch, {job: threading.Lock() for job in self.timetable}), triggers, stop)
            log.info("scheduler off duty", owner=self.owner, epoch=epoch)

    def _serve_lease(self, duty: Duty, triggers: Mapping[str, BaseTrigger], stop: threading.Event) -> None:
        scheduler = self._prepare()
        plan = partial(self._plan, scheduler, duty, triggers)
        try:
            self._mark_lost()
            plan()
            scheduler.start()
            self._hold(duty, scheduler, plan, stop)
        finally:
            duty.halt.set()
            scheduler.shutdown(wait=True)
            with suppress(Unavailable):  # then it expires
                self.leases.release(LEASE, self.owner, duty.epoch)

    def _prepare(self) -> BackgroundScheduler:
        return BackgroundScheduler(
            jobstores={"default": MemoryJobStore()},
            executors={"default": ThreadPoolExecutor(3 * len(self.timetable) + 1)},
            # Of two instances one runs and one waits for its turn, so that what falls due meanwhile is run once, later.
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 2},
            timezone=UTC,
        )

    def _plan(self, scheduler: BackgroundScheduler, duty: Duty, triggers: Mapping[str, BaseTrigger]) -> None:
        """Put every job on APScheduler's timetable, due once right away: the ledger knows whether it was missed."""
        duty.latest = self.clock()
        at_once = datetime.fromtimestamp(duty.latest / 1e6, UTC)
        for job, trigger in triggers.items():
            scheduler.add_job(
                self._fire_last,
                trigger,
                args=(job, trigger, duty),
                id=job,
                next_run_time=at_once,
                replace_existing=True,
            )

    def _fire_last(self, job: str, trigger: BaseTrigger, duty: Duty) -> None:
        """Run a job for the newest time that it was due, then if it was requested.

        A job that is due again whenever it ends would otherwise never run what was requested.
        """
        with duty.turns[job]:
            self._run_last(job, trigger, duty)
            self._run_requested(job, duty)

    def _fire_requested(self, job: str, duty: Duty) -> None:
        with duty.turns[job]:
            self._run_requested(job, duty)

    def _run_last(self, job: str, trigger: BaseTrigger, duty: Duty) -> None:
        """Take a job's turn: 1 the lease is held, 2 the job is not paused, 3 run it.

        Without 1 a scheduler that wakes up after its lease would start a run and be stopped in it a moment later.
        """
        now = self.clock()
        duty.latest = max(duty.latest, now)  # it may be set back before anybody else has seen it
        due = last_due(trigger, now)
        while due is not None and not duty.halt.is_set():
            try:
                if not self._keep(duty):
                    return
                if self.leases.held(job, due):
                    log.info("job is paused", job=job, due=due)
                    return
                self.fire(job, due, duty.halt)
                return
            except Unavailable as error:
                log.warning("job waits for the database", job=job, reason=str(error))
                duty.halt.wait(self.lease / 3)

    def _run_requested(self, job: str, duty: Duty) -> None:
        with suppress(Unavailable):  # then the request still waits
            if job in self.leases.requested() and not self.leases.held(job, None) and self._keep(duty):
                self.fire(job, None, duty.halt)

    def _hold(
        self, duty: Duty, scheduler: BackgroundScheduler, plan: Callable[[], None], stop: threading.Event
    ) -> None:
        """Renew the lease at a third of it, and return when it is lost, might be lost, or `stop` is set.

        In between silent runs are marked lost, requests are started, and a clock that was set back is followed.
        """
        renewed = time.monotonic()
        self._start_requested(duty, scheduler)
        while not stop.wait(self.lease / 3):
            before = time.monotonic()
            self.heartbeat.beat()
            try:
                if not self._keep(duty):
                    return
                renewed = before
            except Unavailable as error:
                log.warning("lease not renewed", owner=self.owner, reason=str(error))
                if time.monotonic() - renewed >= self.lease:
                    return
            self._mark_lost()
            self.look()
            self._start_requested(duty, scheduler)
            self._follow_clock(duty, plan)
            scheduler.wakeup()  # its timer stands still while the machine is suspended, and the clock may be set

    def _follow_clock(self, duty: Duty, plan: Callable[[], None]) -> None:
        """Plan anew when the clock was set back: APScheduler would wait until it shows again what it showed before."""
        before, duty.latest = duty.latest, self.clock()
        if duty.latest < before - 1_000_000:  # due times are whole seconds
            log.warning("clock was set back", seconds=(before - duty.latest) / 1e6)
            plan()

    def _keep(self, duty: Duty) -> bool:
        """Renew the lease, or take it again when it expired and nobody had it since: what runs here may go on then.

        A process that was frozen comes back so. The epoch after ours says that no other scheduler was on duty.
        """
        with duty.keeping:
            if duty.halt.is_set():
                return False
            now = self.clock()
            renewed = self.leases.renew(LEASE, self.owner, duty.epoch, now, self.lease)
            self.heartbeat.answered("database")
            if renewed:
                return True
            taken = self.leases.acquire(LEASE, self.owner, now, self.lease)
            if taken == duty.epoch + 1:
                log.warning("lease had expired, and is taken again", owner=self.owner, epoch=taken)
                duty.epoch = taken
                return True
            log.warning("lease lost", owner=self.owner, epoch=duty.epoch)
            duty.epoch = taken or duty.epoch
            duty.halt.set()
            return False

    def _start_requested(self, duty: Duty, scheduler: BackgroundScheduler) -> None:
        """Start what was requested, but for jobs that run at this moment: their requests are seen again later."""
        with suppress(Unavailable):
            for job in self.leases.requested():
                if job in duty.turns and not duty.turns[job].locked() and not self.leases.held(job, None):
                    scheduler.add_job(
                        self._fire_requested, args=(job, duty), id=f"{job} on request", replace_existing=True
                    )

    def _ask(self, candidate: Candidate) -> int | None:
        try:
            epoch = candidate.ask()
            self.heartbeat.answered("database")
            return epoch
        except Unavailable as error:
            log.warning("lease not requested", owner=self.owner, reason=str(error))
            return None

    def _mark_lost(self) -> None:
        with suppress(Unavailable):
            lost = self.leases.mark_lost(self.clock(), SILENCE)
            if lost:
                log.warning("runs lost: they sent no heartbeat", runs=lost)


def checks_of(schedule: Schedule, timeout: float) -> Checks:
    """Look at a scheduler whose calls of the database take at most `timeout`: on duty or not, it requests the lease."""
    period = schedule.lease / 3
    return Checks(
        lambda: schedule.heartbeat.find_stop(period + 4 * timeout + 60.0),
        lambda: schedule.heartbeat.find_silences(period + LATELY),
    )
