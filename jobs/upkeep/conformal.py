"""Rolling conformal calibration: how far from the median each quantile belongs, learnt from matured forecasts. Pure.

A step's score at a level is (actual - median) / (quantile - median), without a unit, so that all series are pooled. The
factor of a step and a level is a quantile of its scores: the share of the level of them is at most that. The newer a
score, the more it weighs. How large that share is moves with recent misses (adaptive conformal inference, Gibbs and
Candes 2021), block by block, so that coverage comes back after a shift that the weights alone forget too slowly:

    oldest block | ... | block b: misses of the factors found before it -> working level of a later block | ... | now

What is found for block b uses nothing that was unknown when its forecasts were made, h steps earlier. So the replay is
also an honest trial of the method, and its coverage is compared with that of the factors in use.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from models.config import QUANTILE_LEVELS
from pipeline.forecasting.calibration import MEDIAN
from pipeline.records import Floats, Ints, Mask

LEVELS = np.array(QUANTILE_LEVELS)
OUTER = np.flatnonzero(np.arange(len(LEVELS)) != MEDIAN)
"""Every level but the median: Q - 1 of them, called K below."""
SIDE = np.where(OUTER < MEDIAN, -1.0, 1.0)  # (K,)
MISS = np.where(OUTER < MEDIAN, LEVELS[OUTER], 1.0 - LEVELS[OUTER])  # (K,) share of actuals beyond the quantile
FARTHEST = 8.0
"""Where a score stops adding to the loss: one quantile that is nearly the median would outweigh all others."""
TAILS = {80: (2, 9), 95: (0, 11)}
"""The places in K of the two quantiles around each central interval, by its share in percent."""


@dataclass(frozen=True, slots=True)
class Method:
    """How to calibrate: `window` and `half_life` in steps, `gain` of the working level per block of misses.

    `minimum` is how many scores a step needs; with fewer, those of the nearest steps are taken too. `doubt`: with so
    many series half of the gain is believed, since the misses of one series lean the same way for days. On one sensor
    a gain of 0.1 made the pinball loss some 10 % worse and coverage no better; on 32 series the 80 % interval held 78 %
    on the third and fourth day after errors had doubled, with weights alone 62 %. `limits` are those of a factor.
    """

    window: int
    minimum: int
    half_life: float
    gain: float = 0.1
    doubt: int = 16
    blocks: int = 28
    limits: tuple[float, float] = (0.25, 4.0)

    def gain_of(self, series: int) -> float:
        """Gain of the working level where so many series were pooled."""
        return self.gain * series / (series + self.doubt)


@dataclass(frozen=True, slots=True)
class AgedSteps:
    """Matured forecast steps, as the model itself forecast them; `age` is in steps before the newest target."""

    series: Ints  # (N,) whose forecast it is
    step: Ints  # (N,) 1..H
    age: Ints  # (N,) 0 for the newest target
    actual: Floats  # (N,) in the series' units
    quantiles: Floats  # (N, Q) likewise


@dataclass(frozen=True, slots=True)
class FactorScores:
    """How factors did on the newer half of the matured steps: shares, and `off`, the mean distance of a level's share
    from it.

    `loss` is the mean pinball loss of the scores, without a unit; NaN where nothing was scored, as all the others.
    """

    coverage_80: float
    coverage_95: float
    off: float
    loss: float
    n: int


@dataclass(frozen=True, slots=True)
class Calibrated:
    """Factors (H, Q) for the forecasts to come, and the scores of the method, of those in use and of none."""

    factors: Floats
    method: FactorScores
    in_use: FactorScores
    uncorrected: FactorScores


def calibrate(matured: AgedSteps, in_use: Floats, method: Method) -> Calibrated:
    """Find the factors of every step by replaying the matured steps, and score them, `in_use` (H, Q) and none."""
    factors = np.ones_like(in_use)
    gain = method.gain_of(len(np.unique(matured.series)))
    counts = tuple(_Count() for _ in range(3))
    for step, own, rows in _steps(matured, len(in_use), method.minimum):
        scores, usable = find_scores(matured.actual[rows], matured.quantiles[rows])  # (M, K) each
        replay = _Replay(scores, usable, matured.age[rows], replace(method, gain=gain))
        for block in replay.run(step, own):
            tried = (block.factors, in_use[step - 1, OUTER], np.ones(len(OUTER)))
            for count, each in zip(counts, tried, strict=True):
                count.add(scores[block.rows], usable[block.rows], each)
        factors[step - 1, OUTER] = replay.find(0, replay.working)
    return Calibrated(factors, *(count.scores() for count in counts))


def find_scores(actual: Floats, quantiles: Floats) -> tuple[Floats, Mask]:
    """Scores (N, K) outwards from the median, and which can be used: a quantile on its median says nothing."""
    median = quantiles[:, MEDIAN, None]
    distance = SIDE * (quantiles[:, OUTER] - median)  # (N, K)
    usable = distance > 0.0
    return SIDE * (actual[:, None] - median) / np.where(usable, distance, 1.0), usable


@dataclass(frozen=True, slots=True)
class _Block:
    rows: Ints  # (B,) of the step's scores
    factors: Floats  # (K,) found before their forecasts were made


class _Replay:
    """The scores of one step in the order of time; `working` (K,) is the share that may be missed, as moved so far."""

    def __init__(self, scores: Floats, usable: Mask, age: Ints, method: Method) -> None:
        self._scores, self._usable, self._age, self._method = scores, usable, age, method
        order = np.argsort(scores, axis=0)  # (M, K)
        self._sorted = np.take_along_axis(scores, order, axis=0)
        self._weight = np.where(usable, 0.5 ** (age / method.half_life)[:, None], 0.0)
        self._weight = np.take_along_axis(self._weight, order, axis=0)
        self._sorted_age = age[order]  # (M, K)
        self.working = MISS

    def run(self, step: int, own: Mask) -> Iterator[_Block]:
        """Walk through the blocks of the scores marked as the step's `own`, oldest first; yield the newer half.

        The working level of a block knows of the blocks that had matured when its forecasts were made.
        """
        method = self._method
        size = max(1, method.window // method.blocks)
        count = -(-method.window // size)
        levels = [MISS]
        for block in range(count):
            stop = method.window - block * size  # ages stop - size .. stop - 1
            rows = np.flatnonzero(own & (self._age < stop) & (self._age >= stop - size))
            known = self._age >= stop - 1 + step
            if not len(rows) or int(known.sum()) < method.minimum:
                levels.append(levels[-1])
                continue
            factors = self.find(stop - 1 + step, levels[max(0, block - -(-(step - 1) // size))])
            if 2 * block >= count:
                yield _Block(rows, factors)
            missed = ((self._scores[rows] > factors) & self._usable[rows]).sum(axis=0)
            usable = self._usable[rows].sum(axis=0)
            moved = levels[-1] + method.gain * np.where(usable > 0, MISS - missed / np.maximum(usable, 1), 0.0)
            levels.append(np.clip(moved, MISS / 4, np.minimum(2.5 * MISS, 0.5)))
        self.working = levels[-1]

    def find(self, youngest: int, missed: Floats) -> Floats:
        """Find the factors (K,) from the scores at least `youngest` steps old, for `missed` (K,) beyond them.

        The score to come counts as one more, the highest: its weight is that of a new one.
        """
        weight = np.where(self._sorted_age >= youngest, self._weight, 0.0)
        total = weight.cumsum(axis=0)  # (M, K)
        wanted = (1.0 - missed) * (total[-1] + 0.5 ** (youngest / self._method.half_life))
        place = (total < wanted).sum(axis=0)  # (K,)
        low, high = self._method.limits
        found = np.take_along_axis(self._sorted, np.minimum(place, len(total) - 1)[None], axis=0)[0]
        found = np.where(place < len(total), found, high).clip(low, high)
        return np.where(total[-1] > 0.0, found, 1.0)


class _Count:
    """Adds up how factors did, block by block."""

    def __init__(self) -> None:
        self._missed = np.zeros(len(OUTER))
        self._usable = np.zeros(len(OUTER))
        self._loss = 0.0
        self._both = {share: np.zeros(2) for share in TAILS}

    def add(self, scores: Floats, usable: Mask, factors: Floats) -> None:
        beyond = scores - factors  # (B, K)
        missed = (beyond > 0.0) & usable
        self._missed += missed.sum(axis=0)
        self._usable += usable.sum(axis=0)
        short = np.clip(scores, -FARTHEST, FARTHEST) - factors
        loss = np.where(short > 0.0, (1.0 - MISS) * short, -MISS * short)
        self._loss += float(loss[usable].sum())
        for share, (low, high) in TAILS.items():
            judged = usable[:, low] & usable[:, high]
            held = judged & ~missed[:, low] & ~missed[:, high]
            self._both[share] += held.sum(), judged.sum()

    def scores(self) -> FactorScores:
        """Sum up; NaN where there was nothing."""
        if not self._usable.all():
            return FactorScores(np.nan, np.nan, np.nan, np.nan, 0)
        off = float(np.abs(self._missed / self._usable - MISS).mean())
        held = {share: float(inside / judged) for share, (inside, judged) in self._both.items()}
        return FactorScores(held[80], held[95], off, self._loss / float(self._usable.sum()), int(self._usable.max()))


def _steps(matured: AgedSteps, horizon: int, minimum: int) -> Iterator[tuple[int, Mask, Ints]]:
    """Each step of the horizon: which rows (M,) to learn from, and which of them (M,) are its own.

    Where a step has less than the minimum, the nearest steps are taken too, as many on both sides as it needs.
    """
    order = np.argsort(matured.step, kind="stable")
    bounds = np.searchsorted(matured.step[order], np.arange(1, horizon + 2))  # (H + 1,)
    for step in range(1, horizon + 1):
        first, last = step - 1, step
        while bounds[last] - bounds[first] < minimum and (first > 0 or last < horizon):
            first, last = max(0, first - 1), min(horizon, last + 1)
        if bounds[last] - bounds[first] >= minimum:
            rows = order[bounds[first] : bounds[last]]
            yield step, matured.step[rows] == step, rows
