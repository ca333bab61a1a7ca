"""tidecast job, schedule and metrics: run jobs now or on their timetable, pause them, show what ran and how it is."""

import getpass
import os
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from jobs.catalog import CATALOG
from pipeline.commands.display import moment, say, say_exactly, say_lines, show_json, show_rows, stages
from pipeline.commands.invocation import with_settings
from pipeline.commands.opened import now, opened

if TYPE_CHECKING:
    from jobs.clock.schedule import Schedule
    from jobs.upkeep.job_metrics import JobCollector
    from pipeline.database import Database
    from pipeline.settings import Settings

LEASE = 30.0
"""Seconds after which a silent scheduler is replaced; all schedulers of a database need the same."""


@click.group()
def job() -> None:
    """Run a job now, pause and resume jobs, list them, show what ran."""


@job.command()
@click.argument("name", type=click.Choice(tuple(CATALOG)))
@click.option("--json", "as_json", is_flag=True, help="Write the outcome as JSON.")
@with_settings
def run(settings: "Settings", name: str, as_json: bool) -> None:
    """Run the job NAME now, in this process; it is kept in the history like a scheduled run. Exit 1 if it fails.

    Under torchrun its processes train one model together, and the first one does everything else.
    """
    from jobs.catalog import training_threads
    from jobs.retraining.torchrun import leading
    from models.fitting.cpu import tune_cpu
    from pipeline.health.logs import start_logging
    from pipeline.settings.secrets import list_secrets

    start_logging(list_secrets(settings))
    tune_cpu(training_threads(settings))
    with leading(settings) as first:
        if first:
            run_job(settings, name, as_json=as_json)


def run_job(settings: "Settings", name: str, *, as_json: bool) -> None:
    """Run a job here, show its stages and write its outcome; ClickException when it fails."""
    from jobs.catalog import find_work
    from jobs.clock.runner import Runner

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C, so the ledger notes it
    with opened(settings) as database, stages() as on_stage:
        runner = Runner(database.ledger, now, owner(settings), settings.jobs.timeout_of(name))
        outcome = runner.run_here(name, now(), find_work(name, settings, database, now), on_stage)
    if outcome is None:
        raise click.ClickException(f"{name} is being run by somebody else at this moment; see tidecast job history")
    if as_json:
        show_json(outcome.to_dict())
    if outcome.ending != "ok":
        raise click.ClickException(f"{name} failed: {outcome.reason}")
    if not as_json:
        say(outcome.reason)


@job.command("list")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@with_settings
def list_jobs(settings: "Settings", as_json: bool) -> None:
    """List the jobs: when each runs (UTC), when it is due next, who paused it and why, how it ended last."""
    from jobs.catalog import timetable
    from jobs.clock.schedule import next_due, read_trigger

    rows: list[dict[str, Any]] = []
    with opened(settings) as database:
        pauses, requested = database.ledger.pauses(), database.ledger.requested()
        for name, timing in timetable(settings).items():
            last, pause = database.ledger.last(name), pauses.get(name)
            rows.append(
                {
                    "job": name,
                    "timetable": timing or "off",
                    "next": moment(next_due(read_trigger(timing), now())) if timing and not pause else None,
                    "requested": name in requested,
                    "paused": moment(pause.paused_at) if pause else None,
                    "paused_by": pause.paused_by if pause else None,
                    "why": pause.reason if pause else None,
                    "last": moment(last.scheduled_for) if last else None,
                    "outcome": last.outcome if last else None,
                    "reason": last.reason if last else None,
                }
            )
    show_rows(rows, as_json=as_json, empty="there are no jobs")


@job.command()
@click.argument("name", type=click.Choice(tuple(CATALOG)))
@click.option("--reason", help="Why, for whoever lists the jobs.")
@with_settings
def pause(settings: "Settings", name: str, reason: str | None) -> None:
    """Keep every scheduler from starting the job NAME; what runs goes on, and `tidecast job run` works as before."""
    with opened(settings) as database:
        done = database.ledger.pause(name, person(), reason, now())
        earlier = database.ledger.pauses().get(name)
    if not done and earlier is not None:
        raise click.ClickException(f"{name} is paused already, by {earlier.paused_by}: {earlier.reason or 'no reason'}")
    say(f"{name} is paused")


@job.command()
@click.argument("name", type=click.Choice(tuple(CATALOG)))
@with_settings
def resume(settings: "Settings", name: str) -> None:
    """Let the schedulers start the job NAME again; what was due before now is not made up for."""
    with opened(settings) as database:
        if not database.ledger.resume(name, now()):
            raise click.ClickException(f"{name} is not paused")
    say(f"{name} runs on its timetable again")


