"""tidecast job and tidecast schedule: run jobs now or on their timetable, and show what ran."""

import os
import signal
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from pipeline.commands.display import moment, show_json, show_rows, stages
from pipeline.commands.invocation import with_settings
from pipeline.commands.opened import now, opened

if TYPE_CHECKING:
    from jobs.schedule import Schedule
    from pipeline.database import Ledger
    from pipeline.settings import Settings

NAMES = ("retrain", "retention")
"""The jobs of jobs.catalog, which imports torch and is therefore read only when one runs."""


@click.group()
def job() -> None:
    """Run a job now, list the jobs, show what ran."""


@job.command()
@click.argument("name", type=click.Choice(NAMES))
@click.option("--json", "as_json", is_flag=True, help="Write the outcome as JSON.")
@with_settings
def run(settings: "Settings", name: str, as_json: bool) -> None:
    """Run the job NAME now, in this process; it is kept in the history like a scheduled run. Exit 1 if it fails.

    Under torchrun its processes train one model together, and the first one does everything else.
    """
    from jobs.catalog import training_threads
    from jobs.torchrun import leading
    from models.cpu import tune_cpu
    from pipeline.telemetry import start_logging

    start_logging()
    tune_cpu(training_threads(settings))
    with leading(settings) as first:
        if first:
            run_job(settings, name, as_json=as_json)


def run_job(settings: "Settings", name: str, *, as_json: bool) -> None:
    """Run a job here, show its stages and write its outcome; ClickException when it fails."""
    from jobs.catalog import find_work
    from jobs.runner import Runner

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C, so the ledger hears of it
    with opened(settings) as database, stages() as on_stage:
        runner = Runner(database.ledger, now, owner(settings), settings.jobs.timeout)
        outcome = runner.run_here(name, now(), find_work(name, settings, database, now), on_stage)
    if outcome is None:
        raise click.ClickException(f"{name} is being run by somebody else at this moment; see tidecast job history")
    if as_json:
        show_json(outcome.to_dict())
    if outcome.ending != "ok":
        raise click.ClickException(f"{name} failed: {outcome.reason}")
    if not as_json:
        click.echo(outcome.reason)


@job.command("list")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@with_settings
def list_jobs(settings: "Settings", as_json: bool) -> None:
    """List the jobs: when each runs (cron, UTC), when it is due next, how it ended last."""
    from jobs.catalog import timetable
    from jobs.schedule import next_due, read_cron

    crons = timetable(settings)
    rows: list[dict[str, Any]] = []
    with opened(settings) as database:
        for name in NAMES:
            last = database.ledger.last(name)
            cron = crons.get(name)
            rows.append(
                {
                    "job": name,
                    "cron": cron or "off",
                    "next": moment(next_due(read_cron(cron), now())) if cron else None,
                    "last": moment(last.scheduled_for) if last else None,
                    "outcome": last.outcome if last else None,
                    "reason": last.reason if last else None,
                }
            )
    show_rows(rows, as_json=as_json, empty="there are no jobs")


@job.command()
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="The newest so many.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@with_settings
def history(settings: "Settings", limit: int, as_json: bool) -> None:
    """Show what ran, newest first: when it was due, how long it took, how it ended and why."""
    with opened(settings) as database:
        runs = database.ledger.runs(None, limit)
    rows = [
        {
            "run": row.id,
            "job": row.job,
            "due": moment(row.scheduled_for),
            "seconds": round(((row.finished_at or row.heartbeat_at) - row.started_at) / 1e6, 1),
            "outcome": row.outcome,
            "reason": row.reason or (row.progress or {}).get("name"),
            "owner": row.owner,
        }
        for row in runs
    ]
    show_rows(rows, as_json=as_json, empty="no job has run yet")


@click.command()
@with_settings
def schedule(settings: "Settings") -> None:
    """Run the jobs on their timetable until SIGTERM or Ctrl-C.

    Any number may run, on any hosts: one holds the lease and is on duty, the others wait to take over. Each run is a
    child process; a run that was missed while no scheduler was up is made up for once.
    """
    from pipeline.telemetry import start_logging

    start_logging()
    with opened(settings) as database:
        build_schedule(settings, database.ledger, now).serve(stop_event())


def build_schedule(settings: "Settings", ledger: "Ledger", clock: Callable[[], int]) -> "Schedule":
    """Wire a scheduler to a ledger; its jobs run as child processes with these settings."""
    from jobs.catalog import timetable
    from jobs.child import Child, job_command, write_settings
    from jobs.runner import Runner
    from jobs.schedule import Schedule

    runner = Runner(ledger, clock, owner(settings), settings.jobs.timeout)
    given = write_settings(settings)

    def fire(name: str, due: int, halt: threading.Event) -> None:
        runner.run_child(name, due, lambda: Child(job_command(name), given), halt)

    return Schedule(timetable(settings), ledger, fire, clock, owner(settings), settings.jobs.lease)


def owner(settings: "Settings") -> str:
    """Name this process in the ledger."""
    return f"{settings.kafka.instance}:{os.getpid()}"


def stop_event() -> threading.Event:
    """Catch SIGTERM and SIGINT and return an event that they set."""
    stop = threading.Event()

    def catch(number: int, frame: object) -> None:
        # From a thread: this handler may interrupt stop.wait() while it holds the lock that stop.set() needs.
        threading.Thread(target=stop.set, daemon=True).start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, catch)
    return stop
