"""Scores of matured forecasts. A metric is a statistic per step and an aggregation over steps and rows.

Promotion, demonstration and dashboards call the same functions. A score without evidence is NaN, never 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.config import QUANTILE_LEVELS

Array = NDArray[np.float64]
ROUNDING = 2.0**-51
"""A deviation of at most this share of the value is what float64 rounds (four units in the last place from end to end):
such a window is constant, its spread is 0. It is here because whoever reads scores from SQL does without torch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Matured:
    """N forecasts (rows: one series at one origin) and what happened, in the target's units.

    target (N, H), NaN where not observed; quantiles (N, H, Q) of `levels`, ascending, with 0.5 among them;
    scale (N,): each series' `seasonal_scale` before the origin, NaN or 0 where it has none (MASE and SQL
    leave such rows out).
    """

    target: Array
    quantiles: Array
    scale: Array
    levels: tuple[float, ...] = QUANTILE_LEVELS

    @property
    def observed(self) -> NDArray[np.bool_]:
        """Steps that can be scored, (N, H): observed, and forecast with finite quantiles."""
        return np.isfinite(self.target) & np.isfinite(self.quantiles).all(axis=-1)

    def quantile(self, level: float) -> Array:
        """The forecast at one level, (N, H)."""
        return self.quantiles[..., self.levels.index(level)]


# Statistics: (N, H), NaN where not observed.


def error(matured: Matured) -> Array:
    """Forecast minus target."""
    return matured.quantile(0.5) - matured.target


def absolute_error(matured: Matured) -> Array:
    """|forecast - target|."""
    return np.abs(error(matured))


def squared_error(matured: Matured) -> Array:
    """(forecast - target)^2."""
    return np.square(error(matured))


def symmetric_percentage(matured: Matured) -> Array:
    """200 |forecast - target| / (|forecast| + |target|), 0 when both are 0; 0 to 200."""
    size = np.abs(matured.quantile(0.5)) + np.abs(matured.target)
    score: Array = np.divide(200.0 * absolute_error(matured), size, out=np.zeros_like(size), where=size != 0.0)
    return score


def pinball(matured: Matured) -> Array:
    """Pinball loss, mean over the levels."""
    levels = np.asarray(matured.levels)  # (Q,)
    gap = matured.target[..., None] - matured.quantiles  # (N, H, Q)
    loss: Array = np.maximum(levels * gap, (levels - 1.0) * gap).mean(axis=-1)
    return loss


@dataclass(frozen=True, slots=True)
class Interval:
    """Statistics of the central prediction interval that should hold `probability` of the targets."""

    probability: float

    def _bounds(self, matured: Matured) -> tuple[Array, Array]:
        tail = (1.0 - self.probability) / 2.0
        low, high = (int(np.argmin(np.abs(np.asarray(matured.levels) - level))) for level in (tail, 1.0 - tail))
        return matured.quantiles[..., low], matured.quantiles[..., high]

    def covered(self, matured: Matured) -> Array:
        """1 where the target lies inside, bounds included, else 0."""
        low, high = self._bounds(matured)
        return ((low <= matured.target) & (matured.target <= high)).astype(np.float64)

    def width(self, matured: Matured) -> Array:
        """Upper minus lower bound."""
        low, high = self._bounds(matured)
        return high - low

    def score(self, matured: Matured) -> Array:
        """Interval (Winkler) score: width + 2 / (1 - probability) times the distance of a target outside."""
        low, high = self._bounds(matured)
        outside = np.maximum(low - matured.target, 0.0) + np.maximum(matured.target - high, 0.0)
        return high - low + 2.0 / (1.0 - self.probability) * outside


# Aggregations: a statistic (N, H) and its forecasts to one number.


def average(statistic: Array, matured: Matured) -> float:
    """Mean over observed steps."""
    return _mean(statistic[matured.observed])


def root_average(statistic: Array, matured: Matured) -> float:
    """Square root of the mean over observed steps."""
    return float(np.sqrt(average(statistic, matured)))


def scaled_average(statistic: Array, matured: Matured) -> float:
    """Mean over rows of (mean over the row's observed steps / the row's scale), as M4 does."""
    observed = matured.observed
    count = observed.sum(axis=1)  # (N,)
    usable = (count > 0) & (np.nan_to_num(matured.scale) > 0.0)
    total = np.where(observed, statistic, 0.0).sum(axis=1)[usable]
    return _mean(total / count[usable] / matured.scale[usable])


def twice_per_size(statistic: Array, matured: Matured) -> float:
    """Twice the sum over observed steps / the sum of |target|."""
    size = np.abs(matured.target[matured.observed]).sum()
    return float(2.0 * statistic[matured.observed].sum() / size) if size > 0.0 else float("nan")


def twice_scaled_average(statistic: Array, matured: Matured) -> float:
    """Twice `scaled_average`, so that the loss of the median alone is MASE."""
    return 2.0 * scaled_average(statistic, matured)


@dataclass(frozen=True, slots=True)
class Metric:
    """One number from matured forecasts: the aggregation of a statistic."""

    statistic: Callable[[Matured], Array]
    aggregate: Callable[[Array, Matured], float]

    def __call__(self, matured: Matured) -> float:
        """The number; NaN when nothing was observed."""
        return self.aggregate(self.statistic(matured), matured)


METRICS: dict[str, Metric] = {
    "mae": Metric(absolute_error, average),
    "rmse": Metric(squared_error, root_average),
    "bias": Metric(error, average),
    "mase": Metric(absolute_error, scaled_average),
    "smape": Metric(symmetric_percentage, average),
    "pinball": Metric(pinball, average),
    "wql": Metric(pinball, twice_per_size),
    "sql": Metric(pinball, twice_scaled_average),
    "coverage_80": Metric(Interval(0.8).covered, average),
    "coverage_95": Metric(Interval(0.95).covered, average),
    "width_80": Metric(Interval(0.8).width, average),
    "interval_score_80": Metric(Interval(0.8).score, average),
}
"""Every number that is reported, by its name in SQL and on dashboards. Coverages are shares, 0 to 1."""


def measure(matured: Matured) -> dict[str, float]:
    """All of METRICS."""
    return {name: metric(matured) for name, metric in METRICS.items()}


def skill(loss: float, reference: float) -> float:
    """1 - loss / reference: 0 is as good as the reference (seasonal naive), 1 perfect; NaN without a reference."""
    return 1.0 - loss / reference if reference > 0.0 else float("nan")


def find_changes(values: Array, before: Array) -> Array:
    """Absolute differences of values and those before them, 0 where they are equal to within rounding."""
    change = np.abs(values - before)
    return np.where(change <= 2.0 * ROUNDING * np.abs(values), 0.0, change)


def seasonal_scale(history: Array, season: int) -> Array:
    """Mean absolute difference of values one season apart, the unit of MASE: history (N, T), NaN for missing,
    to (N,).

    NaN for a row without an observed pair. A difference that float64's rounding makes is none.
    """
    change = find_changes(history[:, season:], history[:, :-season])  # (N, T - season)
    known = np.isfinite(change)
    count = known.sum(axis=1)
    total = np.where(known, change, 0.0).sum(axis=1)
    scale: Array = np.divide(total, count, out=np.full(len(history), np.nan), where=count > 0)
    return scale


def _mean(values: Array) -> float:
    return float(values.mean()) if values.size else float("nan")
