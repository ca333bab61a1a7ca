"""A simulated month: forty real sensors through the real worker and the real jobs, with a moved clock.

    4 October          21 November                5 December                19 December
    |---- history -----|---------- live ----------|- regime changed, live --|
                       first retraining

Every hour of the month: its events are sent, the worker stores and forecasts them, then the jobs run that the timetable
has due by then, each through the ledger. On the 24th day an operator promotes the first model by hand and takes it
back six hours later. Nothing but the clock is simulated; a training takes as long as it takes while the clock stands.

Afterwards every forecast that was issued in the month is scored against what came, beside three that were not live:
seasonal naive, the first model never retrained (frozen), and the live models without their calibration. The last two
are computed from the registry's artifacts and the stored observations (medians must be found again).
"""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import structlog

from jobs.catalog import find_work, timetable
from jobs.clock.outcome import Stage
from jobs.clock.runner import Runner
from jobs.clock.schedule import last_due, read_trigger
from models.fitting.cpu import tune_cpu
from pipeline.app import built_worker
from pipeline.database import Database, Ledger, upgrade
from pipeline.kafka.topics import check_topics, send
from pipeline.quickstart.broker import DevelopmentBroker
from pipeline.quickstart.produce import messages
from pipeline.settings import Settings
from pipeline.settings.sources import load
from pipeline.start import open_database
from pipeline.stream.worker import Worker
from tests.bench.month_scores import score_weeks
from tests.bench.results import Figure, Report, say
from tests.bench.sensors import CHANGE, END, START, inject_change, read_sensors

HOUR = pd.Timedelta(hours=1)
BY_HAND = START + pd.Timedelta(days=23, hours=12)
TAKEN_BACK = BY_HAND + pd.Timedelta(hours=6)
WAIT = 120.0
"""Seconds that the worker may take for an hour of events before the simulation gives up."""
SETTINGS = (
    "kafka.partitions=1",
    "kafka.group=month",
    "kafka.instance=month-0",
    "series.frequency=1h",
    "series.context=168",
    "series.horizon=24",
    "series.min_observed=0.2",
    "model.hidden=32",
    "model.pretrained=false",
    "training.steps=400",
    "training.refit=0",
    "training.patience=8",
    "training.threads=1",
)
PROTOCOL = (
    "{series} real sensors, hourly, horizon 24; 48 days of history, then 28 days hour by hour through the development "
    "broker, the worker, SQLite and the jobs of the timetable, clock moved by hand; after 14 days every second "
    "sensor has 1.5 times the level and a day that begins 6 hours later; one seed"
)


@dataclass(slots=True)
class Clock:
    """The simulation's processing time, microseconds since 1970 in UTC."""

    at: int

    def __call__(self) -> int:
        return self.at


class Timetable(Ledger):
    """The ledger as the scheduler uses it: a run is of the timetable, or of the request that waits for the job."""

    def begin(self, job: str, scheduled_for: int, owner: str, now: int, *, cause: str | None = None) -> int | None:
        """Begin what was asked for, if anything was, else the run that is due."""
        if job in self.requested():
            return self.begin_requested(job, owner, now)
        return super().begin(job, scheduled_for, owner, now)


@dataclass
class Month:
    """What runs: `ran` is job -> the due time that ran last."""

    settings: Settings
    database: Database
    worker: Worker
    clock: Clock
    ran: dict[str, int] = field(default_factory=dict)
    sent: int = 0

    def send(self, table: pd.DataFrame) -> None:
        """Send events and let the worker take its turns over them."""
        kafka = self.settings.kafka
        self.sent += send(kafka, kafka.input_topic, messages(table, self.settings.input))
        deadline = time.monotonic() + WAIT
        while sum(owned.claim.next_offset for owned in self.worker.owned.values()) < self.sent:
            self.worker.step()
            assert time.monotonic() < deadline, "the worker does not get on; its log says why"

    def run_due(self) -> None:
        """Run every job that has come due since it ran last, in the order of the due times, then those asked for."""
        due = {
            job: at
            for job, timing in timetable(self.settings).items()
            if timing and (at := last_due(read_trigger(timing), self.clock())) and at > self.ran.get(job, 0)
        }
        for job, at in sorted(due.items(), key=lambda each: each[1]):
            self.run(job, at)
            self.ran[job] = at
        for job in self.database.ledger.requested():
            self.run(job, self.clock())

    def run(self, job: str, due: int) -> None:
        """Run a job here, as `tidecast job run` does."""
        ledger = Timetable(self.database.engine)
        runner = Runner(ledger, self.clock, "month", self.settings.jobs.timeout_of(job))
        outcome = runner.run_here(job, due, find_work(job, self.settings, self.database, self.clock), _no_stage)
        assert outcome is not None, f"{job} has run before"
        assert outcome.ending == "ok", f"{job} failed: {outcome.reason}"


