"""Metrics of the jobs for Prometheus, read from SQL when they are scraped.

Any process that reaches the database can serve them, and a restart loses nothing: what counts up is counted there. A
label is a job, an outcome, a table, a model or a first step of the horizon, never a series. The label of jobs is
`job_name`, because Prometheus keeps `job` for what it scrapes. Times are `_timestamp_seconds`; an age is time() - that.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping

import structlog

from pipeline.errors import TidecastError
from pipeline.health.prometheus import Collector, Metric, counter, gauge, in_seconds
from pipeline.job_facts import CHANGES, DELETED, ENDINGS, JobFacts

KEPT = 10.0
"""Seconds for which an answer of the database, also that it is away, is given again."""
PATIENCE = 8.0
"""Seconds to wait for another scrape that reads; Prometheus gives a scrape up after ten."""
JOB = ("job_name",)
CELL = ("model_version", "horizon_from")
log = structlog.get_logger()


class JobCollector(Collector):
    """Collects the metrics: `read` returns the facts of a moment, `periods` are seconds between due times by job."""

    def __init__(
        self,
        read: Callable[[int], JobFacts],
        periods: Mapping[str, float | None],
        clock: Callable[[], int],
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._periods = periods
        self._clock = clock
        self._seconds = seconds
        self._reading = threading.Lock()
        self._facts: JobFacts | None = None
        self._fresh_until = -float("inf")

    def collect(self) -> Iterator[Metric]:
        """Yield every metric; without the database, those of the settings and tidecast_database_up 0."""
        facts = self._look()
        yield gauge("database_up", "1 when the database answered, else 0.", [((), float(facts is not None))])
        own = [((job,), period) for job, period in self._periods.items()]
        enabled = [(job, float(period is not None)) for job, period in own]
        yield gauge("job_enabled", "1 when the timetable starts the job by itself.", enabled, JOB)
        yield gauge("job_period_seconds", "Longest time between two runs of the timetable.", own, JOB)
        if facts is not None:
            yield from _runs(facts)
            yield from _lease(facts)
            yield from _champion(facts)
            yield from _accuracy(facts)
            yield from _drift_and_retention(facts)

    def _look(self) -> JobFacts | None:
        """Return the facts, read again when they are old; None when the database cannot tell."""
        if not self._reading.acquire(timeout=PATIENCE):
            return None
        try:
            if self._seconds() >= self._fresh_until:
                try:
                    self._facts = self._read(self._clock())
                except TidecastError as error:
                    self._facts = None
                    log.warning("metrics not read", reason=str(error))
                self._fresh_until = self._seconds() + KEPT
            return self._facts
        finally:
            self._reading.release()


def _runs(facts: JobFacts) -> Iterator[Metric]:
    runs = facts.runs
    ended = [((job, ending), float(run.endings.get(ending, 0))) for job, run in runs.items() for ending in ENDINGS]
    yield counter("job_runs", "Runs that ended, by how.", ended, (*JOB, "outcome"))
    yield gauge("job_running", "Runs that go on.", [((job,), run.running) for job, run in runs.items()], JOB)
    yield gauge(
        "job_consecutive_failures",
        "Newest runs in a row that did not end well, 100 at most.",
        [((job,), run.failures) for job, run in runs.items()],
        JOB,
    )
    yield gauge(
        "job_last_success_timestamp_seconds",
        "When the newest good run ended.",
        [((job,), in_seconds(run.succeeded_at)) for job, run in runs.items()],
        JOB,
    )
    yield gauge(
        "job_last_success_duration_seconds",
        "How long the newest good run took.",
        [((job,), run.seconds) for job, run in runs.items()],
        JOB,
    )
    yield gauge("job_paused", "1 while the job is paused.", [((job,), run.paused) for job, run in runs.items()], JOB)
    yield gauge(
        "job_requested",
        "1 while a request for the job waits.",
        [((job,), run.requested) for job, run in runs.items()],
        JOB,
    )


def _lease(facts: JobFacts) -> Iterator[Metric]:
    lease = facts.lease
    held = lease is not None and lease.expires_at > facts.read_at  # not now: a short lease ends while facts are kept
    yield gauge("scheduler_lease_held", "1 while a scheduler is on duty.", [((), held)])
    yield counter("scheduler_lease_acquisitions", "How often the lease was taken.", [((), lease.epoch if lease else 0)])
    yield gauge(
        "scheduler_lease_expiry_timestamp_seconds",
        "When the lease ends unless it is renewed; 0 after it was given back.",
        [((), in_seconds(lease.expires_at) if lease else None)],
    )


def _champion(facts: JobFacts) -> Iterator[Metric]:
    champion, calibration = facts.champion, facts.champion.calibration if facts.champion else None
    named = [((str(champion.version),), 1.0)] if champion else []
    yield gauge("champion_info", "The model in use, as a label.", named, ("model_version",))
    yield gauge("champion_version", "Version of the model in use.", [((), champion.version if champion else None)])
    yield gauge(
        "champion_promoted_timestamp_seconds",
        "When the model in use became the champion.",
        [((), in_seconds(champion.promoted_at if champion else None))],
    )
    yield gauge(
        "champion_created_timestamp_seconds",
        "When the model in use was trained and registered.",
        [((), in_seconds(champion.created_at if champion else None))],
    )
    changes = [((action,), float(facts.changes.get(action, 0))) for action in CHANGES]
    yield counter("champion_changes", "Changes of the champion.", changes, ("action",))
    yield gauge(
        "calibration_version",
        "Newest calibration of the champion; 0: none.",
        [((), calibration.version if calibration else 0 if champion else None)],
    )
    yield gauge(
        "calibration_created_timestamp_seconds",
        "When the newest calibration of the champion was found.",
        [((), in_seconds(calibration.created_at if calibration else None))],
    )
    yield gauge(
        "calibration_matured_steps",
        "Matured forecast steps from which the newest calibration was found.",
        [((), calibration.n if calibration else None)],
    )


def _accuracy(facts: JobFacts) -> Iterator[Metric]:
    cells = [((str(each.model_version), str(each.horizon_from)), each) for each in facts.accuracy]
    days = "in the last 7 UTC days"
    yield gauge("live_matured_steps", f"Forecast steps that matured {days}.", [(k, c.n) for k, c in cells], CELL)
    yield gauge("live_mase", f"Mean absolute scaled error {days}.", [(k, c.mase) for k, c in cells], CELL)
    yield gauge("live_wql", f"Weighted quantile loss {days}.", [(k, c.wql) for k, c in cells], CELL)
    yield gauge(
        "live_skill",
        f"1 - error / the seasonal naive's {days}: 0 is as good, below 0 worse.",
        [(k, c.skill) for k, c in cells],
        CELL,
    )
    held = [((*k, "80"), c.coverage_80) for k, c in cells] + [((*k, "95"), c.coverage_95) for k, c in cells]
    yield gauge(
        "live_coverage_ratio",
        f"Share of actuals inside the interval of so many percent {days}.",
        held,
        (*CELL, "interval"),
    )


def _drift_and_retention(facts: JobFacts) -> Iterator[Metric]:
    drift = facts.drift
    yield counter("drift_requests", "Retrainings that drift requested.", [((), drift.requests)])
    yield gauge("drift_last_request_timestamp_seconds", "When drift asked last.", [((), in_seconds(drift.asked_at))])
    yield gauge("drift_alarm_waiting", "1 while the cool-down holds an alarm back.", [((), drift.waiting)])
    deleted = [((table,), float(facts.deleted.get(table, 0))) for table in DELETED]
    yield counter("retention_deleted_rows", "Rows that retention deleted.", deleted, ("table",))
