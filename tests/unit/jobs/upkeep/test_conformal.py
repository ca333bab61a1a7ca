import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.upkeep.conformal import MISS, OUTER, AgedSteps, Calibrated, Method, calibrate, find_scores
from models.config import QUANTILE_LEVELS
from pipeline.forecasting.calibration import MEDIAN, correct, undo
from tests.unit.jobs.matured import HORIZON, Stream, coverage, seasonal_naive

METHOD = Method(window=336, minimum=100, half_life=336)
NONE = np.ones((HORIZON, 13))


def evidence(stream: Stream, hour: int, window: int = 336) -> AgedSteps:
    """What has matured of a stream at an hour."""
    part = stream.take((stream.target < hour) & (stream.target >= hour - window))
    return AgedSteps(part.series, part.step, hour - 1 - part.target, part.actual, part.quantiles)


def found(stream: Stream, hour: int, method: Method = METHOD) -> Calibrated:
    return calibrate(evidence(stream, hour), NONE, method)


def held(stream: Stream, factors: np.ndarray, first: int, stop: int) -> tuple[float, float]:
    """Percent held by the 80 % and 95 % intervals of forecasts that were made when the factors had been found."""
    part = stream.take((stream.target >= first) & (stream.target < stop) & (stream.origin >= first - 1))
    return coverage(part.actual, correct(part.quantiles, factors[part.step - 1]))


def rolled(stream: Stream, first: int, stop: int, every: int = 24) -> Stream:
    """The forecasts made from `first` on, each corrected by what was known at the last multiple of `every` hours."""
    quantiles = stream.quantiles.copy()
    for hour in range(first, stop, every):
        own = (stream.origin >= hour - 1) & (stream.origin < hour + every - 1)
        quantiles[own] = correct(quantiles[own], found(stream, hour).factors[stream.step[own] - 1])
    return replace(stream, quantiles=quantiles).take((stream.origin >= first - 1) & (stream.target < stop))


@pytest.mark.parametrize("share", [1.0, 0.4])
def test_on_held_out_real_series_the_intervals_hold_what_they_say_within_two_points(share: float) -> None:
    stream = seasonal_naive(32).narrowed(share)
    later = rolled(stream, 480, 700)
    eighty, ninety_five = coverage(later.actual, later.quantiles)
    assert abs(eighty - 80.0) < 2.0
    assert abs(ninety_five - 95.0) < 2.0
    raw = held(stream, NONE, 480, 700)
    assert max(abs(raw[0] - 80.0), abs(raw[1] - 95.0)) > 2.0, "there was something to correct"
    for step in range(1, HORIZON + 1):
        one = later.take(later.step == step)
        eighty, ninety_five = coverage(one.actual, one.quantiles)
        assert abs(eighty - 80.0) < 3.0 and abs(ninety_five - 95.0) < 2.0, f"each step by itself: {step}"


def test_each_step_has_factors_of_its_own_and_they_scale_with_the_quantiles() -> None:
    stream = seasonal_naive(16)
    share = np.where(stream.step <= 3, 0.8, 1.25)
    uneven = replace(stream, quantiles=correct(stream.quantiles, np.repeat(share[:, None], 13, axis=1)))
    one, other = found(stream, 500).factors, found(uneven, 500).factors
    outside = [0, 1, 2, 10, 11, 12]
    np.testing.assert_allclose(other[:3, outside], one[:3, outside] / 0.8, rtol=1e-6)
    np.testing.assert_allclose(other[3:, outside], one[3:, outside] / 1.25, rtol=1e-6)


def test_the_working_levels_bring_coverage_back_sooner_after_a_shift() -> None:
    stream = seasonal_naive().shifted(500, times=2.0)
    still = Method(window=336, minimum=100, half_life=336, gain=0.0)
    short = {}
    for name, method in (("adaptive", METHOD), ("fixed", still)):
        factors = found(stream, 600, method).factors  # 100 hours after the shift
        eighty, ninety_five = held(stream, factors, 600, 700)
        short[name] = (80.0 - eighty, 95.0 - ninety_five)
    lost = held(stream, found(stream, 500).factors, 600, 700)
    assert 80.0 - lost[0] > 20.0, "the shift was one"
    assert short["adaptive"][0] < 0.6 * short["fixed"][0] < 15.0
    assert max(short["adaptive"]) < 6.0


