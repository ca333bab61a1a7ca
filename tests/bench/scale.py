"""How cost grows with the series: the worker and every job that looks at all of them, on both databases.

Each size has a database of its own with some history of every series. A worker takes events that make nothing due, and
then, on another copy, events of which each makes a forecast due by the default attention network; on what that leaves
the jobs run. Figures are per series, event or forecast, so what grows no faster than the work stays the same.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.retraining.history import read_history
from jobs.upkeep import calibrate, monitor, retention
from pipeline.database import Database
from pipeline.settings import Settings
from pipeline.start import open_database
from tests.bench.feed import HOUR, START, Feed
from tests.bench.results import Figure, Report, say
from tests.bench.stage import Stage, delete_topics, measure_worker, promote_untrained, staged

PARTITIONS, HISTORY, ROUNDS = 6, 72, 4
EVENTS = 120_000
"""At least so many of a worker's events are measured, so that few series make as many full turns as many do."""
SECOND = 1_000_000
UNITS = {
    "event, nothing due": "us of CPU",
    "event, nothing due, rate": "events/s",
    "forecast": "us of CPU",
    "forecast, rate": "forecasts/s",
    "memory of a series' window": "bytes",
    "memory of the worker": "MiB",
    "claims and first turn": "us a series",
    "monitor, first sweep": "us a series",
    "calibrate": "us a series",
    "retrain, reading": "us a series",
    "retention": "us a series",
}


@dataclass(frozen=True, slots=True)
class Job:
    """A job over all series: what is called."""

    name: str
    run: Callable[[Database, Settings, int], Any]


JOBS = (
    Job("monitor, first sweep", lambda database, settings, now: _run(monitor.run, database, settings, now)),
    Job("calibrate", lambda database, settings, now: _run(calibrate.run, database, settings, now)),
    Job("retrain, reading", lambda database, settings, _: read_history(database.reader, settings, HISTORY + ROUNDS)),
    Job("retention", lambda database, settings, now: _run(retention.run, database, settings, now)),
)


def run(sizes: Sequence[int], kinds: tuple[str, ...]) -> Path:
    """Measure every size, and return the file of figures."""
    report = Report("scale")
    with staged(postgresql="postgresql" in kinds) as stage:
        for series in sizes:
            for kind in kinds:
                measures = measure_nothing_due, measure_due, measure_jobs
                found = {name: value for each in measures for name, value in each(stage, kind, series).items()}
                for name, value in found.items():
                    say(f"{series:,} series, {kind}: {name}: {value:,.1f} {UNITS[name]}")
                    report.write(figure(name, kind, series, value))
            stage.forget()
    return report.path


def figure(name: str, kind: str, series: int, value: float) -> Figure:
    """Say how it was measured."""
    return Figure(
        bench=f"scale/{series}/{name}",
        impl=f"tidecast, {kind}",
        value=round(value, 2),
        unit=UNITS[name],
        protocol=f"{series:,} hourly series, {HISTORY} hours of each in SQL, windows of 336; {EVENTS:,} events, or "
        f"{ROUNDS} of each series if that is more, over {PARTITIONS} partitions, the first of each not counted; one "
        f"worker, one torch thread; jobs once each over {ROUNDS} forecasts of each series, wall time",
        runs=[round(value, 2)],
    )


def measure_nothing_due(stage: Stage, kind: str, series: int) -> dict[str, float]:
    """Return what late events cost a worker, and what it needs to start."""
    feed = Feed("late", series, max(ROUNDS, EVENTS // series), PARTITIONS, HISTORY)
    with stage.database(kind, feed) as url:
        found = _measure_worker(stage, stage.settings(feed, url), feed)
    return {
        "event, nothing due": found["cpu_us"]["all"],
        "event, nothing due, rate": found["rate"],
        "memory of a series' window": found["memory"]["ring_bytes_per_series"],
        "memory of the worker": found["memory"]["rss_peak_mib"],
        "claims and first turn": 1e6 * found["warm_s"] / series,
    }


def measure_due(stage: Stage, kind: str, series: int) -> dict[str, float]:
    """Return what forecasts cost a worker."""
    feed = Feed("due", series, max(ROUNDS, EVENTS // series), PARTITIONS, HISTORY)
    with stage.database(kind, feed) as url:
        settings = stage.settings(feed, url)
        promote_untrained(Settings.model_validate(settings), feed)
        found = _measure_worker(stage, settings, feed)
    return {"forecast": found["cpu_us"]["all"], "forecast, rate": found["rate"]}


def measure_jobs(stage: Stage, kind: str, series: int) -> dict[str, float]:
    """Return each job's microseconds a series."""
    feed = Feed("due", series, ROUNDS, PARTITIONS, HISTORY)
    found = {}
    with stage.database(kind, feed) as url:
        given = stage.settings(feed, url)
        settings = Settings.model_validate(given)
        promote_untrained(settings, feed)
        _measure_worker(stage, given, feed)
        database = open_database(settings)
        for job in JOBS:
            began = time.perf_counter()
            job.run(database, settings, (START + ROUNDS * HOUR) * SECOND)
            found[job.name] = 1e6 * (time.perf_counter() - began) / series
        database.close()
    return found


def _measure_worker(stage: Stage, settings: dict[str, Any], feed: Feed) -> dict[str, Any]:
    found = measure_worker(stage, settings, feed)
    delete_topics(stage, settings["kafka"]["output_topic"], settings["kafka"]["dead_letter_topic"])
    return found


def _run(job: Callable[..., Any], database: Database, settings: Settings, now: int) -> None:
    job(database, settings, clock=lambda: now, on_stage=lambda _: None)
