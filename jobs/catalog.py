"""The jobs: one row each. A job's module, and torch with it, is imported when the job runs, not by the scheduler.

A job more is a row here, its function `run`, and a timetable of its name in JobSettings.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any, Protocol

from jobs.clock.outcome import OnStage, Outcome
from jobs.clock.runner import Work
from models.fitting.cores import count_threads
from pipeline.settings import Settings


@dataclass(frozen=True, slots=True)
class Job:
    """A job; `run` is the `module:function` of run(database, settings, clock=, on_stage=), `torch` that it trains."""

    name: str
    run: str
    torch: bool = False


JOBS = (
    Job("retrain", "jobs.retraining.retrain:run", torch=True),
    Job("monitor", "jobs.upkeep.monitor:run"),
    Job("calibrate", "jobs.upkeep.calibrate:run"),
    Job("retention", "jobs.upkeep.retention:run"),
    Job("promote", "jobs.retraining.promote:run"),
)
CATALOG = {job.name: job for job in JOBS}


class Grids(Protocol):
    """Where the steps of the grid begin."""

    def phase(self) -> int | None:
        """Return the seconds from the frequency's steps to those of the grid; None while it is not known."""
        ...


class Database(Protocol):
    """The database; each job says in its own module which parts of it it works on."""

    @property
    def pipelines(self) -> Grids:
        """What the database belongs to."""
        ...


def find_work(job: str, settings: Settings, database: Database, clock: Callable[[], int]) -> Work:
    """Bind a job to what it works on."""
    return partial(_run, CATALOG[job], settings, database, clock)


def _run(job: Job, settings: Settings, database: Database, clock: Callable[[], int], on_stage: OnStage) -> Outcome:
    """Run a job on the grid that the database's rows are on."""
    settings = settings.with_phase(database.pipelines.phase())
    module, _, function = job.run.partition(":")
    run: Callable[..., Any] = getattr(import_module(module), function)
    outcome: Outcome = run(database, settings, clock=clock, on_stage=on_stage)
    return outcome


def timetable(settings: Settings) -> dict[str, str | None]:
    """List the jobs, each with its setting of the same name: when it runs, None for never by itself."""
    return {job: getattr(settings.jobs, job) for job in CATALOG}


def training_threads(settings: Settings) -> int:
    """Count the CPU threads of a fit: the setting, or for 0 this process's part of the cores that are free now."""
    return count_threads(settings.training.threads)
