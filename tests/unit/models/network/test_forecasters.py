"""Every forecaster passes the list of checks, and the network learns."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from models.batch import Batch
from models.config import ModelConfig, TrainConfig
from models.fitting.fit import fit
from models.fitting.losses import Truth, weigh_error
from models.metrics import Matured, measure, seasonal_scale, skill
from models.network.forecasters import Single, build
from models.predict import predict
from models.presets import PRESETS
from tests.checks import CHECKS, make_batch
from tests.unit.models.panels import make_panel

SMALL = {"hidden": 16, "heads": 2, "segment": 6, "context_length": 48, "horizon": 10, "season": 12, "series": 4}
BESIDE = {
    "past_covariates": ("wind", "load"),
    "future_covariates": ("price", "holiday"),
    "static_covariates": ("size", "age"),
}
CONFIGS = {
    **{kind: ModelConfig(**SMALL, kind=kind, calendar_features=3) for kind in PRESETS},
    "rnn-dense": ModelConfig(**SMALL, kind="rnn", decoder="dense", calendar_features=3),
    "rnn-dense-point": ModelConfig(**SMALL, kind="rnn", decoder="dense", output="point"),
    "attention-point": ModelConfig(**SMALL, output="point", calendar_features=3),
    "gru-recurrent": ModelConfig(**SMALL, kind="gru", decoder="recurrent", calendar_features=3),
    "gru-recurrent-point": ModelConfig(**SMALL, kind="gru", decoder="recurrent", output="point", series_dim=0),
    "attention-recurrent": ModelConfig(**SMALL, cell="lstm", decoder="recurrent"),
    "gru-series-spread": ModelConfig(**SMALL, kind="gru", spread="series", rectify=True),
    "lstm-points": ModelConfig(**{**SMALL, "segment": 1}, kind="lstm", location="mean"),
    "gru-points-additive": ModelConfig(**{**SMALL, "segment": 1}, kind="gru", attention="additive"),
    "bidirectional-deep": ModelConfig(**SMALL, kind="bidirectional", cell="rnn", layers=4, stack="residual"),
    "stacked-lstm-additive": ModelConfig(**SMALL, kind="stacked", cell="lstm", attention="additive"),
    "attention-both-ways": ModelConfig(**SMALL, direction="bidirectional", location="mean"),
    "attention-rnn": ModelConfig(**SMALL, cell="rnn", layers=1, series_dim=0),
    "attention-no-season": ModelConfig(**{**SMALL, "season": 1}),
    "attention-odd-season": ModelConfig(**{**SMALL, "season": 7, "horizon": 17}),
    "attention-long-season": ModelConfig(**{**SMALL, "season": 100}),
    "ensemble": ModelConfig(**SMALL, kind="gru", members=3, calendar_features=3),
    "ensemble-point": ModelConfig(**SMALL, members=2, output="point"),
    "attention-covariates": ModelConfig(**SMALL, **BESIDE, calendar_features=3),
    "lstm-covariates-points": ModelConfig(**{**SMALL, "segment": 1}, **BESIDE, kind="lstm"),
    "rnn-dense-covariates": ModelConfig(**SMALL, **BESIDE, kind="rnn", decoder="dense"),
    "gru-past-covariates": ModelConfig(**SMALL, kind="gru", past_covariates=("wind",)),
    "stacked-future-covariates": ModelConfig(**SMALL, kind="stacked", future_covariates=("price",)),
    "ensemble-covariates": ModelConfig(**SMALL, **BESIDE, kind="gru", members=2),
    "seasonal-naive-covariates": ModelConfig(**SMALL, **BESIDE, kind="seasonal_naive"),
    "seasonal-naive": ModelConfig(**{**SMALL, "horizon": 30}, kind="seasonal_naive"),
    "seasonal-naive-odd-season": ModelConfig(**{**SMALL, "season": 7}, kind="seasonal_naive"),
    "seasonal-naive-no-season": ModelConfig(**{**SMALL, "season": 1}, kind="seasonal_naive"),
    "seasonal-naive-long-season": ModelConfig(**{**SMALL, "season": 100}, kind="seasonal_naive"),
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_every_forecaster(config: ModelConfig, check: Callable[[ModelConfig], None]) -> None:
    check(config)


@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn"])
def test_the_network_overfits_one_batch(cell: str) -> None:
    config = ModelConfig(**{**SMALL, "hidden": 32}, cell=cell, dropout=0.0)
    model, batch = build(config), make_batch(config, rows=4)
    target = 5000.0 + 900.0 * torch.randn((4, config.horizon), generator=torch.Generator().manual_seed(0))
    truth = Truth(target, torch.ones_like(target, dtype=torch.bool), torch.full((4,), 900.0))
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(150):
        loss = weigh_error(model(batch), truth, config.quantile_levels, loss="pinball", relative=0.0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.parametrize("kind", PRESETS)
def test_every_kind_beats_seasonal_naive_on_a_noisy_season(kind: str) -> None:
    panel = make_panel(series=8, steps=260, season=12, noise=0.5)
    config = ModelConfig(**{**SMALL, "series": 8, "horizon": 12}, kind=kind)
    train = TrainConfig(steps=60, batch_size=32, validate_every=30, validation_steps=24, learning_rate=1e-2)
    model = build(config)
    assert isinstance(model, Single)
    fit(model, panel, train, device=torch.device("cpu"), on_progress=lambda _: None)

    rows, ends = np.repeat(np.arange(8), 2), np.tile([236, 248], 8)
    target, _ = panel.future(torch.from_numpy(rows), torch.from_numpy(ends), 12)
    history = panel.cut(panel.start.new_tensor(range(8)), panel.length - 24, context_length=48, horizon=12)
    scale = seasonal_scale(history.target.double().numpy(), 12)[rows]
    naive = build(ModelConfig(**{**SMALL, "series": 8, "horizon": 12}, kind="seasonal_naive"))
    scores = [
        measure(Matured(target=target.double().numpy(), quantiles=predict(each, panel, rows, ends), scale=scale))
        for each in (model, naive)
    ]
    assert skill(scores[0]["mase"], scores[1]["mase"]) > 0.15
    assert skill(scores[0]["sql"], scores[1]["sql"]) > 0.15
    assert 0.6 < scores[0]["coverage_80"] < 0.95


def learn_first_value(kind: str) -> float:
    """Train a small network to repeat the sign of the first of 200 noisy values; the share that it gets right."""
    config = ModelConfig(
        kind=kind,
        hidden=16,
        heads=1,
        segment=1,
        context_length=200,
        horizon=1,
        season=1,
        dropout=0.0,
        series_dim=0,
        location="mean",
        quantile_levels=(0.5,),
    )
    model = build(config, seed=1)
    generator = torch.Generator().manual_seed(2)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    right = []
    for _ in range(80):
        sign = torch.randint(2, (32,), generator=generator) * 2.0 - 1.0
        target = 0.3 * torch.randn((32, 200), generator=generator)
        target[:, 0] = 3.0 * sign
        seen = torch.ones_like(target, dtype=torch.bool)
        answer = model(Batch.without_covariates(target, seen, torch.zeros(32).long(), torch.zeros(32, 1, 0)))[:, 0, 0]
        loss = (answer - sign).square().mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        right.append(float((answer.sign() == sign).float().mean()))
    return float(np.mean(right[-10:]))


@pytest.mark.slow
def test_a_signal_200_steps_back_reaches_gated_cells_and_vanishes_in_a_vanilla_one() -> None:
    assert learn_first_value("gru") > 0.95
    assert learn_first_value("lstm") > 0.95
    assert learn_first_value("rnn") < 0.7


def test_a_short_history_is_the_same_as_a_long_one_that_was_not_observed() -> None:
    config = CONFIGS["attention"]
    panel = make_panel(series=4, steps=[60, 9, 48, 1], season=12, noise=0.1, features=3)
    rows = torch.arange(4)
    batch = panel.cut(rows, panel.length, context_length=48, horizon=10)
    assert batch.observed.sum(dim=1).tolist() == [48, 9, 48, 1]
    with torch.no_grad():
        assert bool(build(config).eval()(batch).isfinite().all())


def test_predicting_in_parts_changes_nothing() -> None:
    config = CONFIGS["attention-rnn"]
    panel = make_panel(series=4, steps=60, season=12, noise=0.1)
    model, rows = build(config), np.array([0, 1, 2, 3, 0, 1, 2])
    ends = np.array([60, 50, 49, 48, 20, 2, 1])
    whole = predict(model, panel, rows, ends)
    assert whole.dtype == np.float64
    np.testing.assert_allclose(predict(model, panel, rows, ends, batch_size=3), whole, rtol=1e-5)
    assert predict(model, panel, rows[:0], ends[:0]).shape == (0, 10, 13)


def test_a_forecast_is_made_in_eval_mode_by_a_model_that_was_left_in_training() -> None:
    model, panel = build(CONFIGS["gru"]).train(), make_panel(series=1, steps=60, season=12, noise=0.1, features=3)
    predict(model, panel, np.zeros(1, int), np.array([50]))
    assert not model.training
