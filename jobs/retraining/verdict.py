"""The verdict: whether a challenger becomes champion, and why, in words with the numbers. Pure."""

import math
from dataclasses import dataclass

from jobs.retraining.significance import Evidence


@dataclass(frozen=True, slots=True)
class Score:
    """What a forecaster got on a backtest; NaN where there was no evidence.

    wql, mase, sql and coverage_80 are those of models.metrics; `steps` is the count of scored targets, `windows` of
    (series, origin) pairs, `origins` of distinct origins.
    """

    wql: float
    mase: float
    sql: float
    coverage_80: float
    steps: int
    windows: int
    origins: int


@dataclass(frozen=True, slots=True)
class Rival:
    """The champion of the moment; without a score, `unfit` says why it could not be compared.

    evidence: how sure it is that the challenger is the better of the two.
    """

    version: int
    score: Score | None
    unfit: str = ""
    evidence: Evidence | None = None


@dataclass(frozen=True, slots=True)
class Gate:
    """What a challenger must reach: `gain` and `coverage` are shares, `gain` of the champion's loss (WQL).

    confidence: share of resamples of the backtest in which it must be better than the champion; 0: no such share.
    """

    origins: int = 4
    gain: float = 0.0
    coverage: tuple[float, float] = (0.6, 0.95)
    confidence: float = 0.9


@dataclass(frozen=True, slots=True)
class Verdict:
    """Promote or keep, and the reason."""

    promote: bool
    reason: str


def verdict(
    challenger: Score, champion: Rival | None, naive: Score, gate: Gate, *, wheel: Score | None = None
) -> Verdict:
    """Judge a challenger by its loss (WQL) on the windows that all of them forecast.

    It must have been scored on enough origins, forecast every window, be no worse than seasonal naive and than the
    pretrained network of the wheel as it came, have its 80 % interval within limits, and beat the champion by more than
    the gate's gain, in enough resamples of the backtest.
    Where there is too little to resample, the gain alone decides.
    """
    if naive.origins < gate.origins:
        return Verdict(False, f"scored on {naive.origins} origins, {gate.origins} are needed: wait for more history")
    if challenger.steps < naive.steps:
        missing = naive.steps - challenger.steps
        return Verdict(False, f"no finite forecast for {missing} of {naive.steps} targets")
    if not math.isfinite(challenger.wql):
        return Verdict(False, "no evidence: every target of the backtest is 0")
    over_naive = find_gain(challenger.wql, naive.wql)
    floor = f"{_compare(over_naive, 'seasonal naive')} on {naive.origins} origins"
    if over_naive < 0.0:
        return Verdict(False, floor)
    if wheel and wheel.steps == naive.steps and challenger.wql > wheel.wql:
        over_wheel = find_gain(challenger.wql, wheel.wql)
        return Verdict(False, f"{_compare(over_wheel, 'the pretrained network')} on {naive.origins} origins")
    low, high = gate.coverage
    if not low <= challenger.coverage_80 <= high:
        held = f"its 80 % interval held {_percent(challenger.coverage_80)} of the targets"
        return Verdict(False, f"{held}, outside {_percent(low)} to {_percent(high)}")
    if champion is None:
        return Verdict(True, f"first champion: {floor}")
    name = f"version {champion.version}"
    if champion.score is None:
        return Verdict(True, f"{name} cannot be compared ({champion.unfit}): {floor}")
    if champion.score.steps < naive.steps:
        return Verdict(True, f"{name} gave forecasts that are not finite: {floor}")
    gain = find_gain(challenger.wql, champion.score.wql)
    compared = f"{_compare(gain, name)} on {naive.origins} origins"
    if not gain > gate.gain:
        return Verdict(False, f"{compared}, more than {_percent(gate.gain)} is needed")
    evidence = champion.evidence
    if not gate.confidence or evidence is None:
        return Verdict(True, compared)
    if evidence.share is None:
        counts = f"{_count(evidence.series, 'series')} and {_count(evidence.origins, 'origins')}"
        return Verdict(True, f"{compared}; {counts} are no evidence for a bootstrap, so the gain alone decides")
    compared += f", {_resampled(evidence)}"
    if evidence.share >= gate.confidence:
        return Verdict(True, compared)
    return Verdict(False, f"{compared}, {100.0 * gate.confidence:g} % is needed")


def find_gain(loss: float, reference: float) -> float:
    """Tell how much smaller a loss is than a reference, as a share of the reference; -inf against a perfect one."""
    if reference > 0.0:
        return 1.0 - loss / reference
    return 0.0 if loss <= reference else -math.inf


def _compare(gain: float, name: str) -> str:
    if gain > 0.0:
        return f"gain {_percent(gain)} over {name}"
    if gain == 0.0:
        return f"no gain over {name}"
    return f"worse than {name}, which is exact," if math.isinf(gain) else f"{_percent(-gain)} worse than {name}"


def _resampled(evidence: Evidence) -> str:
    assert evidence.share is not None, "there were enough to resample"
    words = f"better in {round(100.0 * evidence.share, 2):g} % of resamples of "
    if evidence.over == "series":
        return f"{words}{evidence.series} series"
    return f"{words}{evidence.origins} origins ({_count(evidence.series, 'series')} would be too few)"


def _count(number: int, what: str) -> str:
    return f"{number} {what.removesuffix('s') if number == 1 and what != 'series' else what}"


def _percent(share: float) -> str:
    return f"{100.0 * share:.1f} %"
