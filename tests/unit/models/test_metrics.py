"""Metrics against two libraries, the published row of M4, and by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scoringrules
from utilsforecast import losses

from models.config import QUANTILE_LEVELS, ModelConfig
from models.metrics import METRICS, Interval, Matured, measure, seasonal_scale, skill
from models.network.forecasters import build
from models.panel import build_panel
from models.predict import predict

M4 = Path(__file__).parents[4] / "shared" / "data" / "M4"


def draw(rows: int = 6, horizon: int = 9, *, missing: float = 0.0) -> Matured:
    random = np.random.default_rng(5)
    quantiles = np.sort(10.0 + random.standard_normal((rows, horizon, 13)), axis=-1)
    target = 10.0 + random.standard_normal((rows, horizon))
    target[random.random(target.shape) < missing] = np.nan
    return Matured(target=target, quantiles=quantiles, scale=0.5 + random.random(rows))


def as_frame(matured: Matured) -> pd.DataFrame:
    rows, horizon = matured.target.shape
    frame = pd.DataFrame({"unique_id": np.repeat(np.arange(rows), horizon), "ds": np.tile(np.arange(horizon), rows)})
    for level in matured.levels:
        frame[f"q{level}"] = matured.quantile(level).ravel()
    frame["point"] = matured.quantile(0.5).ravel()
    frame["y"] = matured.target.ravel()
    return frame


@pytest.mark.parametrize(
    ("name", "oracle", "factor"),
    [("mae", losses.mae, 1.0), ("bias", losses.bias, 1.0), ("smape", losses.smape, 200.0)],
)
def test_point_metrics_agree_with_utilsforecast(name: str, oracle: object, factor: float) -> None:
    matured = draw()
    wanted = oracle(as_frame(matured), models=["point"])["point"].mean() * factor
    assert METRICS[name](matured) == pytest.approx(wanted)


def test_rmse_agrees_with_utilsforecast() -> None:
    matured = draw(rows=1)
    assert METRICS["rmse"](matured) == pytest.approx(losses.rmse(as_frame(matured), models=["point"])["point"][0])


def test_mase_and_the_scale_agree_with_utilsforecast() -> None:
    matured = draw()
    history = np.random.default_rng(6).random((6, 50)).cumsum(axis=1)
    train = pd.DataFrame(
        {"unique_id": np.repeat(np.arange(6), 50), "ds": np.tile(np.arange(50), 6), "y": history.ravel()}
    )
    scaled = Matured(target=matured.target, quantiles=matured.quantiles, scale=seasonal_scale(history, 7))
    wanted = losses.mase(as_frame(matured), models=["point"], seasonality=7, train_df=train)["point"].mean()
    assert METRICS["mase"](scaled) == pytest.approx(wanted)


def test_pinball_interval_score_and_coverage_agree_with_scoringrules_and_utilsforecast() -> None:
    matured = draw()
    each = [scoringrules.quantile_score(matured.target, matured.quantile(q), q) for q in QUANTILE_LEVELS]
    assert METRICS["pinball"](matured) == pytest.approx(np.mean(each))
    assert METRICS["wql"](matured) == pytest.approx(2.0 * np.sum(each) / 13.0 / np.abs(matured.target).sum())
    score = scoringrules.interval_score(matured.target, matured.quantile(0.1), matured.quantile(0.9), 0.2)
    assert METRICS["interval_score_80"](matured) == pytest.approx(np.mean(score))
    frame = as_frame(matured).rename(columns={"q0.1": "m-lo-80", "q0.9": "m-hi-80"})
    assert METRICS["coverage_80"](matured) == pytest.approx(losses.coverage(frame, ["m"], 80)["m"].mean())


def test_scaled_quantile_loss_of_a_median_alone_is_mase() -> None:
    matured = draw(missing=0.2)
    median = Matured(target=matured.target, quantiles=matured.quantiles[..., 6:7], scale=matured.scale, levels=(0.5,))
    assert METRICS["sql"](median) == pytest.approx(METRICS["mase"](median))


def test_nothing_measured_is_nan_not_zero() -> None:
    matured = draw()
    nothing = Matured(target=np.full_like(matured.target, np.nan), quantiles=matured.quantiles, scale=matured.scale)
    assert all(math.isnan(score) for score in measure(nothing).values())
    no_rows = Matured(target=np.empty((0, 9)), quantiles=np.empty((0, 9, 13)), scale=np.empty(0))
    assert all(math.isnan(score) for score in measure(no_rows).values())
    no_scale = Matured(target=matured.target, quantiles=matured.quantiles, scale=np.array([0.0, np.nan] * 3))
    assert math.isnan(METRICS["mase"](no_scale))
    assert math.isnan(skill(1.0, math.nan))
    assert math.isnan(skill(1.0, 0.0))
    assert np.isnan(seasonal_scale(np.ones((2, 3)), 3)).all()
    assert np.isnan(seasonal_scale(np.full((1, 9), np.nan), 3)).all()


def test_only_observed_steps_count() -> None:
    whole, holed = draw(), draw(missing=0.3)
    seen = np.isfinite(holed.target)
    error = np.abs(whole.quantile(0.5) - whole.target)
    assert METRICS["mae"](holed) == pytest.approx(error[seen].mean())
    rows = [error[row][seen[row]].mean() / whole.scale[row] for row in range(6)]
    assert METRICS["mase"](holed) == pytest.approx(np.mean(rows))


def test_scores_by_hand() -> None:
    quantiles = np.array([[[1.0, 2.0, 4.0], [0.0, 0.0, 0.0]]])
    matured = Matured(target=np.array([[5.0, 0.0]]), quantiles=quantiles, scale=np.array([2.0]), levels=(0.1, 0.5, 0.9))
    scores = measure(matured)
    assert scores["mae"] == 1.5
    assert scores["bias"] == -1.5
    assert scores["mase"] == 0.75
    assert scores["smape"] == pytest.approx(0.5 * 200.0 * 3.0 / 7.0)
    assert scores["coverage_80"] == 0.5
    assert scores["width_80"] == 1.5
    assert Interval(0.8).score(matured).tolist() == [[pytest.approx(3.0 + 10.0), 0.0]]
    assert skill(0.75, 1.0) == 0.25


def test_seasonal_naive_scores_its_published_row_of_m4_hourly() -> None:
    if not M4.exists():
        pytest.skip(f"M4-Hourly is not at {M4}")
    train = pd.read_csv(M4 / "Hourly-train.csv", index_col=0).to_numpy(dtype=np.float64)  # (414, 960)
    target = pd.read_csv(M4 / "Hourly-test.csv", index_col=0).to_numpy(dtype=np.float64)  # (414, 48)
    length = np.isfinite(train).sum(axis=1)
    panel = build_panel(
        train[np.isfinite(train)],
        length,
        first_step=np.zeros(len(train), dtype=np.int64),
        series=np.zeros(len(train), dtype=np.int64),
        calendar=np.empty((0, 0)),
        calendar_start=0,
        context_length=336,
        horizon=48,
    )
    naive = build(ModelConfig(kind="seasonal_naive"))
    quantiles = predict(naive, panel, np.arange(len(train)), length)
    scores = measure(Matured(target=target, quantiles=quantiles, scale=seasonal_scale(train, 24)))
    assert scores["mase"] == pytest.approx(1.1932, abs=5e-5)
    assert scores["smape"] == pytest.approx(13.912, abs=5e-4)
