"""Page and Hinkley's test against its definition, and what it finds, misses and never takes for a change."""

import json
import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from jobs.upkeep.drift import CLIP, Alarm, Limits, PageHinkley, Step, Watch, advance, feed

LIMITS = Limits(delta=0.5, threshold=50.0, warm_up=48)
Values = NDArray[np.float64]


def alarms(errors: Values, levels: Values | None = None) -> list[tuple[int, Alarm]]:
    watch, found = Watch(), []
    for place, error in enumerate(errors.tolist()):
        level = None if levels is None else float(levels[place])
        watch, alarm = feed(watch, Step(place, error, level), LIMITS)
        if alarm is not None:
            found.append((place, alarm))
    return found


def by_definition(values: Values, sign: float) -> Values:
    """The statistic after each value: the cumulative sum less its smallest so far, from the whole past each time."""
    sums = [0.0]
    statistic = []
    for place, value in enumerate(values):
        if place >= LIMITS.warm_up:
            before = values[:place]
            size = float(np.clip((value - before.mean()) / before.std(), -CLIP, CLIP))
            sums.append(sums[-1] + sign * size - LIMITS.delta)
        statistic.append(sums[-1] - min(sums))
    return np.array(statistic)


@pytest.mark.parametrize("seed", range(3))
def test_the_statistic_is_that_of_page_and_hinkley_in_both_directions(seed: int) -> None:
    values = np.random.default_rng(seed).gamma(2.0, 3.0, 300)
    values[200:] *= 1.4
    test, rises, falls = PageHinkley(), [], []
    for place, value in enumerate(values.tolist()):
        test = advance(test, value, place, LIMITS)
        rises.append(test.rise.statistic)
        falls.append(test.fall.statistic)
    np.testing.assert_allclose(rises, by_definition(values, 1.0), atol=1e-9)
    np.testing.assert_allclose(falls, by_definition(values, -1.0), atol=1e-9)
    assert max(rises) > 5
    assert test.mean == pytest.approx(values.mean())
    assert math.sqrt(test.squares / test.n) == pytest.approx(values.std())


def first_rise(values: Values, threshold: float) -> int | None:
    test = PageHinkley()
    for place, value in enumerate(values.tolist()):
        test = advance(test, value, place, LIMITS)
        if test.rise.statistic > threshold:
            return place
    return None


def first_rise_of_river(values: Values, threshold: float) -> int | None:
    from river.drift import PageHinkley as Oracle  # here: it takes a second, and only some test processes need it

    oracle = Oracle(min_instances=LIMITS.warm_up, delta=LIMITS.delta, threshold=threshold, alpha=1.0, mode="up")
    for place, value in enumerate(values.tolist()):
        oracle.update(value)
        if oracle.drift_detected:
            return place
    return None


@pytest.mark.parametrize("shift", [1.5, 2.0, 4.0])
def test_a_rise_is_found_when_river_finds_it(shift: float) -> None:
    for seed in range(20):  # of deviation 1, as river takes values as they come and ours are standardised
        values = np.random.default_rng(seed).normal(0.0, 1.0, 900)
        values[600:] += shift
        values /= values[:600].std()
        ours, theirs = first_rise(values, 15.0), first_rise_of_river(values, 15.0)
        assert ours is not None and theirs is not None and theirs >= 600
        assert 0 <= ours - theirs <= 1, "ours may be a step later: a change widens the deviation it is measured in"


def test_where_nothing_changes_river_finds_nothing_either() -> None:
    for seed in range(20):
        values = np.random.default_rng(seed).normal(0.0, 1.0, 900)
        assert first_rise(values, 15.0) is first_rise_of_river(values, 15.0) is None


@pytest.mark.parametrize(("shift", "steps"), [(1.5, 120), (2.0, 60), (4.0, 25), (50.0, 7)])
def test_a_rise_of_the_errors_is_found_within_so_many_steps(shift: float, steps: int) -> None:
    for seed in range(20):
        values = np.random.default_rng(seed).normal(0.0, 1.0, 500 + steps)
        values[500:] += shift  # standard deviations
        (place, alarm), *_ = alarms(values)
        assert 500 <= place < 500 + steps
        assert alarm.signal == "errors rose"
        assert alarm.after > alarm.before + 0.3 * shift


