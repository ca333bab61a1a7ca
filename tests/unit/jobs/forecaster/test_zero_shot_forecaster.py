"""The network of the wheel from Python: predictions without a fit, and fits that go on from its weights."""

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from jobs.forecaster.forecaster import Forecaster
from models.artifact import hash_artifact
from models.pretrained import read_pretrained
from pipeline.errors import ConfigError
from tests.unit.jobs.tiny import make_frame, make_wave

FEW = {"steps": 6, "refit": 0.0, "threads": 1, "batch": 16}


def wave(length: int = 120) -> pd.DataFrame:
    return make_frame(a=make_wave(length), b=make_wave(length, level=5.0, seed=2))


def pretrained(**options: object) -> Forecaster:
    return Forecaster.pretrained("1h", 4, **({"context": 48, "season": 4} | options))


def test_it_predicts_without_a_fit_and_follows_the_season() -> None:
    found = pretrained().predict(wave())
    assert len(found) == 8
    assert set(found["quality"]) == {"ok"}
    bands = found[["q025", "q10", "q50", "q90", "q975"]].to_numpy()
    assert (np.diff(bands, axis=1) >= 0).all()
    shape = found[found["series_id"] == "a"]["q50"].to_numpy() - 100.0
    assert np.abs(shape - [0.0, 10.0, 0.0, -10.0]).max() < 4.0


def test_the_frequency_is_found_and_then_kept() -> None:
    forecaster = Forecaster.pretrained(horizon=4)
    daily = make_frame(frequency="D", a=make_wave(80))
    assert len(forecaster.predict(daily)) == 4
    assert forecaster.frequency.text == "1D"
    assert forecaster.settings.series.season == 7


def test_a_window_of_fewer_than_eight_values_is_left_to_seasonal_naive() -> None:
    frame = make_frame(a=make_wave(7), b=make_wave(8), c=make_wave(100))
    quality = pretrained().predict(frame).groupby("series_id")["quality"].first().to_dict()
    assert quality == {"a": "fallback", "b": "degraded", "c": "ok"}


def test_saved_and_loaded_it_says_where_it_comes_from_and_forecasts_the_same(tmp_path: Path) -> None:
    forecaster, file = pretrained(), tmp_path / "model.safetensors"
    forecaster.save(file)
    again = Forecaster.load(file)
    assert "pretrained, as it came" in repr(again)
    pd.testing.assert_frame_equal(forecaster.predict(wave()), again.predict(wave()))
    assert again._trained().provenance["pretrained"]["sha256"] == hash_artifact(read_pretrained())
    with pytest.raises(ConfigError, match="not fitted yet"):
        Forecaster.pretrained().save(file)


@pytest.mark.parametrize("how", ["fit", "warm", "fine_tune"])
def test_every_fit_goes_on_from_its_weights(how: str, tmp_path: Path) -> None:
    still = FEW | {"learning_rate": 1e-9, "steps": 1, "warm_steps": 1}
    forecaster = pretrained(training=still)
    before = pretrained().predict(wave())["q50"].to_numpy()
    if how == "fine_tune":
        forecaster.fine_tune(wave())
    else:
        forecaster.fit(wave(), warm=how == "warm")
    assert np.allclose(forecaster.predict(wave())["q50"], before, atol=1e-3)
    assert "pretrained fitted on 2 series" in repr(forecaster)
    forecaster.save(tmp_path / "fitted")
    assert "pretrained fitted on 2 series" in repr(Forecaster.load(tmp_path / "fitted"))


def test_a_fit_on_too_little_leaves_it_as_it_came_and_warns() -> None:
    short = make_frame(a=make_wave(2))
    forecaster = pretrained(training=FEW)
    with pytest.warns(UserWarning, match="until then the forecasts are those of the pretrained network"):
        forecaster.fit(short)
    assert "pretrained, as it came" in repr(forecaster)
    assert set(forecaster.predict(wave())["quality"]) == {"ok"}


def test_a_fit_that_makes_it_worse_forecasts_as_it_came() -> None:
    wild = pretrained(training={"steps": 10, "learning_rate": 1000.0, "threads": 1}).fit(wave())
    pd.testing.assert_frame_equal(wild.predict(wave()), pretrained().predict(wave()))
    tame = pretrained(training={"steps": 10, "threads": 1}).fit(wave())
    assert not np.allclose(tame.predict(wave())["q50"], pretrained().predict(wave())["q50"], atol=1e-6)


def test_a_backtest_without_a_fit_scores_it_beside_seasonal_naive() -> None:
    found = pretrained().backtest(wave(), origins=3, zero_shot=True)
    assert found.report is None
    assert found.scores["forecaster"].tolist() == ["tidecast", "seasonal naive"]
    own, naive = found.scores["mase"]
    assert own < 1.2 * naive
    assert len(found.by_step) == 8
    other = Forecaster("1h", 4, context=48, season=4, model={"hidden": 8}).backtest(wave(), origins=3, zero_shot=True)
    assert other.scores["mase"].tolist() == [own, naive], "whatever network the settings would fit"


def test_a_backtest_with_a_fit_begins_at_its_weights() -> None:
    still = FEW | {"learning_rate": 1e-9, "steps": 1}
    fitted = pretrained(training=still).backtest(wave(), origins=2, refit=1)
    zero_shot = pretrained().backtest(wave(), origins=2, zero_shot=True)
    assert fitted.report is not None
    assert np.allclose(fitted.forecasts["q50"], zero_shot.forecasts["q50"], atol=1e-3)


def test_keys_that_could_do_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="shape of its weights: leave cell, hidden away"):
        pretrained(model={"hidden": 32, "cell": "lstm"})
    with pytest.raises(ConfigError, match="kind gru is not pretrained"):
        pretrained(model={"kind": "gru"})
    for training in ({"members": 2}, {"search": 3}):
        with pytest.raises(ConfigError, match="set members = 1 and search = 0"):
            pretrained(training=FEW | training).fit(wave())


def test_covariates_are_told_to_be_left_unread() -> None:
    frame = wave().assign(load=1.0)
    with pytest.warns(UserWarning, match="the pretrained network reads no covariates"):
        forecaster = pretrained(past_covariates=["load"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = forecaster.predict(frame)
    assert np.allclose(found["q50"], pretrained().predict(wave())["q50"])


def test_facts_of_its_making_are_json() -> None:
    json.dumps(pretrained()._trained().provenance, allow_nan=False)
