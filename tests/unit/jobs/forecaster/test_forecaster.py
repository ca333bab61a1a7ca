"""The Python interface: fit, predict, save, load; every kind of input ends in finite forecasts or one line."""

import json
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
import torch

from jobs.forecaster.forecaster import Forecaster
from models.artifact import pack
from models.config import QUANTILE_NAMES
from models.predict import predict
from pipeline.errors import ConfigError
from pipeline.forecasting.windows import usual_context
from pipeline.grid.frequency import Frequency
from pipeline.settings import ModelSettings
from tests.unit.jobs.tiny import MODEL, TRAINING, make_forecaster, make_frame, make_wave

QUANTILES = list(QUANTILE_NAMES)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return make_frame(a=make_wave(), b=make_wave(50, level=5000.0, seed=2))


@pytest.fixture(scope="module")
def fitted(frame: pd.DataFrame) -> Forecaster:
    return make_forecaster().fit(frame)


def assert_forecast(forecast: pd.DataFrame, rows: int) -> None:
    quantiles = forecast[QUANTILES].to_numpy()
    assert quantiles.shape == (rows, 13)
    assert np.isfinite(quantiles).all()
    assert (np.diff(quantiles, axis=1) >= 0.0).all()


def test_a_forecast_is_a_long_frame_from_each_series_own_end(fitted: Forecaster, frame: pd.DataFrame) -> None:
    forecast = fitted.predict(frame)
    assert list(forecast.columns) == ["series_id", "time", "origin", "step", *QUANTILES, "quality"]
    assert_forecast(forecast, 8)
    ends = frame.groupby("series_id")["time"].max()
    for name, rows in forecast.groupby("series_id"):
        assert rows["step"].tolist() == [1, 2, 3, 4]
        assert (rows["origin"] == ends[name]).all()
        assert (rows["time"] == ends[name] + rows["step"] * pd.Timedelta(hours=1)).all()
    assert set(forecast["quality"]) == {"ok"}


def test_a_forecast_is_that_of_the_services_own_window_and_network(fitted: Forecaster, frame: pd.DataFrame) -> None:
    panel = fitted._lay_out(fitted.read(frame))
    panel.series[:] = torch.tensor([1, 2])
    expected = predict(fitted._trained().model, panel, np.array([0, 1]), panel.length.numpy())
    assert np.array_equal(fitted.predict(frame)[QUANTILES].to_numpy(), expected.reshape(8, 13))


def test_rows_in_any_order_and_any_names_give_the_same_model_and_forecast(
    fitted: Forecaster, frame: pd.DataFrame
) -> None:
    nixtla = frame.rename(columns={"series_id": "unique_id", "time": "ds", "value": "y"})
    mixed = nixtla.sample(frac=1.0, random_state=3)
    forecast = make_forecaster().fit(mixed).predict(mixed)
    assert list(forecast.columns[:2]) == ["unique_id", "ds"]
    assert np.array_equal(forecast[QUANTILES], fitted.predict(frame)[QUANTILES])


def test_other_names_are_given(fitted: Forecaster, frame: pd.DataFrame) -> None:
    renamed = frame.rename(columns={"series_id": "meter", "time": "at", "value": "kwh"})
    named = make_forecaster(columns={"series_id": "meter", "time": "at", "value": "kwh"}).fit(renamed)
    assert np.array_equal(named.predict(renamed)[QUANTILES], fitted.predict(frame)[QUANTILES])


def test_times_come_back_in_the_zone_that_they_had(fitted: Forecaster, frame: pd.DataFrame) -> None:
    berlin = frame.assign(time=frame["time"].dt.tz_localize("UTC").dt.tz_convert("Europe/Berlin"))
    forecast, plain = fitted.predict(berlin), fitted.predict(frame)
    assert str(forecast["time"].dt.tz) == "Europe/Berlin"
    assert plain["time"].dt.tz is None
    assert (forecast["time"].dt.tz_convert("UTC").dt.tz_localize(None) == plain["time"]).all()
    assert np.array_equal(forecast[QUANTILES], plain[QUANTILES])


