"""A calibration: how much farther from the median each quantile belongs, per step of the horizon.

    corrected = median + factor x (quantile - median)        factor (H, Q), the median's own is 1

The job `calibrate` finds the factors, the scorer applies them, and every forecast names the version it carries, so
what the model itself said can be worked out again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.config import QUANTILE_LEVELS
from pipeline.errors import Corrupt
from pipeline.records import Floats, Ints

NO_CALIBRATION = 0
"""The version that a forecast carries whose quantiles are the model's own."""
LOWEST, HIGHEST = 0.1, 10.0
"""A factor beyond these is a mistake, whatever found it."""
MEDIAN = QUANTILE_LEVELS.index(0.5)


@dataclass(frozen=True, slots=True)
class Calibration:
    """A stored calibration of a model; key version. created_at, first, last: microseconds UTC.

    `factors` and `metrics` are plain values as stored, `first` and `last` the targets between which its evidence of
    `n` matured forecast steps lies.
    """

    version: int
    model_version: int
    created_at: int
    first: int
    last: int
    n: int
    factors: Any
    metrics: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class MaturedSteps:
    """Forecast steps of one model whose target was observed, as they are stored."""

    series_id: Ints  # (N,)
    step: Ints  # (N,) 1..H
    target_time: Ints  # (N,) microseconds
    calibration: Ints  # (N,) version, 0 for none
    quantiles: Floats  # (N, Q) in the series' units
    actual: Floats  # (N,) likewise

    def __len__(self) -> int:
        """Count the steps."""
        return len(self.step)


def read_factors(stored: Any, horizon: int) -> Floats:
    """Read factors (H, Q) as they are stored; Corrupt when they are not those of this horizon, or cannot be right."""
    try:
        factors = np.array(stored, np.float64)
    except (TypeError, ValueError) as error:
        raise Corrupt(f"its factors are not a table of numbers: {error}") from error
    if factors.shape != (horizon, len(QUANTILE_LEVELS)):
        raise Corrupt(f"its factors have shape {factors.shape}, the model needs {(horizon, len(QUANTILE_LEVELS))}")
    if not (np.isfinite(factors).all() and factors.min() >= LOWEST and factors.max() <= HIGHEST):
        raise Corrupt(f"its factors are not all from {LOWEST:g} to {HIGHEST:g}")
    if not (factors[:, MEDIAN] == 1.0).all():
        raise Corrupt("its factors would move the median")
    return factors


def correct(quantiles: Floats, factors: Floats) -> Floats:
    """Apply factors (H, Q) to quantiles (N, H, Q), or row by row: ascending, with the same median.

    Where a factor would put a quantile inside the one before it, it is put onto it.
    """
    median = quantiles[..., MEDIAN, None]
    corrected: Floats = median + factors * (quantiles - median)
    corrected[..., MEDIAN] = quantiles[..., MEDIAN]
    for place in range(MEDIAN + 1, quantiles.shape[-1]):  # half the time of accumulate over so short an axis
        np.maximum(corrected[..., place], corrected[..., place - 1], out=corrected[..., place])
    for place in reversed(range(MEDIAN)):
        np.minimum(corrected[..., place], corrected[..., place + 1], out=corrected[..., place])
    return corrected


def undo(quantiles: Floats, factors: Floats) -> Floats:
    """Work out what the factors were applied to; `correct` makes of it what was given here, but for rounding."""
    median = quantiles[..., MEDIAN, None]
    return np.asarray(median + (quantiles - median) / factors)