@job.command()
@click.option("--job", "name", type=click.Choice(tuple(CATALOG)), help="Of this job only.")
@click.option("--failed", is_flag=True, help="Only runs that failed, took too long or were lost.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="The newest so many.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@with_settings
def history(settings: "Settings", name: str | None, failed: bool, limit: int, as_json: bool) -> None:
    """Show what ran, newest first: when it was due, who requested it, how long it took, how it ended and why."""
    with opened(settings) as database:
        runs = database.ledger.runs(name, limit, failed=failed)
    rows = [
        {
            "run": row.id,
            "job": row.job,
            "due": moment(row.scheduled_for),
            "seconds": round(((row.finished_at or row.heartbeat_at) - row.started_at) / 1e6, 1),
            "outcome": row.outcome,
            "exit_code": row.exit_code,
            "reason": row.reason or (row.progress or {}).get("name"),
            "cause": row.cause or "timetable",
            "owner": row.owner,
        }
        for row in runs
    ]
    show_rows(rows, as_json=as_json, empty="nothing went wrong" if failed else "no job has run yet")


@job.command("log")
@click.argument("number", metavar="RUN", type=click.IntRange(1))
@with_settings
def show_log(settings: "Settings", number: int) -> None:
    """Show the end of what the process of RUN (a number of `tidecast job history`) wrote, without passwords."""
    with opened(settings) as database:
        text = database.ledger.log(number)
    if text is None:
        raise click.ClickException(f"run {number} has no log: it wrote nothing, is not over, or ran in a terminal")
    say_lines(text)


@click.command()
@with_settings
def schedule(settings: "Settings") -> None:
    """Run the jobs on their timetable until SIGTERM or Ctrl-C.

    Any number may run, on any hosts: one holds the lease and is on duty, the others wait to take over. Each run is a
    child process; a run that was missed while no scheduler was up is made up for once. With metrics.listen each serves
    the metrics of the jobs, /healthz and /readyz, on duty or not.
    """
    from jobs.clock.schedule import checks_of
    from pipeline.health.logs import start_logging
    from pipeline.health.probes import Probes, serving
    from pipeline.settings.secrets import list_secrets

    secrets = list_secrets(settings)
    start_logging(secrets)
    stop = stop_event()  # before anybody can see that it runs: without a handler a container's first process is deaf
    probes = Probes("scheduler", secrets)
    with serving(settings.metrics.listen, probes, settings.metrics.hosts), opened(settings) as database:
        scheduler = build_schedule(settings, database, now)
        probes.watch(checks_of(scheduler, settings.database.timeout), build_collector(settings, database))
        scheduler.serve(stop)


@click.command()
@with_settings
def metrics(settings: "Settings") -> None:
    """Write the metrics of the jobs once, as Prometheus would read them from a scheduler with metrics.listen."""
    from pipeline.health.prometheus import Exposition

    with opened(settings) as database:
        say_exactly(Exposition(build_collector(settings, database)).write())


def build_collector(settings: "Settings", database: "Database") -> "JobCollector":
    """Wire the metrics of the jobs to a database."""
    from jobs.catalog import timetable
    from jobs.clock.schedule import longest_period, read_trigger
    from jobs.upkeep.job_metrics import JobCollector

    periods = {
        job: longest_period(read_trigger(timing), now()) if timing else None
        for job, timing in timetable(settings).items()
    }
    return JobCollector(partial(database.job_facts.read, tuple(periods)), periods, now)


def build_schedule(settings: "Settings", database: "Database", clock: Callable[[], int]) -> "Schedule":
    """Wire a scheduler to a database; its jobs run as child processes with these settings."""
    from jobs.catalog import timetable
    from jobs.clock.child import Child, job_command, write_settings
    from jobs.clock.first_model import FirstModel
    from jobs.clock.runner import Runner
    from jobs.clock.schedule import Schedule
    from pipeline.settings.jobs import count_needed
    from pipeline.settings.secrets import list_secrets

    ledger, given, secrets = database.ledger, write_settings(settings), list_secrets(settings)

    def fire(name: str, due: int | None, halt: threading.Event) -> None:
        runner = Runner(ledger, clock, owner(settings), settings.jobs.timeout_of(name))
        runner.run_child(name, due, lambda: Child(job_command(name), given, secrets), halt)

    schedule = Schedule(timetable(settings), ledger, fire, clock, owner(settings), LEASE)
    if settings.jobs.retrain is None:
        return schedule
    needed = count_needed(settings.series.horizon, settings.jobs.gate_origins)
    return replace(schedule, look=FirstModel(database.first_history(settings, clock), ledger, needed, clock).look)


def person() -> str:
    """Name who sits at the command line."""
    try:
        user = getpass.getuser()
    except (ImportError, KeyError, OSError):  # a container's user without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


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
