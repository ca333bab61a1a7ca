"""Calibrate: matured forecasts of the model in use -> what it said itself -> factors -> keep or store."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Protocol

import numpy as np

from jobs.clock.outcome import OnStage, Outcome, Stage
from jobs.upkeep.conformal import AgedSteps, Calibrated, FactorScores, Method, calibrate
from models.config import QUANTILE_LEVELS
from pipeline.errors import Corrupt
from pipeline.forecasting.calibration import NO_CALIBRATION, Calibration, MaturedSteps, read_factors, undo
from pipeline.grid.frequency import Frequency
from pipeline.records import Floats, Ints, Mask
from pipeline.settings import Settings

NAIVE = 0
"""The version of the seasonal naive, which serves when there is no champion."""
MOST_STEPS = 500_000
"""Forecast steps read at most; with 322,560 of them the process took 363 MB. What is more is thinned."""
FEWEST_SERIES = 64
"""Targets are left out to make room for so many series, and no longer for more."""
MINIMUM = 100
"""Matured forecasts that a step of the horizon needs. With fewer, those of its neighbours count, too."""
DIGITS = 4
NEARER = 0.002
"""How much nearer to the levels, as a share, new factors must be: an hourly job need not store noise."""
WORSE = 1.01
"""A loss this many times that of the factors in use is no price for coverage."""


class Champion(Protocol):
    """Which model is champion."""

    def champion(self) -> int | None:
        """Return the champion's version, or None."""
        ...


class Calibrations(Protocol):
    """Calibrations of models, and the matured forecasts they are found from."""

    def newest(self, model_version: int, after: int = 0) -> Calibration | None:
        """Return a model's newest calibration if its version is higher than `after`."""
        ...

    def versions(self, model_version: int, versions: Sequence[int]) -> list[Calibration]:
        """Return those of a model's calibrations that have these versions, newest first."""
        ...

    def series(self) -> Ints:
        """Return the ids of all series, ascending."""
        ...

    def newest_observation(self, series_ids: Ints) -> int | None:
        """Return the time of the newest observed value of some series."""
        ...

    def matured(self, model_version: int, series_ids: Ints, target_times: Ints) -> MaturedSteps:
        """Return every forecast step of a model for these series and targets whose target has a value."""
        ...

    def record(
        self,
        model_version: int,
        *,
        between: tuple[int, int],
        n: int,
        factors: Sequence[Sequence[float]],
        metrics: Mapping[str, Any],
        now: int,
    ) -> int:
        """Store a calibration found from `n` steps with targets `between` two times; return its version, 1 or more."""
        ...


def run_calibration(
    calibrations: Calibrations, registry: Champion, settings: Settings, *, now: int, on_stage: OnStage
) -> Outcome:
    """Calibrate the model in use, if that brings its quantiles closer to their levels.

    1 read what has matured, 2 undo the calibrations it carries, 3 find factors and try them, 4 keep or store. Nothing
    is stored twice: the same forecasts give the same factors, and those are in use.
    """
    model, horizon = registry.champion() or NAIVE, settings.series.horizon
    on_stage(Stage("reading matured forecasts"))
    newest = calibrations.newest(model)
    frequency = Frequency.of(settings.series)
    matured, last = _read(calibrations, model, settings, frequency)
    matured = _take(matured, matured.step <= horizon)
    used, words, in_use = _in_use(newest, horizon)
    matured = _undo(matured, calibrations, model, horizon)
    facts: dict[str, Any] = {"model_version": model, "n": len(matured), "calibration": used}
    method = _method(settings)
    if len(matured) < method.minimum:
        needed = f"{len(matured)} forecast steps have matured, {method.minimum} are needed"
        return Outcome("ok", f"{words} kept for model {model}: {needed}", facts)

    on_stage(Stage("calibrating", words=f"{len(matured):,} matured forecast steps of model {model}"))
    age = last - frequency.step_of(matured.target_time)
    found = calibrate(
        AgedSteps(matured.series_id, matured.step, age, matured.actual, matured.quantiles), in_use, method
    )
    facts |= {"trials": {name: _plain(scores) for name, scores in _scores(found).items()}}
    factors = found.factors.round(DIGITS)
    improves, reason = judge(found, words, method.minimum)
    if np.array_equal(factors, in_use):
        improves, reason = False, "nothing has matured that would change it"
    if not improves:
        return Outcome("ok", f"{words} kept for model {model}: {reason}", facts)
    version = calibrations.record(
        model,
        between=(int(matured.target_time.min()), int(matured.target_time.max())),
        n=len(matured),
        factors=factors.tolist(),
        metrics=facts["trials"] | {"quantile_levels": list(QUANTILE_LEVELS), "replaces": used},
        now=now,
    )
    return Outcome("ok", f"calibration {version} for model {model}: {reason}", facts | {"calibration": version})