def test_the_trial_is_one_on_forecasts_that_the_factors_did_not_know() -> None:
    stream = seasonal_naive().narrowed(0.5)
    trials = calibrate(evidence(stream, 600), NONE, METHOD)
    assert trials.in_use == trials.uncorrected
    assert trials.method.n == trials.in_use.n > 10_000
    assert abs(trials.method.coverage_80 - 0.8) < 0.02 < abs(trials.in_use.coverage_80 - 0.8)
    assert trials.method.off < 0.015 < trials.in_use.off
    assert trials.method.loss < trials.in_use.loss
    again = calibrate(evidence(stream, 600), trials.factors, METHOD)
    np.testing.assert_array_equal(again.factors, trials.factors)
    assert again.uncorrected == trials.in_use
    assert again.in_use.off < 0.015


def test_what_is_newer_than_an_origin_does_not_bear_on_its_trial() -> None:
    """Spoil the newest hours: only the blocks that hold them may be judged differently."""
    stream = seasonal_naive(8)
    honest = evidence(stream, 600)
    spoilt = AgedSteps(
        honest.series, honest.step, honest.age, np.where(honest.age < 12, 1e9, honest.actual), honest.quantiles
    )
    late = Method(window=336, minimum=100, half_life=336, blocks=28)
    one, other = (calibrate(each, NONE, late) for each in (honest, spoilt))
    missed = 1.0 / 14  # one block of the fourteen that are judged
    assert other.method.coverage_80 == pytest.approx(one.method.coverage_80, abs=missed)
    assert other.method.n == one.method.n
    assert other.factors[0, -1] > one.factors[0, -1]


def test_too_little_evidence_at_a_step_is_joined_by_its_neighbours_and_without_any_nothing_moves() -> None:
    stream = seasonal_naive(2).narrowed(0.5)
    whole = evidence(stream, 600)
    few = np.flatnonzero((whole.step != 4) | (whole.age < 5))
    part = AgedSteps(whole.series[few], whole.step[few], whole.age[few], whole.actual[few], whole.quantiles[few])
    factors = calibrate(part, NONE, METHOD).factors
    assert factors[3, 0] > 1.1
    nothing = AgedSteps(
        *(column[:0] for column in (whole.series, whole.step, whole.age, whole.actual, whole.quantiles))
    )
    empty = calibrate(nothing, NONE, METHOD)
    assert (empty.factors == 1.0).all()
    assert (empty.method.n, math.isnan(empty.method.off)) == (0, True)


def test_a_score_is_outwards_from_the_median_and_a_quantile_on_its_median_has_none() -> None:
    quantiles = np.array([[*np.linspace(-6.0, 6.0, 13)], [0.0] * 13])
    scores, usable = find_scores(np.array([3.0, 3.0]), quantiles)
    assert usable.tolist() == [[True] * 12, [False] * 12]
    assert scores[0, [0, 5, 6, 11]].tolist() == [-0.5, -3.0, 3.0, 0.5]
    assert MISS[[0, 5, 6, 11]] == pytest.approx([0.025, 0.4, 0.4, 0.025])


def test_constant_and_wild_series_give_finite_factors_within_limits() -> None:
    random = np.random.default_rng(0)
    count = 4000
    quantiles = np.sort(random.standard_cauchy((count, 13)) * 1e12, axis=1)
    quantiles[::3] = quantiles[::3, :1]
    whole = AgedSteps(
        np.arange(count) % 5,
        1 + np.arange(count) % 2,
        np.arange(count) % 336,
        random.standard_cauchy(count) * 1e15,
        quantiles,
    )
    factors = calibrate(whole, np.ones((2, 13)), METHOD).factors
    assert np.isfinite(factors).all()
    assert (factors[:, MEDIAN] == 1.0).all()
    assert factors[:, OUTER].min() >= 0.25 and factors[:, OUTER].max() <= 4.0


FACTORS = st.lists(st.floats(0.1, 10.0), min_size=13, max_size=13)
VALUES = st.lists(st.floats(-1e6, 1e6, width=32), min_size=13, max_size=13)


@given(VALUES, FACTORS)
def test_corrected_quantiles_ascend_around_the_same_median_and_undoing_leads_back(
    values: list[float], stretch: list[float]
) -> None:
    quantiles, factors = np.sort(np.array([[values]]), axis=2), np.array([stretch])
    factors[:, MEDIAN] = 1.0
    corrected = correct(quantiles, factors)
    assert (np.diff(corrected, axis=2) >= 0.0).all()
    assert corrected[0, 0, MEDIAN] == quantiles[0, 0, MEDIAN]
    again = correct(undo(corrected, factors), factors)
    np.testing.assert_allclose(again, corrected, rtol=1e-9, atol=1e-6)


def test_undoing_gives_what_the_model_said_where_no_quantile_was_held_up() -> None:
    stream = seasonal_naive(8)
    factors = np.array([1.0 if level == 0.5 else 1.0 + abs(level - 0.5) for level in QUANTILE_LEVELS])
    np.testing.assert_allclose(undo(correct(stream.quantiles, factors), factors), stream.quantiles, rtol=1e-9)
