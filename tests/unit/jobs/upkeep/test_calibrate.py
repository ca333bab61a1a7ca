import json
from collections.abc import Callable

import numpy as np
import pytest

from jobs.clock.outcome import Outcome, Stage
from jobs.upkeep.calibrate import MOST_STEPS, choose_targets, run_calibration
from pipeline.forecasting.calibration import read_factors
from pipeline.settings import Settings
from tests.unit.jobs.fakes import HOUR, START, FakeRegistry
from tests.unit.jobs.matured import HORIZON, Live, seasonal_naive

Make = Callable[..., Settings]


def settings_of(tiny: Make) -> Settings:
    return tiny(series={"horizon": HORIZON, "season": 24})


def run(settings: Settings, live: Live, champion: int | None = None) -> Outcome:
    told: list[Stage] = []
    registry = FakeRegistry(current=champion)
    outcome = run_calibration(live, registry, settings, now=START + HOUR * live.hour, on_stage=told.append)
    json.dumps(outcome.to_dict(), allow_nan=False)
    assert told
    return outcome


def live_until(hour: int, *, narrowed: float = 0.5, series: int = 32) -> Live:
    live = Live(seasonal_naive(series).narrowed(narrowed))
    live.advance(hour)
    return live


def test_a_model_too_sure_of_itself_gets_a_calibration_and_the_words_say_what_it_did(tiny: Make) -> None:
    live = live_until(500)
    outcome = run(settings_of(tiny), live)
    assert outcome.ending == "ok"
    assert outcome.reason.startswith("calibration 1 for model 0: on ")
    assert "80 % and 95 % intervals held 80." in outcome.reason or "held 79." in outcome.reason
    assert "those of no calibration" in outcome.reason
    (stored,) = live.stored
    assert (stored.model_version, stored.created_at) == (0, START + 500 * HOUR)
    assert (stored.first, stored.last) == (START + 168 * HOUR, START + 499 * HOUR)
    assert stored.n == outcome.facts["n"] > 40_000
    assert read_factors(stored.factors, HORIZON).max() > 1.5
    assert stored.metrics["method"]["off"] < stored.metrics["in_use"]["off"]


def test_running_again_stores_nothing_again(tiny: Make) -> None:
    live = live_until(500)
    run(settings_of(tiny), live)
    outcome = run(settings_of(tiny), live)
    assert outcome.reason == "calibration 1 kept for model 0: nothing has matured that would change it"
    assert len(live.stored) == 1


def test_factors_that_are_good_enough_are_kept(tiny: Make) -> None:
    live, settings = live_until(500), settings_of(tiny)
    run(settings, live)
    live.advance(501)
    outcome = run(settings, live)
    assert "kept for model 0: new factors would be no nearer to the levels" in outcome.reason
    assert len(live.stored) == 1


def test_a_stream_calibrated_while_it_goes_on_keeps_its_coverage_and_undoes_what_it_carries(tiny: Make) -> None:
    live, settings = live_until(400), settings_of(tiny)
    for hour in range(424, 701, 24):
        run(settings, live)
        live.advance(hour)
    eighty, ninety_five = live.coverage(424, 700)
    assert abs(eighty - 80.0) < 2.0
    assert abs(ninety_five - 95.0) < 2.0
    assert len(set(live.carried.tolist())) == len(live.stored) + 1


def test_factors_found_from_corrected_forecasts_are_those_found_from_the_models_own(tiny: Make) -> None:
    settings, plain, corrected = settings_of(tiny), live_until(600), live_until(400)
    run(settings, corrected)
    corrected.advance(600)
    assert (corrected.carried > 0).any()
    run(settings, plain)
    before = corrected.newest
    corrected.newest = lambda model_version, after=0: None  # type: ignore[method-assign]
    run(settings, corrected)
    corrected.newest = before  # type: ignore[method-assign]
    np.testing.assert_allclose(corrected.stored[-1].factors, plain.stored[-1].factors, rtol=4e-3)


def test_coverage_comes_back_after_errors_have_doubled(tiny: Make) -> None:
    live, settings = Live(seasonal_naive(24).shifted(450, times=2.0)), settings_of(tiny)
    live.advance(440)
    for hour in range(452, 701, 12):
        run(settings, live)
        live.advance(hour)
    first, last = live.coverage(450, 474), live.coverage(600, 700)
    assert first[0] < 70.0, "the shift was one"
    assert abs(last[0] - 80.0) < 4.0
    assert abs(last[1] - 95.0) < 2.0
    alone = Live(live.stream)
    alone.advance(700)
    assert alone.coverage(600, 700)[0] < 65.0


def test_too_little_evidence_keeps_what_there_is(tiny: Make) -> None:
    live = live_until(170, series=2)
    assert run(settings_of(tiny), live).reason == (
        "no calibration kept for model 0: 6 forecast steps have matured, 100 are needed"
    )
    assert run(settings_of(tiny), live_until(600), champion=7).reason == (
        "no calibration kept for model 7: 0 forecast steps have matured, 100 are needed"
    )
    few = live_until(200, series=2)
    assert "too little has matured in or before the newer half" in run(settings_of(tiny), few).reason
    assert live.stored == few.stored == []


def test_a_calibration_that_the_scorer_refuses_is_replaced(tiny: Make) -> None:
    live = live_until(500)
    live.record(0, between=(0, 0), n=1, factors=[[2.0]], metrics={}, now=0)
    outcome = run(settings_of(tiny), live)
    assert outcome.reason.startswith("calibration 2 for model 0: ")
    assert "those of no calibration" in outcome.reason


def test_forecasts_that_carry_a_lost_calibration_are_left_out(tiny: Make) -> None:
    live = live_until(500)
    live.carried[live.stream.target < 400] = 9
    outcome = run(settings_of(tiny), live)
    assert outcome.facts["n"] == int((live.issued & (live.stream.target >= 400) & (live.stream.target < 500)).sum())


@pytest.mark.parametrize(
    ("horizon", "series", "read", "targets"),
    [(48, 3, 3, 336), (48, 20, 20, 336), (48, 10_000, 64, 162), (1000, 64, 71, 7), (10_000, 1_000_000, 50, 1)],
)
def test_what_is_read_is_bounded_and_prefers_many_series(horizon: int, series: int, read: int, targets: int) -> None:
    count, chosen = choose_targets(5000, 336, horizon, series)
    assert (count, len(chosen)) == (min(read, series), targets)
    assert chosen[-1] == 5000
    assert (np.diff(chosen) > 0).all() and chosen[0] > 5000 - 336
    assert count * horizon * len(chosen) <= MOST_STEPS


def test_targets_that_are_left_out_follow_no_rhythm() -> None:
    _, chosen = choose_targets(5000, 336, 48, 10_000)
    hours = np.bincount(chosen % 24, minlength=24)
    assert hours.min() >= 4 and hours.max() <= 9
    assert np.diff(chosen).max() <= 3
