"""Widths of quantiles that are measured on steps which no weight was fitted to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.artifact import pack, unpack
from models.config import ModelConfig, TrainConfig
from models.fitting.fit import fit
from models.fitting.sampling import Windows, list_windows
from models.fitting.widths import find_quantiles, loosen, measure_widths, set_widths
from models.metrics import Matured, measure
from models.network.forecasters import RecurrentForecaster, Single, build
from models.network.heads import PointHead, QuantileHead
from models.panel import Panel
from models.predict import predict
from tests.unit.models.panels import make_panel

HORIZON = 6
CONFIG = ModelConfig(
    kind="gru",
    hidden=16,
    heads=1,
    segment=6,
    context_length=36,
    horizon=HORIZON,
    season=6,
    series=40,
    series_dim=4,
    location="mean",
    output="point",
)
TRAIN = TrainConfig(loss="mse", steps=100, batch_size=64, validate_every=25, validation_steps=24, learning_rate=1e-2)


def build_network(seed: int = 0) -> RecurrentForecaster:
    model = build(CONFIG, seed=seed)
    assert isinstance(model, Single)
    return model


def offsets(model: RecurrentForecaster) -> torch.Tensor:
    assert isinstance(model.head, PointHead)
    return model.head.offsets


def find_windows(panel: Panel, held_back: int) -> Windows:
    return list_windows(panel, held_back=held_back, context_length=36, horizon=HORIZON, season=6)


def calibrate(model: RecurrentForecaster, panel: Panel, windows: Windows, held_back: int) -> None:
    set_widths(model, measure_widths(model, panel, windows, replace(TRAIN, validation_steps=held_back)))


def stretch(model: RecurrentForecaster) -> list[float]:
    assert isinstance(model.head, QuantileHead)
    return model.head.stretch.tolist()


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
def test_a_point_loss_gives_quantiles_that_hold_on_steps_nobody_has_seen(loss: str) -> None:
    whole = make_panel(series=40, steps=200, season=6, noise=0.3)
    known = replace(whole, length=whole.length - 24)
    model = build_network()
    report = fit(model, known, replace(TRAIN, loss=loss), device=torch.device("cpu"), on_progress=lambda _: None)
    assert report.best_validation < report.history[0].validation
    rows, ends = np.repeat(np.arange(40), 4), np.tile([176, 182, 188, 194], 40)
    target, _ = whole.future(torch.from_numpy(rows), torch.from_numpy(ends), HORIZON)
    quantiles = predict(model, whole, rows, ends)
    score = measure(Matured(target=target.double().numpy(), quantiles=quantiles, scale=np.ones(160)))
    assert 0.74 < score["coverage_80"] < 0.86
    assert 0.91 < score["coverage_95"] < 0.99
    loaded = unpack(pack(model, series=[str(row) for row in range(40)], provenance={})).model
    np.testing.assert_array_equal(predict(loaded, whole, rows, ends), quantiles)


def test_the_trained_value_stays_the_level_one_half_and_quantiles_ascend() -> None:
    panel = make_panel(series=40, steps=100, season=6, noise=0.3)
    model = build_network().eval()
    rows, ends = np.arange(40), np.full(40, 90)
    before = predict(model, panel, rows, ends)
    calibrate(model, panel, find_windows(panel, 24), 24)
    after = predict(model, panel, rows, ends)
    np.testing.assert_array_equal(before[..., 6], after[..., 6])
    assert bool((offsets(model).diff(dim=1) >= 0.0).all())
    assert not np.array_equal(before, after)


def test_few_residuals_are_pooled_over_the_steps_and_many_are_not() -> None:
    panel = make_panel(series=40, steps=100, season=6, noise=0.3)
    few, many = build_network().eval(), build_network().eval()
    calibrate(few, panel, find_windows(panel, 6), 6)
    calibrate(many, panel, find_windows(panel, 24), 24)
    assert bool((offsets(few) == offsets(few)[0]).all())
    assert not bool((offsets(many) == offsets(many)[0]).all())


def test_without_a_residual_the_offsets_stay_those_of_a_normal() -> None:
    panel = make_panel(series=2, steps=60, season=6, noise=0.3)
    blind = replace(panel, observed=torch.zeros_like(panel.observed))
    model = build_network().eval()
    calibrate(model, blind, find_windows(blind, 6), 6)
    assert torch.equal(offsets(model), offsets(build_network()))
    assert offsets(model)[0, 6] == 0.0


@pytest.mark.parametrize(("factor", "stretched"), [(0.4, True), (1.8, False)])
def test_intervals_of_a_network_too_sure_or_too_unsure_of_itself_hold_on_unseen_steps(
    factor: float, stretched: bool
) -> None:
    whole = make_panel(series=60, steps=200, season=6, noise=0.3)
    known = replace(whole, length=whole.length - 24)
    model = build(replace(CONFIG, series=60, output="quantiles"), seed=0)
    assert isinstance(model, Single)
    train = replace(TRAIN, loss="pinball", steps=60)
    fit(model, known, train, device=torch.device("cpu"), on_progress=lambda _: None)
    assert isinstance(model.head, QuantileHead)
    model.head.stretch.fill_(factor)  # as if it had learned such widths: what follows multiplies them
    sure = replace(train, steps=1, learning_rate=1e-12, ema=0.0)
    rows, ends = np.repeat(np.arange(60), 4), np.tile([176, 182, 188, 194], 60)
    target, _ = whole.future(torch.from_numpy(rows), torch.from_numpy(ends), HORIZON)

    def held() -> float:
        quantiles = predict(model, whole, rows, ends)
        return measure(Matured(target=target.double().numpy(), quantiles=quantiles, scale=np.ones(240)))["coverage_80"]

    before = held()
    assert (before < 0.6) if stretched else (before > 0.92)
    windows = list_windows(known, held_back=24, context_length=36, horizon=HORIZON, season=6)
    widths = measure_widths(model, known, windows, sure)
    assert widths is not None
    set_widths(model, factor * widths)
    assert abs(held() - 0.8) < 0.06
    loosen(model)
    assert stretch(model) == [1.0, 1.0]


def test_a_fit_measures_anew_and_the_stretch_is_in_the_artifact() -> None:
    panel = make_panel(series=40, steps=120, season=6, noise=0.3)
    model = build(replace(CONFIG, output="quantiles"), seed=0)
    assert isinstance(model, Single)
    train = replace(TRAIN, loss="pinball", steps=30)
    fit(model, panel, train, device=torch.device("cpu"), on_progress=lambda _: None)
    found = stretch(model)
    assert found != [1.0, 1.0]
    loaded = unpack(pack(model, series=[str(row) for row in range(40)], provenance={})).model
    assert isinstance(loaded, Single)
    assert stretch(loaded) == found
    fit(model, panel, replace(train, validation_steps=0), device=torch.device("cpu"), on_progress=lambda _: None)
    assert stretch(model) == [1.0, 1.0], "with nothing held back there is nothing to measure by"


def measure_scaled(factor: float, held_back: int, *, anchored: bool = False) -> list[float]:
    """The stretch found on two series for a network whose distances are `factor` times those that would hold."""
    panel = make_panel(series=2, steps=240, season=6, noise=0.3)
    model = build(replace(CONFIG, series=2, output="quantiles"), seed=0)
    assert isinstance(model, Single)
    train = replace(TRAIN, loss="pinball", steps=60, validation_steps=held_back)
    fit(model, panel, train, device=torch.device("cpu"), on_progress=lambda _: None)
    assert isinstance(model.head, QuantileHead)
    model.head.stretch *= factor
    widths = measure_widths(model, panel, find_windows(panel, held_back), replace(train, anchored=anchored))
    assert widths is not None
    return widths.tolist()


def test_few_windows_widen_what_they_show_to_be_too_narrow_at_once_and_narrow_little() -> None:
    narrow, wide = measure_scaled(0.5, 12), measure_scaled(2.5, 12)
    assert min(narrow) > 1.5
    assert min(wide) > 0.7, "four windows are believed by less than a third"
    assert min(measure_scaled(2.5, 96)) < min(wide), "32 windows are believed more"


def test_a_network_that_knows_how_wide_quantiles_are_is_widened_little_by_few_windows() -> None:
    few, many = measure_scaled(0.5, 12, anchored=True), measure_scaled(0.5, 96, anchored=True)
    assert min(few) > 1.0
    assert max(few) < 1.5
    assert min(many) > max(few)


def test_of_a_dozen_scores_nothing_is_made() -> None:
    panel = make_panel(series=1, steps=120, season=6, noise=0.3)
    model = build(replace(CONFIG, series=1, output="quantiles"), seed=0)
    assert isinstance(model, Single)
    few = replace(TRAIN, validation_steps=3)
    assert measure_widths(model.eval(), panel, find_windows(panel, 3), few) is None


@pytest.mark.parametrize("refit", [0.0, 0.5])
def test_a_fit_of_one_series_is_no_surer_than_its_held_back_steps_show(refit: float) -> None:
    whole = make_panel(series=1, steps=500, season=6, noise=0.5)
    known = replace(whole, length=whole.length - 120)
    model = build(replace(CONFIG, hidden=32, series=1, output="quantiles"), seed=0)
    assert isinstance(model, Single)
    sure = replace(TRAIN, loss="pinball", steps=300, refit=refit, patience=100, validation_steps=72, ema=0.0)
    fit(model, known, sure, device=torch.device("cpu"), on_progress=lambda _: None)
    ends = np.arange(380, 494)
    rows = np.zeros_like(ends)
    target, _ = whole.future(torch.from_numpy(rows), torch.from_numpy(ends), HORIZON)
    quantiles = predict(model, whole, rows, ends)
    held = measure(Matured(target=target.double().numpy(), quantiles=quantiles, scale=np.ones(len(ends))))
    assert 0.72 < held["coverage_80"] < 0.9


def test_quantiles_are_those_of_numpy() -> None:
    values = torch.randn(37, generator=torch.Generator().manual_seed(0))
    levels = torch.tensor([0.0, 0.025, 0.31, 0.5, 0.975, 1.0])
    wanted = np.quantile(values.numpy(), levels.numpy())
    np.testing.assert_allclose(find_quantiles(values, levels).numpy(), wanted, rtol=1e-5, atol=1e-6)
