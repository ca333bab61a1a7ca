"""The search: who survives, who wins, what time it takes, and what it says; real fits at the end."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from jobs.clock.outcome import OnStage, Outcome, Stage
from jobs.forecaster.forecaster import Forecaster
from jobs.retraining.retrain import retrain
from jobs.retraining.search import (
    SPACE,
    Found,
    apply,
    draw_candidates,
    find_settings,
    halve,
    plan_rungs,
    search,
    searched_keys,
)
from models.artifact import unpack
from models.config import ModelConfig
from models.fitting.training import FitReport
from pipeline.forecasting.windows import model_config
from pipeline.grid.frequency import Frequency
from pipeline.settings import SearchKey, Settings
from tests.unit.jobs.fakes import HOUR, START, Clock, FakeReader, FakeRegistry, make_history
from tests.unit.jobs.retraining.test_retrain import drifting
from tests.unit.jobs.tiny import make_forecaster, make_frame, make_wave

Make = Callable[..., Settings]
NAN = math.nan


def shape(settings: Settings) -> ModelConfig:
    return model_config(settings, Frequency("1h"), 4, days=10.0)


@dataclass
class FakeFit:
    """Fits that take `pace` seconds a step, `start` seconds before the first, and end with a loss by the settings."""

    loss: Callable[[Settings], float]
    pace: float = 1e-4
    start: float = 0.0
    stopped: str = "all steps done"
    now: float = 1000.0
    tried: list[Settings] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    def try_out(self, settings: Settings, on_stage: OnStage) -> FitReport:
        self.tried.append(settings)
        chosen = settings.training
        within = int(chosen.budget / self.pace)
        self.now += self.start + self.pace * min(chosen.steps, within)
        stopped = self.stopped if within >= chosen.steps else "time budget spent"
        on_stage(Stage("fit", 1, 1, "half way"))
        loss = self.loss(settings)
        return FitReport(min(chosen.steps, within), 1, loss, self.now, stopped, ())

    def find(self, settings: Settings, champion: Mapping[str, Any] | None = None) -> Found:
        found = find_settings(settings, shape, self.try_out, champion or {}, on_stage=lambda _: None, clock=self.clock)
        assert found is not None
        return found


def wide_is_better(settings: Settings) -> float:
    return 1.0 / settings.model.hidden + settings.training.learning_rate


@pytest.mark.parametrize(
    ("scores", "keep", "survivors", "words"),
    [
        ([0.5, 0.4, 0.6], 1, [1], "kept 1 of 3, validation 0.4000"),
        ([0.5, 0.4, 0.6], 2, [1, 0], "kept 2 of 3, validation 0.4000 to 0.5000"),
        (
            [0.7, 0.4, 0.6],
            2,
            [1, 2, 0],
            "kept 2 of 3, validation 0.4000 to 0.6000, and the settings themselves, 0.7000",
        ),
        ([0.5, 0.5, 0.5], 1, [0], "kept 1 of 3, validation 0.5000"),
        ([NAN, 0.4, math.inf], 2, [1], "kept 1 of 3, validation 0.4000; 2 without a finite loss"),
        ([NAN, -math.inf], 1, [], "none of 2 has a finite validation loss"),
    ],
)
def test_the_lowest_losses_survive_and_the_settings_go_along(
    scores: list[float], keep: int, survivors: list[int], words: str
) -> None:
    assert halve(dict(enumerate(scores)), keep) == (survivors, words)


@pytest.mark.parametrize(
    ("count", "sizes"), [(1, (1,)), (2, (2, 1)), (3, (3, 1)), (4, (4, 2, 1)), (9, (9, 3, 1)), (27, (27, 9, 3, 1))]
)
def test_each_rung_keeps_a_third(count: int, sizes: tuple[int, ...]) -> None:
    assert plan_rungs(count) == sizes


def test_every_key_that_can_be_searched_has_choices_that_are_settings(tiny: Make) -> None:
    assert set(SPACE) == set(get_args(SearchKey))
    for key, choices in SPACE.items():
        assert len(set(choices)) > 1
        for value in choices if key != "segment" else ():
            apply(tiny(), {key: value})


def test_candidates_are_different_can_be_built_and_the_first_is_the_settings() -> None:
    settings = Settings(training={"search": 20})
    candidates = draw_candidates(settings, shape)
    built = [shape(apply(settings, values)) for values in candidates]
    assert len(candidates) == len({json.dumps(values) for values in candidates}) == 20
    assert {config.hidden for config in built} <= {32, 64, 128}
    assert {config.segment for config in built} == {12, 24, 48}
    assert built[0] == shape(settings)
    assert candidates == draw_candidates(settings, shape)
    other = draw_candidates(apply(settings, {"seed": 1}), shape)
    assert other[0] == candidates[0]
    assert other[1:] != candidates[1:]


def test_only_the_keys_asked_for_are_searched() -> None:
    over = ("learning_rate", "kind")
    settings = Settings(training={"search": 100, "search_over": over})
    candidates = draw_candidates(settings, shape)
    assert searched_keys(settings) == ("kind", "learning_rate")
    assert len(candidates) == 4 * 4
    assert candidates[0] == {"kind": "attention", "learning_rate": 0.005}


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_is_searched_unless_asked_for(count: int) -> None:
    fit = FakeFit(wide_is_better)
    settings = Settings(training={"search": count})
    found = find_settings(settings, shape, fit.try_out, {}, on_stage=lambda _: None, clock=fit.clock)
    assert found is None
    assert Settings().training.search == 0
    assert fit.tried == []


def test_each_rung_trains_a_third_of_the_candidates_for_three_times_the_steps() -> None:
    fit, stages = FakeFit(wide_is_better), []
    settings = Settings(training={"search": 9, "steps": 900, "members": 5, "budget": 3600})
    found = search(settings, shape, fit.try_out, on_stage=stages.append, clock=fit.clock)
    steps = [trial.training.steps for trial in fit.tried]
    assert steps in ([100] * 9 + [300] * 3, [100] * 9 + [300] * 4)
    assert {trial.training.members for trial in fit.tried} == {1}
    assert {(trial.training.search, trial.model.location) for trial in fit.tried} <= {(0, "mean"), (0, "last")}
    best = min(draw_candidates(settings, shape), key=lambda values: wide_is_better(apply(settings, values)))
    assert found.chosen == best
    assert (found.settings.model.hidden, found.settings.training.learning_rate) == (
        best["hidden"],
        best["learning_rate"],
    )
    assert (found.settings.training.steps, found.settings.training.members) == (900, 5)
    assert found.settings.training.budget == pytest.approx(3600 - (fit.now - 1000))
    assert {stage.name for stage in stages} == {"search"}
    assert stages[-1].done == stages[-1].total == len(steps)
    assert [stage.words for stage in stages if stage.words.startswith("rung 1: kept 3 of 9, validation ")]
    assert (
        f"validation {wide_is_better(found.settings):.4f} against {wide_is_better(settings):.4f} of the" in found.words
    )


def test_the_settings_stay_when_no_other_is_better() -> None:
    fit = FakeFit(lambda settings: abs(settings.model.hidden - 64) + abs(settings.training.learning_rate - 5e-3))
    found = fit.find(Settings(training={"search": 4, "search_over": ("hidden", "learning_rate")}))
    assert found.chosen == {"hidden": 64, "learning_rate": 0.005}
    assert found.words == "search: the settings themselves (hidden 64, learning_rate 0.005) best of 4, 0.0000"


def test_what_wins_has_been_compared_with_the_settings_at_the_most_steps() -> None:
    """The settings start slowly: behind all others on the first rung, ahead of them on the second."""

    def slow_start(settings: Settings) -> float:
        ours = (settings.model.hidden, settings.training.learning_rate) == (64, 5e-3)
        return (0.1 if settings.training.steps > 100 else 9.0) if ours else 0.5

    fit = FakeFit(slow_start)
    found = fit.find(Settings(training={"search": 9, "steps": 900, "search_over": ("hidden", "learning_rate")}))
    assert len(fit.tried) == 9 + 4
    assert found.chosen == {"hidden": 64, "learning_rate": 0.005}


@pytest.mark.parametrize("stopped", ["all steps done", "loss not finite"])
def test_without_a_finite_loss_the_settings_stay_and_the_words_say_why(stopped: str) -> None:
    fit = FakeFit(lambda _: NAN if stopped == "all steps done" else 0.1, stopped=stopped)
    settings = Settings(training={"search": 9})
    found = fit.find(settings)
    assert len(fit.tried) == 9
    assert shape(found.settings) == shape(settings)
    assert found.words == "search: no finite validation loss in 9 trials, so the settings stay as they are"
    assert found.rungs == ("none of 9 has a finite validation loss",)


def test_one_that_is_left_alone_is_not_tried_again() -> None:
    fit = FakeFit(lambda settings: 0.5 if settings.training.learning_rate == 1e-3 else NAN)
    found = fit.find(Settings(training={"search": 4, "search_over": ("learning_rate",)}))
    assert (len(fit.tried), found.chosen) == (4, {"learning_rate": 1e-3})
    assert found.words == "search: learning_rate 0.001 best of 4, validation 0.5000"


def test_a_candidate_that_the_device_cannot_hold_is_last_and_not_the_end() -> None:
    def wide_is_too_wide(settings: Settings) -> float:
        if settings.model.hidden == 128:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return wide_is_better(settings)

    found = FakeFit(wide_is_too_wide).find(Settings(training={"search": 4, "search_over": ("hidden", "location")}))
    assert found.chosen["hidden"] == 64
    lost = [trial for trial in found.trials if trial.stopped == "out of memory"]
    assert lost
    assert all(math.isnan(trial.validation) for trial in lost)


def test_a_search_that_fits_its_time_gives_every_trial_all_its_steps() -> None:
    fit = FakeFit(wide_is_better, pace=0.5)
    found = fit.find(Settings(training={"search": 9, "steps": 900, "budget": 4000}))
    assert {trial.stopped for trial in found.trials} == {"all steps done"}
    assert "dropped" not in found.words


def test_a_search_short_of_time_shares_half_of_the_budget_among_its_trials() -> None:
    fit = FakeFit(wide_is_better, pace=1.0)
    found = fit.find(Settings(training={"search": 9, "steps": 9000, "budget": 720}))
    rungs = {rung: [trial.seconds for trial in found.trials if trial.rung == rung] for rung in (1, 2)}
    assert rungs[1] == pytest.approx([180 / 9] * 9)
    assert rungs[2] == pytest.approx([180 / len(rungs[2])] * len(rungs[2]))
    assert {trial.stopped for trial in found.trials} == {"time budget spent"}
    assert found.settings.training.budget == pytest.approx(360.0)


def test_a_rung_without_time_is_cut_the_best_so_far_wins_and_the_words_say_so() -> None:
    fit = FakeFit(wide_is_better, start=30.0)  # seconds that no budget shortens
    settings = Settings(training={"search": 9, "steps": 900, "budget": 200})
    found = fit.find(settings)
    tried = {trial.candidate for trial in found.trials if trial.rung == 1}
    assert tried == {0, 1}
    assert found.rungs[0].endswith("; time was spent before 7 more")
    assert found.words.endswith("trials dropped for time")
    assert found.chosen == min(
        (trial.values for trial in found.trials), key=lambda v: wide_is_better(apply(settings, v))
    )
    assert found.settings.training.budget == pytest.approx(1200.0 - fit.now)


def test_with_no_time_at_all_the_settings_are_fitted_as_they_are() -> None:
    fit = FakeFit(wide_is_better, start=1000.0)
    settings = Settings(training={"search": 9, "budget": 10})
    found = fit.find(settings)
    assert [trial.candidate for trial in found.trials] == [0]
    assert shape(found.settings) == shape(settings)
    assert found.settings.training.budget > 0.0


@pytest.mark.parametrize(("better", "other"), [("mean", "last"), ("last", "mean")])
def test_a_location_is_validated_by_the_same_search_over_two_candidates(better: str, other: str) -> None:
    fit = FakeFit(lambda settings: 0.25 if settings.model.location == better else 0.5)
    settings = Settings(model={"location": "validate"}, training={"steps": 900})
    found = fit.find(settings)
    assert [(trial.model.location, trial.training.steps) for trial in fit.tried] == [("mean", 300), ("last", 300)]
    assert found.settings.model.location == found.chosen["location"] == better
    assert f"location {better}" in found.words
    assert other not in found.words


def test_a_search_tries_the_other_location_with_all_else_equal_where_it_is_to_be_validated() -> None:
    settings = Settings(model={"location": "validate"}, training={"search": 5, "search_over": ("hidden",)})
    first, second, *others = draw_candidates(settings, shape)
    assert (first, second) == ({"hidden": 64, "location": "mean"}, {"hidden": 64, "location": "last"})
    assert len(others) == 3


def test_a_warm_start_keeps_what_was_found_for_the_champion() -> None:
    settings = Settings(training={"search": 9, "search_over": ("hidden", "learning_rate")})
    champion = {"search": FakeFit(wide_is_better).find(settings).provenance()}
    fit = FakeFit(wide_is_better)
    found = fit.find(settings, champion)
    assert fit.tried == []
    assert found.chosen == champion["search"]["chosen"] == {"hidden": 128, "learning_rate": 0.001}
    assert (found.settings.model.hidden, found.settings.training.learning_rate) == (128, 0.001)
    assert found.words == (
        "search: none, a warm start keeps what was found for the champion (hidden 128, learning_rate 0.001)"
    )
    more = Settings(training={"search": 4, "search_over": ("hidden", "dropout")})
    assert fit.find(more, champion).trials, "one that was searched over other keys is searched again"


def run(settings: Settings, registry: FakeRegistry, reader: FakeReader | None = None) -> Outcome:
    clock = Clock(START + 100_000 * HOUR)
    return retrain(reader or drifting(), registry, settings, clock=clock, code="test", on_stage=lambda _: None)


def test_a_retraining_finds_a_sane_learning_rate_and_registers_every_trial(tiny: Make) -> None:
    """The settings' own rate cannot learn anything in 60 steps, every other one can."""
    rates = {"learning_rate": 1e-9, "search": 3, "search_over": ("learning_rate",)}
    one, other = FakeRegistry(), FakeRegistry()
    outcome = run(tiny(training=rates), one)
    metrics, loaded = one.models[0]["metrics"], unpack(one.models[0]["artifact"])
    json.dumps([metrics, outcome.to_dict()], allow_nan=False)
    own, *others = metrics["search"]["trials"]
    assert own["values"] == {"learning_rate": 1e-9}
    assert all(trial["validation"] < own["validation"] for trial in others)
    assert [trial["steps"] for trial in metrics["search"]["trials"]] == [10, 10, 10]
    assert metrics["training"]["learning_rate"] == metrics["search"]["chosen"]["learning_rate"] >= 1e-3
    assert metrics["training"]["steps"] == 30
    assert loaded.provenance["search"]["chosen"] == metrics["search"]["chosen"]
    assert outcome.reason.endswith(metrics["search"]["words"])
    run(tiny(training=rates), other)
    assert one.models[0]["artifact"] == other.models[0]["artifact"], "the same seed and history, the same winner"


