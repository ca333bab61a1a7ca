"""tidecast demo: the whole product on this machine, in two minutes."""

import logging
import os
import shutil
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from pipeline.commands.display import progress, say, say_heading, show_json, stages
from pipeline.commands.invocation import Invocation
from pipeline.commands.opened import now

if TYPE_CHECKING:
    from pipeline.database import Database
    from pipeline.quickstart.demo import Running, Screen
    from pipeline.settings import Settings

WIDEST = 110


@click.command()
@click.option("--once", is_flag=True, help="End after the results instead of running until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Write only the summary, as JSON, to stdout; the rest to stderr.")
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    default=Path("tidecast-demo"),
    show_default=True,
    help="Where its files go; a second run empties it, and nothing that a demo did not create is ever deleted.",
)
@click.option("--series", type=click.IntRange(1, 64), default=64, show_default=True, help="How many series.")
@click.pass_obj
def demo(invocation: Invocation, once: bool, as_json: bool, directory: Path, series: int) -> None:
    """Forecast real data on this machine: a broker, a database, a worker, training and streaming, in two minutes.

    Replays packaged series of M4-Hourly up to 48 hours before their end, trains, then streams the last hours one by
    one and shows the forecasts against the actuals. Needs no Kafka and no database. Settings come from --set only.
    """
    began = time.monotonic()
    from pipeline.commands import demo_report as report
    from pipeline.errors import ConfigError
    from pipeline.quickstart import demo as steps

    if invocation.config:
        raise ConfigError("the demo writes its own settings file; leave --config away, or use --set")
    isolate()
    screen = make_screen(as_json)
    with steps.started(directory, series, invocation.sets, screen, with_page=not once) as running:
        steps.ingest(running, screen)
        steps.train(running, retrain, screen)
        steps.stream(running, screen)
        steps.evaluate(running, monitor)
        summary, issued = steps.summarize(running, began)
        width = min(WIDEST, shutil.get_terminal_size((100, 24)).columns - 2)
        report.show(running, summary, issued, width, screen.section, screen.line)
        if as_json:
            show_json(asdict(summary))
        if not once:
            page = f"the page is at {running.page}; " if running.page else ""
            screen.section("Running", f"{page}all goes on until Ctrl-C; in another terminal:")
            report.farewell(running, screen.line)
            wait(running)


def isolate() -> None:
    """Keep the environment's settings away from the demo, its logs to warnings, and let SIGTERM end it as Ctrl-C."""
    import structlog

    from pipeline.health.logs import console

    structlog.configure(
        processors=[structlog.processors.add_log_level, *console()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    for name in [name for name in os.environ if name.startswith("TIDECAST_")]:
        del os.environ[name]

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def wait(running: "Running") -> None:
    """Wait for Ctrl-C, which is how this ends well; Unavailable if the worker ends first."""
    try:
        while True:
            running.worker.check()
            time.sleep(0.5)
    except KeyboardInterrupt:
        say(err=True)


def make_screen(as_json: bool) -> "Screen":
    """Show on stdout, or on stderr when stdout is for JSON."""
    from pipeline.quickstart.demo import Screen

    def section(title: str, text: str) -> None:
        say_heading(title, text, 9, err=as_json)

    def line(text: str) -> None:
        say(f"  {text}".rstrip(), err=as_json)

    return Screen(section, line, progress)


def retrain(settings: "Settings", database: "Database") -> str:
    """Run the job `retrain` and return its reason."""
    return run_job("retrain", settings, database)


def monitor(settings: "Settings", database: "Database") -> str:
    """Run the job `monitor` and return its reason."""
    return run_job("monitor", settings, database)


def run_job(job: str, settings: "Settings", database: "Database") -> str:
    """Run a job here, in the ledger like any other run, and return its reason."""
    from jobs.catalog import find_work, training_threads
    from jobs.clock.runner import Runner
    from models.fitting.cpu import tune_cpu
    from pipeline.commands.jobs import owner
    from pipeline.errors import Unavailable

    tune_cpu(training_threads(settings))
    runner = Runner(database.ledger, now, owner(settings), settings.jobs.timeout_of(job))
    with stages() as on_stage:
        outcome = runner.run_here(job, now(), find_work(job, settings, database, now), on_stage)
    if outcome is None or outcome.ending != "ok":
        raise Unavailable(f"the job {job} did not end well: {outcome.reason if outcome else 'somebody else runs it'}")
    return outcome.reason