@pytest.mark.parametrize(
    ("zone", "comes_back"),
    [(None, "None"), ("UTC", "UTC"), ("Etc/GMT-2", "UTC+02:00"), ("America/St_Johns", "UTC-03:30")],
)
def test_texts_with_one_offset_come_back_with_it(
    fitted: Forecaster, frame: pd.DataFrame, zone: str | None, comes_back: str
) -> None:
    local = frame["time"] if zone is None else frame["time"].dt.tz_localize("UTC").dt.tz_convert(zone)
    forecast, plain = fitted.predict(frame.assign(time=local.astype(str))), fitted.predict(frame)
    for name in ("time", "origin"):
        assert str(forecast[name].dt.tz) == comes_back
        instants = forecast[name] if zone is None else forecast[name].dt.tz_convert("UTC").dt.tz_localize(None)
        assert (instants == plain[name]).all()


def test_texts_over_a_change_to_summer_time_come_back_in_utc_with_a_warning(frame: pd.DataFrame) -> None:
    local = pd.date_range("2026-03-28", periods=60, freq="h", tz="Europe/Berlin")
    texts = pd.DataFrame({"series_id": "a", "time": local.astype(str), "value": make_wave(60)})
    with pytest.warns(UserWarning, match=r"more than one offset \(UTC\+01:00, UTC\+02:00\): they come back in UTC"):
        readings = make_forecaster().read(texts)
    assert str(readings.zone) == "UTC"
    assert readings.history.observed_at[0] == local[0].timestamp() * 1e6


def test_the_unit_and_the_oldest_time_are_given_and_saved(frame: pd.DataFrame, tmp_path: Path) -> None:
    old = frame.assign(time=(frame["time"] - pd.Timestamp("2026-01-01") + pd.Timestamp("1970-01-01")).astype("int64"))
    old["time"] //= 10**9 if "ns" in str(frame["time"].dtype) else 10**6
    with pytest.raises(ConfigError, match="data row 1: time the number 0 is 1970"):
        make_forecaster().fit(old)
    fitted = make_forecaster(time_unit="s", oldest_time="1970-01-01").fit(old)
    fitted.save(tmp_path / "model")
    loaded = Forecaster.load(tmp_path / "model")
    assert loaded.settings == fitted.settings
    assert loaded.predict(old)["time"].min().year == 1970
    for wrong in ({"time_unit": "m"}, {"oldest_time": "1850-01-01"}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            make_forecaster(**wrong)


def test_saved_and_loaded_it_forecasts_bit_for_bit_without_the_data(
    fitted: Forecaster, frame: pd.DataFrame, tmp_path: Path
) -> None:
    file = tmp_path / "model.safetensors"
    sha256 = fitted.save(file)
    loaded = Forecaster.load(file, sha256=sha256)
    assert loaded.predict(frame).equals(fitted.predict(frame))
    assert loaded.settings == fitted.settings
    assert (loaded.columns, loaded.save(tmp_path / "again")) == (fitted.columns, sha256)
    assert str(5000.0).encode() not in file.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "model.safetensors"]


def test_the_same_seed_gives_the_same_model_and_another_seed_another(frame: pd.DataFrame, fitted: Forecaster) -> None:
    again, other = make_forecaster().fit(frame), make_forecaster(training={"seed": 1}).fit(frame)
    assert again.predict(frame).equals(fitted.predict(frame))
    assert not other.predict(frame).equals(fitted.predict(frame))


def test_monthly_series_are_forecast_on_months() -> None:
    frame = make_frame(frequency="MS", start="2015-01-01", sales=make_wave(72), short=make_wave(30, seed=2))
    forecaster = Forecaster("MS", 6, model=MODEL, training=TRAINING)
    assert (forecaster.settings.series.season, forecaster.settings.series.context) == (12, 48)
    result = forecaster.backtest(frame, 2)
    assert result.scores["targets"].tolist() == [24, 24]
    forecast = forecaster.fit(frame).predict(frame)
    assert_forecast(forecast, 12)
    sales = forecast[forecast["series_id"] == "sales"]
    assert sales["time"].tolist() == pd.date_range("2021-01-01", periods=6, freq="MS").tolist()