def run(folder: Path, *, seed: int, threads: int, sets: tuple[str, ...]) -> Path:
    """Simulate, score, and return the file of figures."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))  # warnings
    tune_cpu(threads or os.cpu_count() or 1)
    table = inject_change(read_sensors(folder))
    report = Report("month")
    began = time.monotonic()
    with started(seed, sets) as month:
        simulate(month, table)
        say(f"simulated in {time.monotonic() - began:.0f} s; scoring")
        tables = {
            "retrainings": read_runs(month.database),
            "champions": read_champions(month.database),
            "weeks": score_weeks(month.database, month.settings),
        }
    for name, rows in tables.items():
        say(f"\n{name}\n{pd.DataFrame(rows).to_string(index=False)}")
    write(report, tables, series=table["series_id"].nunique(), seconds=time.monotonic() - began)
    return report.path


@contextmanager
def started(seed: int, sets: tuple[str, ...]) -> Iterator[Month]:
    """Start broker, database and worker; everything ends with the block."""
    with tempfile.TemporaryDirectory(prefix="tidecast-month-") as scratch, DevelopmentBroker() as broker:
        url = f"sqlite:///{scratch}/tidecast.db"
        own = (f"kafka.bootstrap_servers={broker.bootstrap_servers}", f"database.url={url}", f"training.seed={seed}")
        settings = load(None, [*SETTINGS, *sets, *own])
        upgrade(url)
        check_topics(settings.kafka)
        database = open_database(settings)
        clock = Clock(_micros(START))
        try:
            with built_worker(settings, now=clock, timer=clock) as worker:
                yield Month(settings, database, worker, clock)
        finally:
            database.close()


def simulate(month: Month, table: pd.DataFrame) -> None:
    """Replay the history at once, train, then go through the month hour by hour."""
    month.send(table[table["timestamp"] < START])
    for job in timetable(month.settings):
        month.ran[job] = _micros(START)
    month.run("retrain", _micros(START))
    hours = table["timestamp"].dt.floor("h")
    for hour in pd.date_range(START, END - HOUR, freq=HOUR):
        month.clock.at = _micros(hour + HOUR)
        month.send(table[hours == hour])
        month.run_due()
        if hour == BY_HAND:
            promote_first(month)
        if hour == TAKEN_BACK:
            month.database.registry.rollback(month.clock())
        if hour.hour == 23:
            say(f"{hour:%d %B}: champion {month.database.registry.champion()}")


def promote_first(month: Month) -> None:
    """Make the first model champion, as an operator could by mistake."""
    registry = month.database.registry
    first = min(row.version for row in registry.models() if row.version)
    assert registry.promote(first, expected=registry.champion(), reason="by hand", now=month.clock())


def read_runs(database: Database) -> list[dict[str, Any]]:
    """List the retrainings with their verdicts, oldest first."""
    runs = database.ledger.runs("retrain", limit=1000)
    return [
        {"due": _day(run.scheduled_for), "cause": run.cause or "timetable", "verdict": run.reason}
        for run in reversed(runs)
    ]


def read_champions(database: Database) -> list[dict[str, Any]]:
    """List every change of the champion, oldest first."""
    return [
        {"at": _day(change.changed_at), "action": change.action, "version": change.version, "reason": change.reason}
        for change in reversed(database.registry.history())
    ]


def write(report: Report, tables: dict[str, list[dict[str, Any]]], *, series: int, seconds: float) -> None:
    """Write the tables; the value is the live MASE of the last week."""
    last = tables["weeks"][-1]
    figure = Figure(
        bench="month/mase",
        impl="tidecast",
        value=last["live"],
        unit="mase",
        protocol=PROTOCOL.format(series=series) + f"; change {CHANGE:%Y-%m-%d}",
        runs=[last["live"]],
        ratios={name: last["live"] / last[name] for name in ("frozen", "naive")},
        more={"seconds": seconds, **tables},
    )
    report.write(figure)


def _micros(moment: pd.Timestamp) -> int:
    return int(moment.timestamp()) * 1_000_000


def _day(micros: int) -> str:
    return f"{pd.Timestamp(micros, unit='us'):%Y-%m-%d %H:%M}"


def _no_stage(_: Stage) -> None:
    return None
