"""Counts are forecast at zero or above from Python; the floor is of a series, not of a deployment."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from jobs.forecaster.forecaster import Forecaster
from models.config import QUANTILE_NAMES
from models.network.heads import QuantileHead
from tests.unit.jobs.tiny import make_forecaster, make_frame

QUANTILES = list(QUANTILE_NAMES)
QUICK = {"steps": 10, "threads": 1}


@pytest.fixture
def mixed() -> pd.DataFrame:
    random = np.random.default_rng(0)
    return make_frame(
        counts=random.poisson(0.4, 60).astype(float),
        degrees=random.normal(0.0, 3.0, 60),
        rain=np.where(random.random(60) < 0.8, 0.0, random.gamma(1.0, 5.0, 60)),
    )


def widened(forecaster: Forecaster) -> Forecaster:
    """The forecaster with quantiles so far apart that those of a network alone are below zero."""
    for part in forecaster._trained().model.modules():
        if isinstance(part, QuantileHead):
            part.stretch.fill_(50.0)
    return forecaster


def lowest(forecast: pd.DataFrame) -> dict[str, float]:
    return forecast.groupby("series_id")[QUANTILES].min().min(axis=1).to_dict()


@pytest.mark.parametrize("options", [{}, {"loss": "mse"}, {"members": 2}], ids=["quantiles", "point", "ensemble"])
def test_counts_stay_at_zero_or_above_beside_degrees_that_do_not(
    options: dict[str, object], mixed: pd.DataFrame, tmp_path: Path
) -> None:
    forecaster = widened(make_forecaster(training=QUICK | options).fit(mixed))
    found = lowest(forecaster.predict(mixed))
    assert (found["counts"], found["rain"]) == (0.0, 0.0)
    assert found["degrees"] < 0.0
    forecaster.save(tmp_path / "model")
    assert lowest(Forecaster.load(tmp_path / "model").predict(mixed)) == found
    backtest = forecaster.backtest(mixed, 3).forecasts
    assert lowest(backtest)["counts"] >= 0.0


def test_degrees_that_were_not_negative_yet_may_become_so() -> None:
    autumn = 12.0 - np.arange(60) / 5.0 + np.random.default_rng(0).normal(0.0, 0.2, 60)
    frame = make_frame(degrees=np.maximum(autumn, 0.1), counts=np.maximum(autumn, 0.0).round())
    found = lowest(widened(make_forecaster(training=QUICK).fit(frame)).predict(frame))
    assert found["degrees"] < 0.0
    assert found["counts"] == 0.0


@pytest.mark.parametrize(("wish", "signs"), [("on", [False, False, False]), ("off", [True, True, True])])
def test_a_wish_is_for_all_series(wish: str, signs: list[bool], mixed: pd.DataFrame) -> None:
    forecaster = widened(make_forecaster(training=QUICK, model={"non_negative": wish}).fit(mixed))
    assert [value < 0.0 for value in lowest(forecaster.predict(mixed)).values()] == signs


def test_seasonal_naive_of_a_short_count_stays_at_zero_or_above() -> None:
    frame = make_frame(counts=[0.0, 3.0, 1.0])
    with pytest.warns(UserWarning, match="too little history"):
        forecast = make_forecaster().fit(frame).predict(frame)
    assert lowest(forecast)["counts"] == 0.0


def test_with_future_covariates_counts_stay_at_zero_or_above(mixed: pd.DataFrame) -> None:
    frame = mixed.assign(price=np.tile([1.0, 2.0, 3.0], 60))
    more = frame.groupby("series_id").tail(4)
    ahead = more.assign(time=more["time"] + pd.Timedelta(hours=4)).drop(columns="value")
    forecaster = widened(make_forecaster(training=QUICK, future_covariates=["price"]).fit(frame))
    assert lowest(forecaster.predict(frame, ahead))["counts"] == 0.0


def test_a_warm_fit_remembers_who_was_negative_and_takes_over_the_wish(mixed: pd.DataFrame) -> None:
    forecaster = make_forecaster(training=QUICK | {"recent": "20 hours", "warm_steps": 1}).fit(mixed)
    recent = mixed.assign(value=mixed["value"].abs())
    forecaster.fine_tune(recent)
    assert lowest(widened(forecaster).predict(recent))["degrees"] < 0.0
    chosen = forecaster.settings.model.model_copy(update={"non_negative": "on"})
    forecaster.settings = forecaster.settings.model_copy(update={"model": chosen})
    forecaster.fit(mixed, warm=True)
    assert min(lowest(widened(forecaster).predict(mixed)).values()) == 0.0
