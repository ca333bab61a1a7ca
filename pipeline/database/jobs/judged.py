"""Matured steps of a series' forecasts summed up per cell: what the view forecast_vs_actual says of them, in NumPy.

The view is the definition; the job monitor works hour after hour through what a database would take a minute for.
"""

from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from typing import Any, NamedTuple

import numpy as np

from models.config import QUANTILE_LEVELS, QUANTILE_NAMES
from pipeline.grid.times import EPOCH
from pipeline.job_facts import HORIZON_BUCKETS
from pipeline.quantiles import SAME
from pipeline.records import Floats, Ints

DAY = 86_400_000_000  # microseconds
_BUCKETS = np.array(list(HORIZON_BUCKETS), np.int64)
_LEVELS = np.array(QUANTILE_LEVELS)
_MEDIAN = QUANTILE_NAMES.index("q50")
_INSIDE = {"inside_80": ("q10", "q90"), "inside_95": ("q025", "q975")}


class Observed(NamedTuple):
    """A series' observed values, oldest first."""

    times: Ints  # (N,) microseconds UTC
    values: Floats  # (N,)


class JudgedSteps(NamedTuple):
    """Matured steps of one series' forecasts."""

    model_version: Ints  # (M,)
    step: Ints  # (M,) from 1
    target_time: Ints  # (M,) microseconds UTC
    quantiles: Floats  # (M, Q)
    actual: Floats  # (M,)


def find_at(observed: Observed, times: Ints) -> Floats:
    """Return the value observed at each time (M,), NaN where there is none."""
    if not len(observed.times):
        return np.full(len(times), np.nan)
    place = np.minimum(np.searchsorted(observed.times, times), len(observed.times) - 1)
    return np.where(observed.times[place] == times, observed.values[place], np.nan)


def find_naive(observed: Observed, steps: JudgedSteps, season: int, step_seconds: float) -> Floats:
    """Return the seasonal naive's answer to each step (M,), NaN where it has none; matured_forecasts says which."""
    if not len(observed.times):
        return np.full(len(steps.step), np.nan)
    back = (steps.step + season - 1) // season * season  # steps
    first, last = (steps.target_time - np.rint((back + half) * step_seconds * 1e6) for half in (0.5, -0.5))
    place = np.searchsorted(observed.times, first, side="right")
    found = np.minimum(place, len(observed.times) - 1)
    return np.where((place < len(observed.times)) & (observed.times[found] < last), observed.values[found], np.nan)


def sum_steps(steps: JudgedSteps, naive: Floats) -> Iterator[Mapping[str, Any]]:
    """Sum steps up per model, UTC day of the target and bucket of the horizon, as columns of `evaluations`."""
    if not len(steps.step):
        return
    bucket = _BUCKETS[np.searchsorted(_BUCKETS, steps.step, side="right") - 1]  # (M,)
    day = steps.target_time // DAY
    keys = np.stack([steps.model_version, day, bucket])  # (3, M)
    cells, of_cell = np.unique(keys, axis=1, return_inverse=True)
    actual, size = steps.actual, np.abs(steps.actual)
    error = steps.quantiles[:, _MEDIAN] - actual
    distance = actual[:, None] - steps.quantiles  # (M, Q)
    known = ~np.isnan(naive)
    sums: dict[str, Floats] = {
        "error": error,
        "absolute_error": np.abs(error),
        "squared_error": error * error,
        "pinball": (distance * (_LEVELS - (distance < 0.0))).mean(axis=1),
        "absolute_actual": size,
        "naive_absolute_error": np.where(known, np.abs(naive - actual), 0.0),
        "absolute_error_beside_naive": np.where(known, np.abs(error), 0.0),
    }
    counts = {"n": np.ones(len(actual)), "naive_n": known}
    for name, (low, high) in _INSIDE.items():
        above = distance[:, QUANTILE_NAMES.index(low)] >= -SAME * size
        counts[name] = above & (distance[:, QUANTILE_NAMES.index(high)] <= SAME * size)
    inverse = of_cell.reshape(-1)
    totals: dict[str, list[Any]] = {
        name: np.bincount(inverse, weights=column, minlength=cells.shape[1]).tolist() for name, column in sums.items()
    }
    totals |= {
        name: np.bincount(inverse, weights=column, minlength=cells.shape[1]).astype(np.int64).tolist()
        for name, column in counts.items()
    }
    for place, (version, number, first) in enumerate(cells.T.tolist()):
        yield {
            "model_version": version,
            "day": day_of(number),
            "horizon_from": first,
            **{name: column[place] for name, column in totals.items()},
        }


def day_of(number: int) -> date:
    """Return the UTC date of a number of days since 1970."""
    return (EPOCH + timedelta(days=number)).date()
