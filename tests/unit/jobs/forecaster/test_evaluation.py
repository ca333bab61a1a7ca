"""The whole path of a backtest, frame in and scores out, against an oracle, by hand and against utilsforecast.

y(t) = t, horizon 2, stride 1, 3 origins:    0 ........ n-4 | n-3  n-2  n-1
                                                  origin 1: |  ^    ^
                                                  origin 2:      |  ^    ^      and so on: nothing after the end
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from utilsforecast import losses

from jobs.forecaster.evaluation import MODEL, NAIVE, count_observed, hold_out
from jobs.forecaster.forecaster import Forecaster
from jobs.retraining.challenger import Fitted
from models.batch import Batch
from models.config import QUANTILE_NAMES, ModelConfig, TrainConfig
from models.fitting.training import FitReport
from pipeline.errors import ConfigError
from tests.unit.jobs.tiny import make_forecaster, make_frame, make_wave


class Oracle(nn.Module):
    """Knows that every series grows by 1 a step; sees the window like any network."""

    def __init__(self, horizon: int) -> None:
        super().__init__()
        self.config = ModelConfig(kind="seasonal_naive", context_length=12, horizon=horizon, season=4, segment=4)

    def forward(self, batch: Batch) -> Tensor:
        ahead = torch.arange(1, self.config.horizon + 1)
        path = batch.target[:, -1:] + ahead  # (B, H)
        return path[:, :, None].expand(-1, -1, len(self.config.quantile_levels))


class Broken(Oracle):
    """Answers NaN."""

    def forward(self, batch: Batch) -> Tensor:
        return super().forward(batch) * math.nan


@pytest.fixture
def fit_with(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Put a network in the place of the one that training would return."""

    def put(network: nn.Module) -> None:
        def fit_challenger(*_: Any, **__: Any) -> Fitted:
            report = FitReport(0, 0, 0.0, 0.0, "not trained", ())
            return Fitted(network, TrainConfig(), report, "from nothing", torch.device("cpu"))  # type: ignore[arg-type]

        monkeypatch.setattr("jobs.forecaster.fitting.fit_challenger", fit_challenger)

    return put


def growing() -> pd.DataFrame:
    return pd.concat(
        [
            make_frame(a=np.arange(61.0), b=np.arange(50.0) + 100.0),
            make_frame(c=np.arange(40.0) - 20.0, start="2025-11-03"),
        ]
    )


@pytest.mark.parametrize("common_time", [False, True])
@pytest.mark.parametrize("stride", [1, 2, 3, None])
@pytest.mark.parametrize("horizon", [1, 2, 4, 7, 13])
def test_an_oracle_scores_exactly_zero_over_the_whole_path(
    horizon: int, stride: int | None, common_time: bool, fit_with: Any
) -> None:
    fit_with(Oracle(horizon))
    forecaster = make_forecaster(horizon=horizon, training={"validation_steps": 1})
    result = forecaster.backtest(growing().sample(frac=1.0, random_state=2), 2, stride=stride, common_time=common_time)
    oracle, naive = result.scores.to_dict("records")
    assert [oracle[name] for name in ("mae", "mase", "smape", "wql", "sql", "bias")] == [0.0] * 6
    assert (oracle["coverage_80"], oracle["skill"]) == (1.0, 1.0)
    scored = result.forecasts.dropna(subset="value")
    late = scored["step"].map(lambda step: 4.0 * math.ceil(step / 4))  # naive errs by the seasons that it walks back
    assert naive["mae"] == pytest.approx(late.mean())
    assert naive["mase"] == pytest.approx(late.groupby([scored["series_id"], scored["origin"]]).mean().mean() / 4.0)
    assert oracle["targets"] == naive["targets"] == len(scored) > 0
    assert (result.by_step.query("forecaster == @MODEL")["mae"] == 0.0).all()
    assert (scored["q50"] == scored["value"]).all()


