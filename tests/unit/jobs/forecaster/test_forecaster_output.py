"""What a forecaster hands out beside forecasts: scores per series, refits, charts, words, and seasonal naive."""

import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from jobs.clock.outcome import Stage
from jobs.forecaster.evaluation import MODEL, NAIVE
from jobs.forecaster.forecaster import Forecaster
from models.metrics import METRICS
from pipeline import charts as chart
from pipeline.errors import ConfigError
from tests.unit.jobs.tiny import make_forecaster, make_frame, make_wave

QUICK = {"steps": 5, "threads": 1}


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return make_frame(a=make_wave(), b=make_wave(50, level=5000.0, seed=2))


def test_scores_by_series_are_those_of_its_own_windows(frame: pd.DataFrame) -> None:
    renamed = frame.rename(columns={"series_id": "unique_id", "time": "ds", "value": "y"})
    result = make_forecaster(training=QUICK).backtest(renamed, 3)
    table = result.by_series
    assert table[["forecaster", "unique_id"]].to_numpy().tolist() == [[who, s] for who in (MODEL, NAIVE) for s in "ab"]
    assert table["targets"].tolist() == [12] * 4
    alone = make_forecaster(training=QUICK).backtest(renamed[renamed["unique_id"] == "a"], 3)
    naive = table[(table["forecaster"] == NAIVE) & (table["unique_id"] == "a")].iloc[0]
    assert naive["mase"] == pytest.approx(alone.scores.iloc[1]["mase"])
    assert table[table["forecaster"] == MODEL]["mae"].mean() == pytest.approx(result.scores.iloc[0]["mae"])
    assert METRICS["wql"](result.evaluation.matured[MODEL]) == pytest.approx(result.scores.iloc[0]["wql"])