@pytest.mark.parametrize(("frequency", "season"), [("15min", 96), ("1D", 7), ("MS", 12), ("W-MON", 52)])
def test_the_frequency_is_found_by_fit_and_kept_by_save_and_load(frequency: str, season: int, tmp_path: Path) -> None:
    rows = make_frame(frequency=frequency, start="2018-01-01", a=make_wave(), b=make_wave(50, seed=2))
    forecaster = Forecaster(horizon=4, context=12, model=MODEL, training=TRAINING | {"steps": 3})
    assert not forecaster.found_frequency
    forecast = forecaster.fit(rows).predict(rows)
    assert (forecaster.frequency.text, forecaster.found_frequency) == (frequency, True)
    assert (forecaster.settings.series.frequency, forecaster.settings.series.season) == (frequency, season)
    last = rows[rows["series_id"] == "a"]["time"].iloc[-1]
    expected = pd.date_range(last, periods=5, freq=frequency)[1:]
    assert forecast[forecast["series_id"] == "a"]["time"].tolist() == expected.tolist()
    forecaster.save(tmp_path / "model")
    loaded = Forecaster.load(tmp_path / "model")
    assert (loaded.frequency.text, loaded.settings) == (frequency, forecaster.settings)
    assert loaded.predict(rows).equals(forecast)


def test_a_backtest_finds_the_frequency_and_leaves_the_forecaster_open_to_another(frame: pd.DataFrame) -> None:
    forecaster = Forecaster(horizon=4, season=4, context=12, model=MODEL, training=TRAINING | {"steps": 3})
    days = make_frame(frequency="1D", a=make_wave(), b=make_wave(50, level=5000.0, seed=2))
    assert forecaster.backtest(days, 2).frequency.text == "1D"
    assert forecaster.backtest(frame, 2).forecaster.frequency.text == "1h"
    with pytest.raises(ConfigError, match=r"no frequency yet: fit it, or give one, as Forecaster\('1h'\)"):
        _ = forecaster.frequency
    assert forecaster.fit(days).fit(frame).frequency.text == "1h"


def test_a_phase_that_was_given_is_kept_by_save_and_load(tmp_path: Path) -> None:
    days = make_frame("2026-01-01 06:00", "1D", a=make_wave())
    make_forecaster("1D", phase="6h", training={"steps": 3}).fit(days).save(tmp_path / "model")
    later = days.assign(time=days["time"] + pd.Timedelta("1h"))
    with pytest.warns(UserWarning, match="60 of 60 rows are between two steps of 1D, 6 h after"):
        again = Forecaster.load(tmp_path / "model").fit(later)
    assert again.frequency.phase == 6 * 3600


def test_a_fit_that_is_interrupted_leaves_the_forecaster_as_it_was(frame: pd.DataFrame) -> None:
    forecaster = Forecaster(None, 4, model=MODEL, training=TRAINING).fit(frame)
    before = forecaster.predict(frame)

    def interrupt(stage: object) -> None:
        raise KeyboardInterrupt

    days = frame.assign(time=pd.Timestamp("2020-01-01") + 24 * (frame["time"] - frame["time"].min()))
    with pytest.raises(KeyboardInterrupt):
        forecaster.fit(days, on_stage=interrupt)
    pd.testing.assert_frame_equal(forecaster.predict(frame), before)


def test_a_frame_of_another_frequency_is_not_forecast(fitted: Forecaster, tmp_path: Path) -> None:
    fitted.save(tmp_path / "model")
    for forecaster in (fitted, Forecaster.load(tmp_path / "model")):
        with pytest.raises(ConfigError, match="values are 1D apart, as series a, so that most steps of 1h are empty"):
            forecaster.predict(make_frame(frequency="1D", a=make_wave()))
        with pytest.raises(
            ConfigError, match=r"45 of 60 rows share a step of 1h .* as rows are 15min apart in series a"
        ):
            forecaster.predict(make_frame(frequency="15min", a=make_wave()))


