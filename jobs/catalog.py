"""The jobs by name, and what each needs to run; torch is imported when one does, not by the scheduler."""

from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Protocol

from jobs.clock.outcome import OnStage, Outcome
from jobs.clock.runner import Work
from jobs.ports import (
    Calibrations,
    Evaluations,
    LiveErrors,
    Reader,
    Registry,
    ShadowRegistry,
    Shadows,
    States,
)
from jobs.upkeep.retention import Stock
from models.fitting.cores import count_threads
from pipeline.settings import Settings


class Models(Registry, ShadowRegistry, Protocol):
    """Models, which of them is champion, and which its shadow."""


class Grids(Protocol):
    """Where the steps of the grid begin."""

    def phase(self) -> int | None:
        """Return the seconds from the frequency's steps to those of the grid; None while it is not known."""
        ...


class Database(Protocol):
    """The part of the database that jobs work on."""

    @property
    def pipelines(self) -> Grids:
        """What the database belongs to."""
        ...

    @property
    def reader(self) -> Reader:
        """Observations, for training."""
        ...

    @property
    def registry(self) -> Models:
        """Models, and which of them is champion."""
        ...

    @property
    def evaluations(self) -> Evaluations:
        """Accuracy of matured forecasts."""
        ...

    @property
    def live_errors(self) -> LiveErrors:
        """The champion's errors, step by step."""
        ...

    @property
    def states(self) -> States:
        """What a job remembers between its runs."""
        ...

    @property
    def calibrations(self) -> Calibrations:
        """Calibrations, and the matured forecasts they are found from."""
        ...

    @property
    def retention(self) -> Stock:
        """What may be deleted."""
        ...

    @property
    def shadows(self) -> Shadows:
        """Live forecasts of shadow and champion."""
        ...


def find_work(job: str, settings: Settings, database: Database, clock: Callable[[], int]) -> Work:
    """Bind a job of the CATALOG to what it works on."""
    return partial(_run, job, settings, database, clock)


def _run(job: str, settings: Settings, database: Database, clock: Callable[[], int], on_stage: OnStage) -> Outcome:
    """Run a job on the grid that the database's rows are on."""
    return CATALOG[job](settings.with_phase(database.pipelines.phase()), database, clock, on_stage)


def timetable(settings: Settings) -> dict[str, str | None]:
    """List the jobs of the CATALOG, each with its setting of the same name: when it runs, None for never by itself."""
    return {job: getattr(settings.jobs, job) for job in CATALOG}


def training_threads(settings: Settings) -> int:
    """Count the CPU threads of a fit: the setting, or for 0 this process's part of the cores that are free now."""
    return count_threads(settings.training.threads)


def code_version() -> str:
    """Name the code that trains a model: the installed version of tidecast."""
    try:
        return version("tidecast")
    except PackageNotFoundError:
        return "not installed"


def _retrain(settings: Settings, database: Database, clock: Callable[[], int], on_stage: OnStage) -> Outcome:
    from jobs.retraining.retrain import retrain

    return retrain(database.reader, database.registry, settings, clock=clock, code=code_version(), on_stage=on_stage)


def _monitor(settings: Settings, database: Database, clock: Callable[[], int], on_stage: OnStage) -> Outcome:
    from jobs.upkeep.monitor import Sources, monitor

    sources = Sources(database.evaluations, database.live_errors, database.registry, database.states)
    return monitor(sources, settings, clock=clock, on_stage=on_stage)


def _calibrate(settings: Settings, database: Database, clock: Callable[[], int], on_stage: OnStage) -> Outcome:
    from jobs.upkeep.calibrate import run_calibration

    return run_calibration(database.calibrations, database.registry, settings, now=clock(), on_stage=on_stage)


def _retention(settings: Settings, database: Database, clock: Callable[[], int], on_stage: OnStage) -> Outcome:
    from jobs.upkeep.retention import clear_out

    return clear_out(database.retention, settings, clock=clock, on_stage=on_stage)


def _promote(settings: Settings, database: Database, clock: Callable[[], int], on_stage: OnStage) -> Outcome:
    from jobs.retraining.promote import end_shadow_period

    return end_shadow_period(database.shadows, database.registry, settings, clock=clock, on_stage=on_stage)


CATALOG: Mapping[str, Callable[[Settings, Database, Callable[[], int], OnStage], Outcome]] = {
    "retrain": _retrain,
    "monitor": _monitor,
    "calibrate": _calibrate,
    "retention": _retention,
    "promote": _promote,
}
"""A job more is a line here, in pipeline.commands.jobs.NAMES and in JobSettings (its timetable)."""
TRAINING = frozenset({"retrain"})
"""Those that compute with torch."""