@pytest.mark.parametrize(("refit", "fits"), [(False, 1), (True, 4), (1, 4), (2, 2), (3, 2), (9, 1)])
def test_a_backtest_fits_anew_as_often_as_asked_and_knows_all_before_each_origin(
    refit: bool | int, fits: int, frame: pd.DataFrame
) -> None:
    stages: list[Stage] = []
    result = make_forecaster(training=QUICK).backtest(frame, 4, refit=refit, on_stage=stages.append)
    assert [stage.name for stage in stages].count("backtest") == fits
    assert result.scores["targets"].tolist() == [32, 32]
    every = int(refit) or 4
    last_cut = 4 * (4 - every * ((4 - 1) // every))
    known = result.forecaster._trained().provenance["lineage"]["train_to"]
    ends = frame.groupby("series_id")["time"].max()
    assert pd.Timestamp(known, unit="us") == ends.max() - last_cut * pd.Timedelta(hours=1)


def test_what_comes_after_an_origin_changes_no_forecast_of_a_refit_before_it(frame: pd.DataFrame) -> None:
    spoiled = frame.copy()
    late = spoiled.groupby("series_id").cumcount(ascending=False) < 4  # the targets of the last origin
    spoiled.loc[late, "value"] = 1e6
    own, other = (make_forecaster(training=QUICK).backtest(each, 3, refit=True) for each in (frame, spoiled))
    quantiles = [result.evaluation.matured[MODEL].quantiles for result in (own, other)]
    assert np.array_equal(*quantiles)


def test_later_fits_begin_as_the_mode_says_and_without_refits_it_is_left_out(frame: pd.DataFrame) -> None:
    warm = {"mode": "warm", "warm_steps": 2, "refit": 0.0} | QUICK
    stages: list[Stage] = []
    make_forecaster(training=warm).backtest(frame, 3, refit=True, on_stage=stages.append)
    assert [stage.total for stage in stages if stage.name == "fit" and not stage.done] == [5, 2, 2]
    with pytest.warns(UserWarning, match=r"training\.mode = 'warm' is left out") as caught:
        result = make_forecaster(training=warm).backtest(frame, 3)
    assert result.notes == (str(caught[0].message),)
    assert caught[0].filename == __file__


def test_a_refit_that_is_no_number_of_origins_is_refused(frame: pd.DataFrame) -> None:
    with pytest.raises(ConfigError, match="refit -1 must be True, False or how many origins apart"):
        make_forecaster().backtest(frame, 3, refit=-1)


@pytest.mark.parametrize("length", [1, 2, 4, 5])
def test_what_is_too_short_to_train_on_is_forecast_by_seasonal_naive(length: int, tmp_path: Path) -> None:
    frame = make_frame(a=make_wave(length), b=make_wave(1))
    with pytest.warns(UserWarning, match="too little history: .*; until then the forecasts are seasonal naive's"):
        forecaster = make_forecaster().fit(frame)
    forecast = forecaster.predict(frame)
    assert set(forecast["quality"]) == {"fallback"}
    assert len(forecast) == 8
    value = frame[frame["series_id"] == "a"]["value"].to_numpy()
    assert forecast["q50"].iloc[0] == pytest.approx(value[-4] if length >= 4 else value[-1], rel=1e-6)
    forecaster.save(tmp_path / "model")
    assert Forecaster.load(tmp_path / "model").predict(frame).equals(forecast)
    assert repr(forecaster) == "Forecaster('1h', horizon=4, context=12: seasonal naive)"


def test_the_warning_names_the_callers_line() -> None:
    with pytest.warns(UserWarning, match="too little history") as caught:
        make_forecaster().fit(make_frame(a=make_wave(3)))
    assert {warning.filename for warning in caught} == {__file__}


def test_short_series_beside_long_ones_are_forecast_by_the_network(frame: pd.DataFrame) -> None:
    mixed = pd.concat([frame, make_frame(short=[7.0, 8.0], shorter=[3.0])])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        forecast = make_forecaster(training=QUICK).fit(mixed).predict(mixed)
    quality = forecast.groupby("series_id")["quality"].first().to_dict()
    assert quality == {"a": "ok", "b": "ok", "short": "degraded", "shorter": "degraded"}


def test_too_little_to_go_on_with_keeps_the_weights_in_hand(frame: pd.DataFrame) -> None:
    forecaster = make_forecaster(training=QUICK).fit(frame)
    before = forecaster.predict(frame)
    with pytest.raises(ConfigError, match="too little history"):
        forecaster.fine_tune(make_frame(a=make_wave(4)))
    assert forecaster.predict(frame).equals(before)


def test_words_about_a_forecaster_and_a_backtest_are_one_line(frame: pd.DataFrame) -> None:
    forecaster = make_forecaster(training=QUICK)
    assert repr(forecaster) == "Forecaster('1h', horizon=4, context=12: not fitted)"
    forecaster.fit(frame)
    assert repr(forecaster) == "Forecaster('1h', horizon=4, context=12: attention fitted on 2 series)"
    said = repr(forecaster.backtest(frame, 3))
    assert said.startswith("Backtest(2 series, 6 windows, MASE ")
    assert len(said) < 100


def test_charts_are_figures_and_files(frame: pd.DataFrame, tmp_path: Path) -> None:
    matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    backend = matplotlib.get_backend()
    forecaster = make_forecaster(training=QUICK).fit(frame)
    result = forecaster.backtest(frame, 3)
    for what in ("forecasts", "steps", "reliability"):
        file = tmp_path / f"{what}.png"
        figure = result.plot(what, file=file)
        assert file.read_bytes().startswith(b"\x89PNG")
        assert len(figure.axes) == (2 if what == "forecasts" else 1)
    drawn = forecaster.plot(frame, series=["b"], file=tmp_path / "b.svg")
    assert [axis.get_title(loc="left") for axis in drawn.axes] == ["b"]
    lines = {line.get_label(): line.get_ydata() for line in drawn.axes[0].lines}
    assert np.allclose(lines["median"], forecaster.predict(frame).query("series_id == 'b'")["q50"])
    assert np.allclose(lines["observed"], frame.query("series_id == 'b'")["value"].tail(8))
    assert "actual" not in lines
    assert matplotlib.get_backend() == backend
    with pytest.raises(ConfigError, match="series c: there is no forecast of it to draw"):
        forecaster.plot(frame, series=["c"])
    with pytest.raises(ConfigError, match="there is no chart 'fans': use forecasts, steps or reliability"):
        result.plot("fans")
    with pytest.raises(ConfigError, match="the chart cannot be written to"):
        result.plot(file=tmp_path / "nowhere" / "chart.png")


def test_without_matplotlib_a_chart_says_what_to_install(frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match="charts need matplotlib: pip install"):
        chart.load_matplotlib()