@pytest.mark.parametrize("ids", [[1, 2], [1.0, 2.0], pd.array([1, 2], "Int64"), pd.Categorical([1, 2])])
def test_integers_are_the_series_that_the_model_knows_after_a_merge_too(ids: Any, tmp_path: Path) -> None:
    rows = make_frame(a=make_wave(), b=make_wave(60, level=5000.0, seed=2)).assign(series_id=np.repeat([1, 2], 60))
    forecaster = make_forecaster(training={"steps": 3}).fit(rows)
    again = rows.assign(series_id=pd.Series(ids).repeat(60).to_numpy())
    assert np.array_equal(forecaster.predict(again)[QUANTILES], forecaster.predict(rows)[QUANTILES])
    forecaster.save(tmp_path / "model")
    text = rows.assign(series_id=rows["series_id"].astype(str))
    for knows in (forecaster, Forecaster.load(tmp_path / "model")):
        with pytest.warns(
            UserWarning, match="names of series are text here and were numbers when the model was fitted"
        ):
            forecast = knows.predict(text)
        assert np.array_equal(forecast[QUANTILES], forecaster.predict(rows)[QUANTILES])
    with pytest.warns(UserWarning, match="series '01' is unknown to the model, which knows '1'; 1 more are like it"):
        forecaster.predict(text.assign(series_id="0" + text["series_id"]))


def test_how_rows_are_merged_is_said_once_and_kept(tmp_path: Path) -> None:
    quarters = make_frame(frequency="15min", a=make_wave(240))
    forecaster = make_forecaster(duplicates="last", training={"steps": 3}).fit(quarters)
    forecaster.save(tmp_path / "model")
    assert Forecaster.load(tmp_path / "model").predict(quarters).equals(forecaster.predict(quarters))


SERVED: dict[str, tuple[Callable[[], pd.DataFrame], int, str]] = {
    "a new series": (lambda: make_frame(new=make_wave(40, seed=9)), 4, "ok"),
    "one row": (lambda: make_frame(a=[100.0]), 4, "degraded"),
    "a constant": (lambda: make_frame(flat=np.full(30, 7.0)), 4, "ok"),
    "zeros": (lambda: make_frame(flat=np.zeros(30)), 4, "ok"),
    "gaps": (lambda: make_frame(a=make_wave()).iloc[[0, 5, 49, 50, 58]], 4, "degraded"),
    "missing at the end": (lambda: make_frame(a=[*make_wave(30), *[np.nan] * 5]), 4, "ok"),
    "huge": (lambda: make_frame(a=make_wave() * 1e26), 4, "ok"),
    "as large as may be": (lambda: make_frame(a=np.tile([1e30, -1e30], 20)), 4, "ok"),
    "minute": (lambda: make_frame(a=make_wave() * 1e-40), 4, "ok"),
    "one spike": (lambda: make_frame(a=[*make_wave(30), 1e30, 1.0]), 4, "ok"),
    "times beside the grid": (
        lambda: make_frame(a=make_wave(60)).assign(time=pd.date_range("2026-01-01", periods=60, freq="67min")),
        4,
        "ok",
    ),
}


@pytest.mark.filterwarnings("ignore:.* rows are between two steps")
@pytest.mark.parametrize("case", SERVED)
def test_a_forecast_is_finite_and_says_how_good_its_window_was(case: str, fitted: Forecaster) -> None:
    make, rows, quality = SERVED[case]
    forecast = fitted.predict(make())
    assert_forecast(forecast, rows)
    assert set(forecast["quality"]) == {quality}


@pytest.mark.filterwarnings("ignore:.* rows are between two steps")
@pytest.mark.parametrize("case", [case for case in SERVED if case != "one row"])
def test_what_can_be_forecast_can_be_learned_from(case: str) -> None:
    frame = pd.concat([SERVED[case][0](), make_frame(z=make_wave(40, seed=4))])
    assert_forecast(make_forecaster(training={"steps": 3}).fit(frame).predict(frame), 8)