def test_targets_are_the_last_steps_of_each_series(fit_with: Any) -> None:
    fit_with(Oracle(2))
    result = make_forecaster(horizon=2, training={"validation_steps": 1}).backtest(growing(), 3, stride=1)
    frame = growing()
    for name, rows in result.forecasts.groupby("series_id"):
        known = frame[frame["series_id"] == name]
        assert sorted(rows["time"].unique()) == sorted(known["time"].iloc[-4:])
        assert rows.groupby("origin").size().tolist() == [2, 2, 2]
        merged = rows.merge(known, on="time", suffixes=("", "_known"))
        assert (merged["value"] == merged["value_known"]).all()


def test_nothing_at_or_after_the_first_origin_reaches_the_fit() -> None:
    frame = make_frame(a=make_wave(), b=make_wave(50, seed=2))
    forecaster = make_forecaster()
    one = forecaster.backtest(frame, 3)
    poisoned = frame.copy()
    late = frame.groupby("series_id").cumcount(ascending=False) < 12
    poisoned.loc[late, "value"] += 1000.0
    other = forecaster.backtest(poisoned, 3)
    assert one.forecaster.predict(frame).equals(other.forecaster.predict(frame))
    assert np.array_equal(one.evaluation.matured[MODEL].scale, other.evaluation.matured[MODEL].scale)


def test_a_backtest_forecasts_what_predict_does_with_the_frame_up_to_the_origin() -> None:
    frame = make_frame(a=make_wave(), b=make_wave(50, level=-5000.0, seed=2))
    result = make_forecaster(model={"series_dim": 8}).backtest(frame, 3, stride=2)
    for (name, origin), rows in result.forecasts.groupby(["series_id", "origin"]):
        known = frame[(frame["series_id"] == name) & (frame["time"] <= origin)]
        again = result.forecaster.predict(known)
        assert (again["time"].to_numpy() == rows["time"].to_numpy()).all()
        quantiles = list(QUANTILE_NAMES)
        assert again[quantiles].to_numpy() == pytest.approx(rows[quantiles].to_numpy(), rel=1e-5)


def test_common_time_cuts_a_series_that_ended_before_out_of_the_origins() -> None:
    result = make_forecaster().backtest(make_frame(a=make_wave(), ended=make_wave(30)), 2, common_time=True)
    assert set(result.forecasts["series_id"]) == {"a"}
    assert result.held_out.known.length.tolist() == [52, 30]


def test_seasonal_naive_is_scored_as_by_hand_and_as_by_utilsforecast() -> None:
    frame = make_frame(a=make_wave(57), b=make_wave(64, level=5.0, seed=2), c=make_wave(41, level=-9.0, seed=3))
    horizon, origins, season = 6, 3, 4
    result = make_forecaster(horizon=horizon).backtest(frame, origins, stride=5)
    score = result.scores.set_index("forecaster").loc[NAIVE]

    truths, trains, scaled, errors = [], [], [], []
    for name, rows in frame.groupby("series_id"):
        values = rows["value"].to_numpy()
        known = values[: len(values) - horizon - 5 * (origins - 1)]
        scale = np.abs(known[season:] - known[:-season]).mean()
        for back in range(origins):
            end = len(values) - horizon - 5 * back
            naive = np.array([values[end - season + step % season] for step in range(horizon)])
            truth = values[end : end + horizon]
            scaled.append(np.abs(naive - truth).mean() / scale)
            errors.append(np.abs(naive - truth))
            pair = {"unique_id": f"{name}@{back}"}
            truths.append(pd.DataFrame(pair | {"ds": np.arange(horizon), "y": truth, "naive": naive}))
            trains.append(pd.DataFrame(pair | {"ds": np.arange(len(known)), "y": known}))
    assert score["mase"] == pytest.approx(np.mean(scaled), rel=1e-5)
    assert score["mae"] == pytest.approx(np.concatenate(errors).mean(), rel=1e-5)

    table, train = pd.concat(truths), pd.concat(trains)
    mase = losses.mase(table, models=["naive"], seasonality=season, train_df=train)["naive"].mean()
    smape = 200.0 * losses.smape(table, models=["naive"])["naive"].mean()
    assert score["mase"] == pytest.approx(mase, rel=1e-5)
    assert score["smape"] == pytest.approx(smape, rel=1e-5)
    assert score["windows"] == origins * 3
    assert score["skill"] == 0.0


