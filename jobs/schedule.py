"""The scheduler: the timetable, run by whichever scheduler holds the lease. The only importer of apscheduler.

APScheduler only says when; what ran is our ledger, so its job store is memory. Any number of schedulers may run:

    waiting --acquire--> on duty: mark lost runs, run what was missed, then the timetable; renew the lease
       ^                    |
       +---- lease lost ----+      (running jobs are stopped: another scheduler is on duty now)
"""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import structlog
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger

from jobs.cron import split_cron
from jobs.ports import Leases
from jobs.runner import SILENCE
from pipeline.errors import ConfigError, Unavailable

LEASE = "scheduler"
LOOK_BACK = tuple(timedelta(days=days) for days in (0.05, 1, 8, 32, 367))
"""How far to search for the last time that a job was due, nearest first."""

Fire = Callable[[str, int | None, threading.Event], object]
"""Runs job NAME for the time it was due, None for the request that waits; ends early when the event is set."""
log = structlog.get_logger()


def read_cron(text: str) -> CronTrigger:
    """Read a cron expression, in UTC; raises ConfigError."""
    try:
        return CronTrigger(**split_cron(text), timezone=UTC)
    except ValueError as error:
        raise ConfigError(f"cron {text!r}: {error}") from error


def last_due(trigger: CronTrigger, now: int) -> int | None:
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


def next_due(trigger: CronTrigger, now: int) -> int | None:
    """Find the first time after `now` at which the trigger fires; None for never."""
    due = trigger.get_next_fire_time(None, datetime.fromtimestamp(now // 1_000_000 + 1, UTC))
    return None if due is None else int(due.timestamp()) * 1_000_000


@dataclass(frozen=True, slots=True)
class Duty:
    """What lasts as long as a lease: `turns` lets each job run once at a time, `halt` ends all."""

    epoch: int
    turns: Mapping[str, threading.Lock]
    halt: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class Schedule:
    """A scheduler: `timetable` is job -> cron expression, None for a job that runs when it is asked for; `lease` is
    seconds, `fire` runs a job and keeps the ledger.
    """

    timetable: Mapping[str, str | None]
    leases: Leases
    fire: Fire
    clock: Callable[[], int]
    owner: str
    lease: float

    def serve(self, stop: threading.Event) -> None:
        """Wait for the lease, be on duty while it is held, and again, until `stop` is set."""
        triggers = {job: read_cron(cron) for job, cron in self.timetable.items() if cron is not None}
        log.info("scheduler waits", owner=self.owner, timetable=dict(self.timetable))
        while not stop.is_set():
            epoch = self._acquire()
            if epoch is None:
                stop.wait(self.lease / 3)
                continue
            log.info("scheduler on duty", owner=self.owner, epoch=epoch)
            self._serve_lease(Duty(epoch, {job: threading.Lock() for job in self.timetable}), triggers, stop)
            log.info("scheduler off duty", owner=self.owner, epoch=epoch)

    def _serve_lease(self, duty: Duty, triggers: Mapping[str, CronTrigger], stop: threading.Event) -> None:
        scheduler = self._plan(duty, triggers)
        try:
            self._mark_lost()
            scheduler.start()
            self._hold(duty, scheduler, stop)
        finally:
            duty.halt.set()
            scheduler.shutdown(wait=True)
            with suppress(Unavailable):  # then it expires
                self.leases.release(LEASE, self.owner, duty.epoch)

    def _plan(self, duty: Duty, triggers: Mapping[str, CronTrigger]) -> BackgroundScheduler:
        """Put every job on APScheduler's timetable, due once right away: the ledger knows whether it was missed."""
        scheduler = BackgroundScheduler(
            jobstores={"default": MemoryJobStore()},
            executors={"default": ThreadPoolExecutor(2 * len(self.timetable) + 1)},  # one waits while the other runs
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
            timezone=UTC,
        )
        at_once = datetime.fromtimestamp(self.clock() / 1e6, UTC)
        for job, trigger in triggers.items():
            scheduler.add_job(self._fire_last, trigger, args=(job, trigger, duty), id=job, next_run_time=at_once)
        return scheduler

    def _fire_last(self, job: str, trigger: CronTrigger, duty: Duty) -> None:
        with duty.turns[job]:
            due = last_due(trigger, self.clock())
            while due is not None and not duty.halt.is_set():
                try:
                    self.fire(job, due, duty.halt)
                    return
                except Unavailable as error:
                    log.warning("job waits for the database", job=job, reason=str(error))
                    duty.halt.wait(self.lease / 3)

    def _fire_requested(self, job: str, duty: Duty) -> None:
        with duty.turns[job]:
            if not duty.halt.is_set():
                with suppress(Unavailable):  # then the request still waits
                    self.fire(job, None, duty.halt)

    def _hold(self, duty: Duty, scheduler: BackgroundScheduler, stop: threading.Event) -> None:
        """Renew the lease at a third of it, and return when it is lost, might be lost, or `stop` is set.

        In between runs are taken for lost, and what was asked for is started.
        """
        renewed = time.monotonic()
        self._start_requested(duty, scheduler)
        while not stop.wait(self.lease / 3):
            before = time.monotonic()
            try:
                if not self.leases.renew(LEASE, self.owner, duty.epoch, self.clock(), self.lease):
                    log.warning("lease lost", owner=self.owner, epoch=duty.epoch)
                    return
                renewed = before
            except Unavailable as error:
                log.warning("lease not renewed", owner=self.owner, reason=str(error))
                if time.monotonic() - renewed >= self.lease:
                    return
            self._mark_lost()
            self._start_requested(duty, scheduler)

    def _start_requested(self, duty: Duty, scheduler: BackgroundScheduler) -> None:
        """Start what was asked for, but for jobs that run at this moment: their requests are seen again later."""
        with suppress(Unavailable):
            for job in self.leases.requested():
                if job in duty.turns and not duty.turns[job].locked():
                    scheduler.add_job(
                        self._fire_requested, args=(job, duty), id=f"{job} on request", replace_existing=True
                    )

    def _acquire(self) -> int | None:
        try:
            return self.leases.acquire(LEASE, self.owner, self.clock(), self.lease)
        except Unavailable as error:
            log.warning("lease not asked for", owner=self.owner, reason=str(error))
            return None

    def _mark_lost(self) -> None:
        with suppress(Unavailable):
            lost = self.leases.mark_lost(self.clock(), SILENCE)
            if lost:
                log.warning("runs lost: they sent no heartbeat", runs=lost)