@pytest.mark.parametrize("kind", get_args(ModelSettings.model_fields["kind"].annotation))
def test_every_kind_of_network_is_fitted_saved_and_judged(kind: str, frame: pd.DataFrame, tmp_path: Path) -> None:
    model = {"kind": kind} if kind == "pretrained" else {"kind": kind, "hidden": 8}
    forecaster = Forecaster("1h", 4, season=4, context=12, model=model, training=TRAINING | {"steps": 3})
    assert np.isfinite(forecaster.backtest(frame, 2).scores["mase"]).all()
    forecaster.fit(frame).save(tmp_path / "model")
    assert Forecaster.load(tmp_path / "model").predict(frame).equals(forecaster.predict(frame))


def test_a_model_of_the_registry_is_loaded_too(fitted: Forecaster, frame: pd.DataFrame, tmp_path: Path) -> None:
    model, _, series, _ = fitted._trained()
    (tmp_path / "model").write_bytes(pack(model, series=series, provenance={"frequency": "1h"}))
    assert Forecaster.load(tmp_path / "model").predict(frame).equals(fitted.predict(frame))


def test_a_horizon_longer_than_the_context_is_forecast() -> None:
    frame = make_frame(a=make_wave(90))
    assert_forecast(make_forecaster(horizon=30).fit(frame).predict(frame), 30)


def test_a_network_that_is_not_finite_falls_back_to_seasonal_naive(frame: pd.DataFrame) -> None:
    forecaster = make_forecaster(training={"steps": 1}).fit(frame)
    with torch.no_grad():
        for weight in forecaster._trained().model.parameters():
            weight.fill_(float("nan"))
    forecast = forecaster.predict(frame)
    assert_forecast(forecast, 8)
    assert set(forecast["quality"]) == {"fallback"}
    last = frame[frame["series_id"] == "a"]["value"].iloc[-4:].to_numpy()
    assert forecast[forecast["series_id"] == "a"]["q50"].to_numpy() == pytest.approx(last, rel=1e-6)


