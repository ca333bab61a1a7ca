"""The scale of MASE on a day: how far a series moves in a season, as it was known before the day began. Pure."""

import math

import numpy as np

from models.metrics import find_changes
from pipeline.database.jobs.judged import Observed
from pipeline.records import Floats, Ints, Mask

SEASONS = 28
"""Seasons before the day that a scale looks at: four weeks of hours, 28 weeks of days, 28 years of months."""


def season_length(season: int, step_seconds: float) -> tuple[int, int]:
    """Return the length of a season and half a step, the tolerance for months of different length; microseconds."""
    return round(season * step_seconds * 1e6), round(step_seconds * 0.5e6)


def find_scales(observed: Observed, season: int, step_seconds: float, days: Ints) -> Floats:
    """Return a series' scale on each of these days (D,), given by their first microsecond.

    The scale is the mean absolute difference between values one season apart, over the pairs that were both observed
    and whose later one is at most SEASONS seasons before the day, in the series' units; NaN without such a pair. It
    follows from the observations alone, not from when it is computed, and no actual of the day is in it.
    """
    length, tolerance = season_length(season, step_seconds)
    times, values = observed
    before = np.searchsorted(times, times - length - tolerance, side="right")  # the first one a season ago
    paired: Mask = times[before] < times - length + tolerance if len(times) else np.empty(0, np.bool_)
    at, change = times[paired], find_changes(values[paired], values[before][paired])
    first = np.searchsorted(at, days - SEASONS * length)
    stop = np.searchsorted(at, days)
    return np.array([change[a:b].mean() if b > a else math.nan for a, b in zip(first, stop, strict=True)], np.float64)