def test_a_retraining_validates_the_location_of_a_level_that_jumps(tiny: Make) -> None:
    """Values that stay where the last one was: the last value is known to be right, the window's mean is not."""
    steps = np.random.default_rng(1).normal(0.0, 1.0, (4, 160)).cumsum(axis=1)
    reader = FakeReader(*make_history({f"s{n}": 50.0 + values for n, values in enumerate(steps)}))
    registry = FakeRegistry()
    outcome = run(tiny(model={"location": "validate"}), registry, reader)
    trials = {
        trial["values"]["location"]: trial["validation"] for trial in registry.models[0]["metrics"]["search"]["trials"]
    }
    assert set(trials) == {"mean", "last"}
    assert registry.models[0]["config"]["location"] == min(trials, key=lambda place: trials[place]) == "last"
    assert "search: location last best of 2" in outcome.reason


def test_a_warm_start_after_a_search_begins_with_the_weights_that_the_search_led_to(tiny: Make) -> None:
    registry = FakeRegistry()
    searched = {"search": 3, "search_over": ("hidden", "segment"), "steps": 20}
    run(tiny(training=searched), registry)
    registry.current = 1
    outcome = run(tiny(training=searched | {"mode": "warm"}), registry)
    assert outcome.facts["fit"]["start"] == "from the champion's weights"
    assert outcome.facts["search"]["trials"] == []
    first, second = (unpack(row["artifact"]) for row in registry.models)
    assert first.config == second.config
    assert first.provenance["search"]["chosen"] == second.provenance["search"]["chosen"]