def test_a_series_that_is_silent_for_a_context_is_left_out_with_a_warning(fitted: Forecaster) -> None:
    frame = make_frame(a=make_wave(30), silent=[1.0, *[np.nan] * 20], dead=[np.nan, np.nan])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        forecast = fitted.predict(frame)
    assert set(forecast["series_id"]) == {"a"}
    assert [str(warning.message).split(":")[0] for warning in caught] == [
        "1 series have no observed value and are left out",
        "series silent",
    ]
    assert {Path(warning.filename).name for warning in caught} == {"test_forecaster.py"}


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "an unknown frequency": (lambda: Forecaster("often"), "'often' is not a pandas frequency"),
    "a number for a frequency": (lambda: Forecaster(-1), "'-1' is not a pandas frequency"),  # type: ignore[arg-type]
    "a horizon out of the grid": (
        lambda: (
            Forecaster("YS", 100, model=MODEL, training=TRAINING | {"validation_steps": 4})
            .fit(late := make_frame(frequency="YS", start="2100-01-01", a=make_wave(80)))
            .predict(late)
        ),
        "horizon",
    ),
    "a horizon of none": (lambda: Forecaster("1h", 0), "Forecaster: horizon: "),
    "a season of none": (lambda: Forecaster("1h", 4, season=0), "Forecaster: season: "),
    "a context of one": (lambda: Forecaster("1h", 4, context=1), "Forecaster: context: "),
    "an unknown policy": (lambda: Forecaster("1h", 4, duplicates="newest"), "Forecaster: duplicates: "),
    "an unknown part of a row": (lambda: Forecaster("1h", 4, columns={"values": "y"}), "columns: unknown key values"),
    "an unknown training key": (lambda: Forecaster("1h", 4, training={"epochs": 3}), "unknown key epochs"),
    "an unknown model key": (lambda: Forecaster("1h", 4, model={"width": 3}), "unknown key width"),
    "a wrong segment": (
        lambda: make_forecaster(model={"segment": 5}).fit(make_frame(a=make_wave())),
        "segment 5 does not divide context_length 12: use a segment of",
    ),
    "not fitted": (lambda: Forecaster().predict(make_frame(a=make_wave())), "not fitted yet"),
    "not fitted, saved": (lambda: Forecaster().save("model"), "not fitted yet"),
    "too little history for a backtest": (
        lambda: make_forecaster().backtest(make_frame(a=make_wave(9), b=[1.0]), 1),
        "too little history: the longest series has 5 steps to learn from, its last 4 choose the weights",
    ),
    "all missing": (lambda: make_forecaster().fit(make_frame(a=[np.nan] * 40)), "has no observed value"),
    "infinite": (lambda: make_forecaster().fit(make_frame(a=[*make_wave(), np.inf])), "row 61: value inf"),
    "a forgotten column": (
        lambda: make_forecaster().fit(make_frame(a=make_wave()).drop(columns="value")),
        "no column value or y",
    ),
    "no such device": (
        lambda: make_forecaster(training={"device": "tpu"}).fit(make_frame(a=make_wave())),
        "Forecaster: device: ",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_work_is_said_in_one_line(case: str) -> None:
    attempt, words = REFUSED[case]
    with pytest.raises(ConfigError, match=words) as refused:
        attempt()
    assert "\n" not in str(refused.value)


def test_series_without_any_value_in_their_context_cannot_be_forecast(fitted: Forecaster) -> None:
    with pytest.raises(ConfigError, match="silent: no observed value in the last 12 steps: there is nothing"):
        fitted.predict(make_frame(silent=[1.0, *[np.nan] * 20]))


def rewrite(artifact: bytes, **header: Any) -> bytes:
    """The artifact with keys of its own header replaced."""
    (size,) = struct.unpack("<Q", artifact[:8])
    outer = json.loads(artifact[8 : 8 + size])
    outer["__metadata__"]["tidecast"] = json.dumps(json.loads(outer["__metadata__"]["tidecast"]) | header)
    text = json.dumps(outer).encode()
    return struct.pack("<Q", len(text)) + text + artifact[8 + size :]


BROKEN: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda _: b"", "too few for their header"),
    "cut short": (lambda artifact: artifact[:-7], "weights cannot be read"),
    "something else": (lambda _: b"PK\x03\x04" * 50, "not an artifact"),
    "of another format": (lambda artifact: rewrite(artifact, format=99), "format 99 is unknown"),
    "of another network": (lambda artifact: rewrite(artifact, config={"hidden": 3}), "does not describe a model"),
    "without a frequency": (lambda artifact: rewrite(artifact, provenance={}), "does not say its frequency"),
    "with a frequency that is none": (
        lambda artifact: rewrite(artifact, provenance={"frequency": "often"}),
        "is not a pandas frequency",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_file_that_is_no_model_is_refused(case: str, fitted: Forecaster, tmp_path: Path) -> None:
    spoil, words = BROKEN[case]
    file = tmp_path / "model.safetensors"
    fitted.save(file)
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(ConfigError, match=words) as refused:
        Forecaster.load(file)
    assert "\n" not in str(refused.value)


def test_a_changed_file_is_refused_by_its_hash(fitted: Forecaster, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    sha256 = fitted.save(file)
    changed = bytearray(file.read_bytes())
    changed[-1] ^= 1
    file.write_bytes(changed)
    with pytest.raises(ConfigError, match="the bytes were changed"):
        Forecaster.load(file, sha256=sha256)


def test_files_that_cannot_be_read_or_written_are_named(fitted: Forecaster, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read from .*nowhere: No such file"):
        Forecaster.load(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"cannot be written to .*model: No such file"):
        fitted.save(tmp_path / "nowhere" / "model")


@pytest.mark.parametrize(
    ("frequency", "horizon", "context"),
    [("1h", 48, 336), ("1h", 336, 672), ("15min", 96, 1344), ("1min", 60, 1440), ("D", 7, 28), ("MS", 12, 48)],
)
def test_a_context_that_nobody_chose_comes_from_the_season(frequency: str, horizon: int, context: int) -> None:
    grid = Frequency(frequency)
    assert usual_context(grid, grid.season, horizon) == context
    assert Forecaster(frequency, horizon).settings.series.context == context