def test_an_alarm_says_since_when_and_from_what_to_what() -> None:
    values = np.random.default_rng(0).normal(1.0, 0.1, 700)
    values[600:] += 0.4
    (_, alarm), *_ = alarms(values)
    assert abs(alarm.since - 600) <= 5
    assert (alarm.before, alarm.after) == (pytest.approx(1.0, abs=0.02), pytest.approx(1.4, abs=0.05))


def stationary(kind: str, rng: np.random.Generator, length: int) -> Values:
    if kind == "correlated":
        values = rng.normal(0.0, 1.0, length)
        for place in range(1, length):
            values[place] += 0.5 * values[place - 1]
        return values
    if kind == "daily":
        return (1.0 + 0.5 * np.sin(np.arange(length) * math.tau / 24)) * np.abs(rng.normal(0, 1, (length, 8))).mean(1)
    draw: Callable[[], Values] = {
        "normal": lambda: rng.normal(0.0, 1.0, length),
        "skewed": lambda: rng.gamma(2.0, 1.0, length),
        "constant": lambda: np.full(length, 3.0),
    }[kind]
    return draw()


@pytest.mark.parametrize("kind", ["normal", "skewed", "correlated", "daily", "constant"])
def test_two_years_of_hours_without_a_change_raise_no_alarm(kind: str) -> None:
    rng = np.random.default_rng(11)
    assert alarms(stationary(kind, rng, 17_520), stationary(kind, rng, 17_520)) == []


def test_one_wild_step_is_no_drift() -> None:
    values = np.random.default_rng(1).normal(0.0, 1.0, 600)
    values[300] = 1e12
    assert alarms(values) == []


@pytest.mark.parametrize("place", [20, 300])
@pytest.mark.parametrize("size", [100.0, -1e3, 1e12])
def test_one_wild_step_does_not_hide_the_change_that_comes_after_it(place: int, size: float) -> None:
    for seed in range(5):
        values = np.random.default_rng(seed).normal(0.0, 1.0, 700)
        values[place] = size
        values[600:] += 4.0
        (found, alarm), *_ = alarms(values)
        assert 600 <= found < 640
        assert alarm.signal == "errors rose"
        assert (alarm.before, alarm.after) == (pytest.approx(0.0, abs=0.3), pytest.approx(4.0, abs=1.0))
    assert alarms(np.zeros(700), -values)[0][1].signal == "level fell"


def test_errors_that_fall_are_good_news_but_a_level_that_falls_is_drift() -> None:
    values = np.random.default_rng(2).normal(0.0, 1.0, 600)
    values[400:] -= 3.0
    assert alarms(values) == []
    (place, alarm), *_ = alarms(np.zeros(600), values)
    assert 400 <= place < 440
    assert alarm.signal == "level fell"


def test_after_an_alarm_the_new_regime_is_the_normal_one() -> None:
    values = np.random.default_rng(3).normal(0.0, 1.0, 3000)
    values[500:] += 4.0
    assert len(alarms(values)) == 1


def test_nothing_is_found_before_the_warm_up_ends() -> None:
    values = np.concatenate([np.zeros(24), np.full(24, 100.0)])
    assert alarms(values) == []


def test_steps_without_evidence_leave_the_tests_as_they_are() -> None:
    before, _ = feed(Watch(), Step(1, 0.5, None), LIMITS)
    after, _ = feed(before, Step(2, None, None), LIMITS)
    assert (after.fed, after.error, after.level) == (2, before.error, PageHinkley())


@pytest.mark.parametrize("cut", [0, 1, 47, 200, 511])
def test_a_watch_that_was_stored_as_json_goes_on_bit_for_bit(cut: int) -> None:
    values = np.random.default_rng(4).normal(0.0, 1.0, 512).tolist()
    whole = split = Watch()
    for place, value in enumerate(values):
        if place == cut:
            split = Watch.from_dict(json.loads(json.dumps(split.to_dict())))
        whole, _ = feed(whole, Step(place, value, -value), LIMITS)
        split, _ = feed(split, Step(place, value, -value), LIMITS)
    assert split == whole