def judge(found: Calibrated, in_use: str, minimum: int) -> tuple[bool, str]:
    """Tell whether the method beat the factors in use on the newer half of what matured, and why, in words."""
    new, old = found.method, found.in_use
    if new.n < minimum:
        return False, "too little has matured in or before the newer half of the window to try new factors on it"
    compared = (
        f"on {new.n:,} matured steps its 80 % and 95 % intervals held {_percent(new.coverage_80)} and "
        f"{_percent(new.coverage_95)}, those of {in_use} {_percent(old.coverage_80)} and {_percent(old.coverage_95)}"
    )
    if new.off > old.off - NEARER:
        return False, f"new factors would be no nearer to the levels ({_points(new.off)} off, now {_points(old.off)})"
    if new.loss > WORSE * old.loss:
        return False, f"new factors would raise the pinball loss by {_percent(new.loss / old.loss - 1.0)}"
    return True, compared


def choose_targets(last: int, window: int, horizon: int, series: int) -> tuple[int, Ints]:
    """Choose how many series to read and which targets (grid steps, ascending), within MOST_STEPS rows.

    Targets are left out until there is room for FEWEST_SERIES; then series are. What is left out is spread evenly but
    in no rhythm (multiples of the golden section): every third hour would leave out two thirds of the hours of the day.
    """
    room = max(1, MOST_STEPS // (horizon * min(series, FEWEST_SERIES)))
    place = (np.arange(window) * (math.sqrt(5.0) - 1.0) / 2.0) % 1.0
    targets = last - np.sort(np.argsort(place)[: min(room, window)])[::-1]
    return max(1, min(series, MOST_STEPS // (horizon * len(targets)))), targets


def _read(calibrations: Calibrations, model: int, settings: Settings, frequency: Frequency) -> tuple[MaturedSteps, int]:
    """What has matured in the window, and the grid step of the newest target."""
    every = calibrations.series()
    if not len(every):
        return calibrations.matured(model, every, np.empty(0, np.int64)), 0
    window, horizon = settings.jobs.calibration_window, settings.series.horizon
    count, _ = choose_targets(0, window, horizon, len(every))
    chosen = every[np.unique(np.linspace(0, len(every) - 1, count).round().astype(np.int64))]
    newest = calibrations.newest_observation(chosen)
    if newest is None:
        return calibrations.matured(model, chosen, np.empty(0, np.int64)), 0
    last = int(frequency.step_of(np.array([newest]))[0])
    _, targets = choose_targets(last, window, horizon, len(every))
    return calibrations.matured(model, chosen, frequency.time_of(targets)), last


def _in_use(newest: Any, horizon: int) -> tuple[int, str, Floats]:
    """Version, words and factors (H, Q) of the newest calibration; none for one that the scorer refuses too."""
    if newest is not None:
        try:
            return newest.version, f"calibration {newest.version}", read_factors(newest.factors, horizon)
        except Corrupt:
            pass
    return NO_CALIBRATION, "no calibration", np.ones((horizon, len(QUANTILE_LEVELS)))


def _undo(matured: MaturedSteps, calibrations: Calibrations, model: int, horizon: int) -> MaturedSteps:
    """Take the calibrations out of the quantiles; a step whose calibration is not known any more is left out."""
    carried = [int(version) for version in np.unique(matured.calibration) if version != NO_CALIBRATION]
    quantiles, known = matured.quantiles.copy(), matured.calibration == NO_CALIBRATION
    for calibration in calibrations.versions(model, carried):
        own = matured.calibration == calibration.version
        try:
            factors = read_factors(calibration.factors, horizon)
        except Corrupt:
            continue
        quantiles[own] = undo(quantiles[own], factors[matured.step[own] - 1])
        known |= own
    return _take(replace(matured, quantiles=quantiles), known)


def _take(matured: MaturedSteps, chosen: Mask) -> MaturedSteps:
    return MaturedSteps(
        series_id=matured.series_id[chosen],
        step=matured.step[chosen],
        target_time=matured.target_time[chosen],
        calibration=matured.calibration[chosen],
        quantiles=matured.quantiles[chosen],
        actual=matured.actual[chosen],
    )


def _method(settings: Settings) -> Method:
    window = settings.jobs.calibration_window
    return Method(window=window, minimum=MINIMUM, half_life=window)


def _scores(found: Calibrated) -> dict[str, FactorScores]:
    return {"method": found.method, "in_use": found.in_use, "uncorrected": found.uncorrected}


def _plain(scores: FactorScores) -> dict[str, Any]:
    return {name: None if math.isnan(value) else value for name, value in asdict(scores).items()}


def _percent(share: float) -> str:
    return f"{100.0 * share:.1f} %"


def _points(share: float) -> str:
    return f"{100.0 * share:.1f} points"


class Stored(Protocol):
    """The parts of the database that the job works on."""

    @property
    def calibrations(self) -> Calibrations:
        """Calibrations, and the matured forecasts they are found from."""
        ...

    @property
    def registry(self) -> Champion:
        """Which model is champion."""
        ...


def run(database: Stored, settings: Settings, *, clock: Callable[[], int], on_stage: OnStage) -> Outcome:
    """Run the job on a database."""
    return run_calibration(database.calibrations, database.registry, settings, now=clock(), on_stage=on_stage)
