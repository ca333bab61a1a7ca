"""Fits: which windows they see, what they keep, when they stop."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.config import OPTIMIZERS, SCHEDULES, ModelConfig, TrainConfig
from models.fitting import step, training
from models.fitting.fit import fit
from models.fitting.sampling import (
    EXACT,
    RARE,
    cut_with_truth,
    find_deviation,
    held_back_origins,
    hide_some,
    list_windows,
    seasonal_scale,
)
from models.fitting.training import FitReport, Progress, anneal, choose_device, validate
from models.metrics import seasonal_scale as scale_of_metrics
from models.network.forecasters import RecurrentForecaster, Single, build
from models.panel import Panel
from tests.checks import make_batch
from tests.unit.models.panels import make_panel
from tests.unit.models.test_panel import count_panel

CPU = torch.device("cpu")
CONFIG = ModelConfig(
    hidden=8, heads=2, layers=1, segment=6, context_length=24, horizon=6, season=6, series=4, series_dim=4
)
TRAIN = TrainConfig(steps=20, batch_size=16, validate_every=5, validation_steps=12, learning_rate=1e-2)


def build_network(seed: int = 0) -> RecurrentForecaster:
    model = build(CONFIG, seed=seed)
    assert isinstance(model, Single)
    return model


def run(model: RecurrentForecaster, panel: Panel, config: TrainConfig = TRAIN) -> FitReport:
    return fit(model, panel, config, device=CPU, on_progress=lambda _: None)


@pytest.fixture
def panel() -> Panel:
    return make_panel(series=4, steps=[90, 70, 30, 13], season=6, noise=0.2)


def test_a_fit_is_the_same_for_the_same_seed_and_leaves_the_random_state_alone(panel: Panel) -> None:
    before = torch.get_rng_state()
    models = [build_network() for _ in range(3)]
    reports = [run(model, panel, replace(TRAIN, seed=seed)) for model, seed in zip(models, (1, 1, 2), strict=True)]
    assert torch.equal(torch.get_rng_state(), before)
    weights = [torch.cat([weight.flatten() for weight in model.parameters()]) for model in models]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    validations = [[progress.validation for progress in report.history] for report in reports]
    assert validations[0] == validations[1]
    assert not models[0].training


def test_the_best_weights_are_kept_not_the_last(panel: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([5.0, 3.0, 1.0, 2.0, 4.0])  # before the first step, then every 5 steps
    seen: list[torch.Tensor] = []

    def score(model: RecurrentForecaster, *_: object) -> float:
        seen.append(model.head.project.weight.detach().clone())
        return next(scores)

    monkeypatch.setattr(training, "validate", score)
    model = build_network()
    report = run(model, panel, replace(TRAIN, patience=2, steps=100))
    assert (report.best_step, report.best_validation, report.steps) == (10, 1.0, 20)
    assert report.stopped == "no better for 2 validations"
    assert torch.equal(model.head.project.weight, seen[2])
    assert not torch.equal(seen[2], seen[4])


def test_a_warm_start_never_ends_worse_than_it_began(panel: Panel) -> None:
    model = build_network()
    first = run(model, panel, replace(TRAIN, steps=60))
    again = run(model, panel, replace(TRAIN, learning_rate=5.0, steps=10))
    assert again.best_validation <= first.best_validation + 1e-6


def test_a_spent_budget_ends_the_fit_with_a_validation(panel: Panel) -> None:
    report = run(build_network(), panel, replace(TRAIN, steps=100_000, max_seconds=0.2, patience=10_000))
    assert report.stopped == "time budget spent"
    assert report.history[-1].step == report.steps < 100_000


def test_a_loss_that_is_not_finite_ends_the_fit_with_the_best_weights(
    panel: Panel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        step, "sum_error", lambda quantiles, *_, **__: (quantiles.float().sum() * math.nan, torch.ones(()))
    )
    monkeypatch.setattr(training, "validate", lambda *_: 1.0)
    model = build_network()
    start = model.head.project.weight.detach().clone()
    report = run(model, panel)
    assert report.stopped == "loss not finite"
    assert torch.equal(model.head.project.weight, start)


def test_progress_is_reported_at_every_validation(panel: Panel) -> None:
    heard: list[Progress] = []
    report = fit(build_network(), panel, replace(TRAIN, steps=12), device=CPU, on_progress=heard.append)
    assert [progress.step for progress in heard] == [5, 10, 12]
    assert tuple(heard) == report.history
    assert all(math.isfinite(progress.loss + progress.validation) for progress in heard)


def test_without_a_validation_cut_the_last_average_is_kept(panel: Panel) -> None:
    report = run(build_network(), panel, replace(TRAIN, validation_steps=0))
    assert math.isnan(report.best_validation)
    assert report.best_step == report.steps == TRAIN.steps


def test_histories_too_short_to_learn_from_are_refused() -> None:
    with pytest.raises(ValueError, match="train on longer histories"):
        run(build_network(), make_panel(series=2, steps=13, season=6, noise=0.1))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=4),
    st.integers(0, 15),
    st.integers(1, 20),
    st.integers(1, 20),
)
def test_no_target_lies_after_the_cut_and_every_window_is_drawn(
    lengths: list[int], held_back: int, context_length: int, horizon: int
) -> None:
    panel = count_panel(lengths, context_length=context_length, horizon=horizon)
    sizes = {"context_length": context_length, "horizon": horizon}
    windows = list_windows(panel, held_back=held_back, season=3, **sizes)
    if (total := len(windows)) == 0:
        assert all(length - held_back < 2 for length in lengths)
        return
    rows, ends = windows.draw(20 * total, total, torch.Generator().manual_seed(0))
    _, truth = cut_with_truth(windows, rows, ends, **sizes)
    last = torch.tensor(lengths)[rows] - held_back + rows  # grid step after the last one that may be seen
    assert bool((truth.target.amax(dim=1) <= last).all())
    assert bool(truth.observed.any(dim=1).all())
    assert len(set(zip(rows.tolist(), ends.tolist(), strict=True))) > 0.9 * total


def test_held_back_steps_are_validated_once_each() -> None:
    panel = count_panel([40, 12, 3], context_length=8, horizon=5)
    rows, ends = held_back_origins(panel, held_back=12, horizon=5)
    assert rows.tolist() == [0, 0, 0, 1, 1, 2]
    assert ends.tolist() == [28, 33, 38, 5, 10, 1]
    target, observed = panel.future(rows, ends, 5)
    assert sorted(target[:3][observed[:3]].tolist()) == list(range(29, 41))


def test_the_deviation_of_a_series_is_that_of_its_observed_steps() -> None:
    panel = make_panel(series=3, steps=[90, 30, 1], season=6, noise=0.2)
    expected = [
        panel.target[first : first + count][panel.observed[first : first + count]].std(correction=0)
        for first, count in zip(panel.start.tolist(), panel.length.tolist(), strict=True)
    ]
    torch.testing.assert_close(find_deviation(panel), torch.stack(expected))


def test_a_fit_learns_the_spread_of_series_without_the_held_back_steps(panel: Panel) -> None:
    models = [build(replace(CONFIG, spread="series"), seed=0) for _ in range(2)]
    changed = replace(panel, target=panel.target.clone())
    changed.target[panel.start[:2] + panel.length[:2] - 1] = 1e6
    for model, history in zip(models, (panel, changed), strict=True):
        assert isinstance(model, Single)
        assert model.spreads is not None
        run(model, history, replace(TRAIN, steps=1))
        assert float(model.spreads.rows[0]) == 0.0
        assert bool((model.spreads.rows[1:4] > 0.0).all())
    assert torch.equal(models[0].spreads.rows, models[1].spreads.rows)


def test_origins_of_validation_lie_a_stride_apart() -> None:
    panel = count_panel([40, 12], context_length=8, horizon=5)
    rows, ends = held_back_origins(panel, held_back=12, horizon=5, stride=4)
    assert rows.tolist() == [0, 0, 0, 1, 1]
    assert ends.tolist() == [28, 32, 36, 4, 8]


def test_a_loss_that_is_not_scaled_is_in_the_targets_units() -> None:
    panel = make_panel(series=1, steps=90, season=6, noise=0.2)
    sizes = {"context_length": CONFIG.context_length, "horizon": CONFIG.horizon}
    scaled, plain = (list_windows(panel, held_back=12, season=6, scaled=wish, **sizes) for wish in (True, False))
    model, config = build_network().eval(), replace(TRAIN, loss="mse")
    loss = validate(model, panel, scaled, config) * float(scaled.scale) ** 2
    assert validate(model, panel, plain, config) == pytest.approx(loss)
    assert run(build_network(), panel, replace(TRAIN, relative=0.0, scaled=False)).best_validation == pytest.approx(
        float(scaled.scale) * run(build_network(), panel, replace(TRAIN, relative=0.0)).best_validation, rel=0.1
    )


def test_validation_sees_the_held_back_steps_and_nan_is_no_evidence(panel: Panel) -> None:
    sizes = {"context_length": CONFIG.context_length, "horizon": CONFIG.horizon}
    windows = list_windows(panel, held_back=12, season=6, **sizes)
    model = build_network().eval()
    loss = validate(model, panel, windows, TRAIN)
    changed = replace(panel, target=panel.target.clone())
    changed.target[panel.start + panel.length - 1] += 1e4
    assert validate(model, changed, windows, TRAIN) > loss
    blind = replace(panel, observed=torch.zeros_like(panel.observed))
    assert math.isnan(validate(model, blind, windows, TRAIN))


def test_hiding_ids_and_histories() -> None:
    batch = make_batch(CONFIG, rows=2000)
    hidden = hide_some(batch, torch.Generator().manual_seed(0), ids=0.1, histories=0.3)
    known = batch.series != 0
    share = float((hidden.series[known] == 0).float().mean())
    assert 0.07 < share < 0.13
    shorter = (hidden.observed != batch.observed).any(dim=1).float().mean().item()
    assert 0.2 < shorter < 0.35
    assert bool((hidden.observed[:, -1] == batch.observed[:, -1]).all()), "the newest step is never hidden"
    assert not bool(hidden.target[~hidden.observed].any())
    same = hide_some(batch, torch.Generator().manual_seed(0), ids=0.0, histories=0.0)
    assert torch.equal(same.series, batch.series)
    assert torch.equal(same.observed, batch.observed)


def test_the_scale_of_the_loss_is_the_scale_of_mase() -> None:
    panel = make_panel(series=3, steps=[30, 25, 9], season=4, noise=0.3)
    histories = [panel.target[s : s + n].double().numpy() for s, n in zip(panel.start, panel.length, strict=True)]
    wanted = [scale_of_metrics(history[None], 4)[0] for history in histories]
    np.testing.assert_allclose(seasonal_scale(panel, 4).numpy(), wanted, rtol=1e-5)


def test_the_scale_is_never_zero_and_a_series_that_never_moves_has_no_weight() -> None:
    panel = count_panel([3, 5, 20, 1], context_length=8, horizon=5)
    panel.target[panel.start[1] : panel.start[1] + 5] = 0.0
    panel.target[panel.start[2] : panel.start[2] + 20] = 50.0
    assert seasonal_scale(panel, 4).tolist() == [1.0, math.inf, math.inf, math.inf]
    panel.observed[panel.start[0] + 1] = False  # 0, missing, 2: neither seasons nor neighbours
    assert seasonal_scale(panel, 4).tolist()[0] == 1.0, "its deviation"


@pytest.mark.parametrize("level", [0.0, 20.0, 1e9])
def test_a_tick_in_a_constant_series_and_the_noise_of_an_exact_season_outweigh_no_other(level: float) -> None:
    panel = count_panel([1000, 1000], context_length=8, horizon=5)
    tick = 2.0**-6
    first, second = panel.start.tolist()
    panel.target[first : first + 1000] = level
    panel.target[first + 500] += tick
    steps = torch.arange(1000, dtype=torch.float64)
    panel.target[second : second + 1000] = level + torch.sin(2.0 * math.pi * steps / 4)  # 1e-13 off itself
    ticking, exact = seasonal_scale(panel, 4).tolist()
    assert ticking == RARE * tick
    assert exact == pytest.approx(EXACT, rel=1e-3)


def test_the_scale_and_the_deviation_do_not_depend_on_the_level() -> None:
    panel = count_panel([40, 25], context_length=8, horizon=5)
    panel.target.mul_(37.0).remainder_(16.0)
    raised = replace(panel, target=panel.target + 1e13)
    for find in (lambda each: seasonal_scale(each, 4), find_deviation):
        torch.testing.assert_close(find(raised), find(panel), rtol=1e-12, atol=0.0)


def test_the_learning_rate_rises_and_is_annealed() -> None:
    rates = [anneal("one_cycle", step / 100) for step in range(101)]
    assert rates[0] == pytest.approx(0.04)
    assert max(rates) == rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(1e-3)
    cosine = [anneal("cosine", step / 100) for step in range(101)]
    assert cosine == sorted(cosine, reverse=True)
    assert (cosine[0], cosine[50], cosine[-1]) == pytest.approx((1.0, 0.5, 1e-3))
    assert {anneal("constant", step / 100) for step in range(101)} == {1.0}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_optimizer_and_schedule_lowers_the_validation_loss(panel: Panel, optimizer: str, schedule: str) -> None:
    report = run(build_network(), panel, replace(TRAIN, optimizer=optimizer, schedule=schedule, steps=60))
    assert report.best_step > 0
    assert report.best_validation < report.history[0].validation


def test_a_loss_that_does_not_suit_the_output_is_refused(panel: Panel) -> None:
    with pytest.raises(ValueError, match="loss mse does not train output 'quantiles'"):
        run(build_network(), panel, replace(TRAIN, loss="mse"))


def test_devices_by_name() -> None:
    assert choose_device("cpu") == CPU
    assert choose_device("auto").type in ("cpu", "cuda")
    with pytest.raises(ValueError, match="use auto, cpu or cuda"):
        choose_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="not available"):
            choose_device("cuda")