def test_the_python_interface_searches_too_and_its_model_says_what_was_chosen(tmp_path: Path) -> None:
    frame = make_frame(a=make_wave(80), b=make_wave(70, seed=2))
    forecaster = make_forecaster(training={"search": 3, "search_over": ("hidden",), "steps": 10})
    result = forecaster.backtest(frame, 2)
    assert result.search is not None
    assert len(result.search.trials) == 3
    result.forecaster.save(tmp_path / "model")
    loaded = unpack((tmp_path / "model").read_bytes())
    assert loaded.provenance["search"]["chosen"] == {"hidden": loaded.config.hidden} == result.search.chosen
    assert Forecaster.load(tmp_path / "model").predict(frame).equals(result.forecaster.predict(frame))


def test_without_anything_observed_to_validate_on_the_settings_are_fitted_as_they_are(tiny: Make) -> None:
    values = {f"s{n}": 10.0 + np.arange(160) % 4 for n in range(3)}
    for series in values.values():
        series[144:148] = np.nan  # the validation steps before three origins of four steps
    registry = FakeRegistry()
    settings = tiny(training={"search": 3, "search_over": ("hidden",), "validation_steps": 4})
    outcome = run(settings, registry, FakeReader(*make_history(values)))
    assert "search: no finite validation loss in 3 trials, so the settings stay as they are" in outcome.reason
    assert registry.models[0]["config"]["hidden"] == 8
    assert [trial["validation"] for trial in outcome.facts["search"]["trials"]] == [None] * 3