def test_both_are_scored_on_the_same_observed_targets_only() -> None:
    values = make_wave(80)
    values[-3] = np.nan
    values[[20, 21, 30]] = np.nan
    scores = make_forecaster().backtest(make_frame(a=values), 3).scores
    assert scores["targets"].tolist() == [11, 11]
    assert np.isfinite(scores.select_dtypes("number").to_numpy()).all()


def test_a_network_that_answers_nan_is_replaced_by_seasonal_naive(fit_with: Any) -> None:
    fit_with(Broken(4))
    scores = make_forecaster().backtest(make_frame(a=make_wave()), 2).scores
    assert scores["mae"].nunique() == 1
    assert scores["targets"].tolist() == [8, 8]


def test_the_reliability_table_counts_by_hand(fit_with: Any) -> None:
    fit_with(Oracle(4))
    result = make_forecaster().backtest(make_frame(a=np.arange(60.0)), 2)
    table = result.reliability
    assert table[table["forecaster"] == MODEL]["interval"].tolist() == [0.2, 0.4, 0.6, 0.8, 0.9, 0.95]
    assert (table[table["forecaster"] == MODEL]["held"] == 1.0).all()
    matured = result.evaluation.matured[NAIVE]
    low, high = matured.quantile(0.1), matured.quantile(0.9)
    held = ((low <= matured.target) & (matured.target <= high)).mean()
    assert table.query("forecaster == @NAIVE and interval == 0.8")["held"].item() == held


def test_a_constant_series_has_no_mase_but_is_scored_and_finite() -> None:
    scores = make_forecaster().backtest(make_frame(a=np.full(60, 7.0)), 2).scores
    assert scores["mase"].isna().all()
    assert scores["mae"].iloc[1] == 0.0
    assert scores["mae"].notna().all()


@pytest.mark.parametrize(
    ("length", "options", "words"),
    [
        (4, {"origins": 1}, "nothing to score: the longest series has 4 steps, a horizon of 4 and 1 origins 4 apart"),
        (8, {"origins": 3}, "too little history: the longest series has 0 steps to learn from"),
        (20, {"origins": 4}, "too little history: the longest series has 4 steps to learn from"),
        (60, {"origins": 0}, "origins and stride must be at least 1, not 0 and 4"),
        (60, {"stride": 0}, "origins and stride must be at least 1"),
    ],
)
def test_what_cannot_be_judged_is_said_in_one_line(length: int, options: dict[str, int], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make_forecaster().backtest(make_frame(a=make_wave(length)), **options)


@pytest.mark.parametrize(
    ("series", "length", "origins"), [(1, 20, 1), (1, 40, 2), (1, 48, 3), (1, 500, 31), (1, 5000, 64), (30, 5000, 4)]
)
def test_an_open_number_of_origins_looks_for_windows_within_a_quarter(series: int, length: int, origins: int) -> None:
    forecaster: Forecaster = make_forecaster()
    frame = make_frame(**{f"s{n}": np.arange(float(length)) for n in range(series)})
    panel = forecaster._lay_out(forecaster.read(frame))
    found = hold_out(panel, context=12, horizon=4, origins=None, stride=None, common_time=False)
    assert found.origins == origins
    assert len(found.pairs) == origins * series


def test_a_window_in_which_nothing_was_observed_is_not_scored() -> None:
    values = make_wave(80)
    values[50:68] = np.nan
    result = make_forecaster().backtest(make_frame(a=values), 4)
    assert result.held_out.pairs.ends.tolist() == [72, 76]  # 64 and 68 look back on twelve missing steps


def test_what_is_observed_is_counted_in_windows_of_each_series() -> None:
    forecaster = make_forecaster()
    panel = forecaster._lay_out(forecaster.read(make_frame(a=[1.0, np.nan, 3.0], b=[np.nan, 2.0, 3.0, 4.0])))
    rows, first, stop = np.array([0, 0, 1, 1, 1]), np.array([0, 1, -9, 0, 2]), np.array([3, 2, 2, -1, 4])
    assert count_observed(panel, rows, first, stop).tolist() == [2, 0, 1, 0, 2]
