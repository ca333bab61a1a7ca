"""The level and the unit of a series move its forecasts and nothing else, along every path from an event to a score.

Values are whole numbers of a power of two, so that float64 holds them at every level; levels are in units of the wave's
amplitude, up to 1e12.
"""

import json

import numpy as np
import pandas as pd
import pytest

from jobs.forecaster.forecaster import Forecaster
from jobs.upkeep.conformal import AgedSteps, Method, calibrate
from models.config import QUANTILE_NAMES
from models.metrics import Matured, measure
from models.metrics import seasonal_scale as scale_of_metrics
from pipeline.commands.backtest import shorten_table
from pipeline.commands.display import show_near
from pipeline.database.jobs.judged import Observed
from pipeline.database.jobs.scales import find_scales
from pipeline.forecasting.scorer import Scorer
from pipeline.forecasting.windows import Grid
from pipeline.messages import codec
from pipeline.records import Events, Floats, Forecasts
from pipeline.stream.observe import observe
from pipeline.stream.ring import RingStore
from tests.fakes import MemoryCalibrations, MemoryStore
from tests.unit.forecasting.test_scorer import HOURS, SETTINGS, Registry, scorer, scorer_of
from tests.unit.jobs.tiny import make_forecaster, make_frame

DIGITS = 6e-16  # of the largest number of a forecast: half a unit of the fifteenth digit
ROUNDED = 1.01e-5  # of the range of a forecast: two roundings to a unit of at most a hundred thousandth of it
LEVELS = (0.0, 1e3, 1e6, 1e9, 1e12)
AMPLITUDE = 1024.0
UNITS = (2.0**-40, 2.0**-10, 1.0, 2.0**40)  # about 1e-12 to 1e12
REAL = {  # level, amplitude, decimals
    "latitude": (52.1234567, 1e-6, 9),
    "mains frequency": (50.0, 1e-3, 6),
    "disk bytes": (5e12, 1e6, 0),
    "reservoir": (1e6, 0.1, 3),
    "register": (1e9, 0.1, 2),
}


def make_whole_wave(length: int, seed: int = 1) -> Floats:
    """A season of 4 with noise, whole numbers up to about AMPLITUDE."""
    noise = np.random.default_rng(seed).integers(-200, 200, length)
    return np.tile([0.0, 800.0, 0.0, -800.0], length // 4 + 1)[:length] + noise


def stream(one: Scorer, values: Floats) -> Forecasts:
    """Send a series' values as events, an hour apart, and forecast the window that is due."""
    count = len(values)
    hours = HOURS.time_of(np.arange(1_000, 1_000 + count))
    events = Events(
        partition=np.zeros(count, np.int64),
        series=["a"] * count,
        event_time=hours,
        value=values,
        observed=np.ones(count, np.bool_),
        offset=np.arange(count),
        covariates=np.empty((count, 0)),
    )
    grid = Grid(HOURS, SETTINGS.series)
    _, due = observe(events, RingStore.of(grid), grid, MemoryStore().recent)
    return one.score([due], now=0)


def printed(made: Forecasts) -> Floats:
    """The quantiles (H, Q) in the message of the only forecast."""
    [(_, _, value, _)] = codec.write_forecasts(made, "in", "h")
    return np.array(json.loads(value)["quantiles"])


@pytest.fixture(params=["champion", "seasonal naive"])
def serving(request: pytest.FixtureRequest) -> Scorer:
    registry = Registry()
    if request.param == "champion":
        registry.promote(1)
    one = scorer(registry)
    one.refresh(0)
    return one


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("unit", UNITS)
def test_a_published_message_is_the_same_at_any_level_and_in_any_unit(
    serving: Scorer, level: float, unit: float
) -> None:
    wave = make_whole_wave(24)
    plain = printed(stream(serving, wave))
    made = stream(serving, unit * (wave + level * AMPLITUDE))
    moved = printed(made) - unit * level * AMPLITUDE
    last_place = unit * np.spacing((level + 10.0) * AMPLITUDE)
    assert (
        np.abs(moved - unit * plain).max()
        <= unit * ROUNDED * np.ptp(plain) + 2.0 * last_place + DIGITS * unit * level * AMPLITUDE
    )
    assert made.quality[0] in ("ok", "fallback")


@pytest.mark.parametrize("name", REAL)
def test_what_is_measured_in_the_last_digits_is_forecast_in_them(serving: Scorer, name: str) -> None:
    level, amplitude, decimals = REAL[name]
    wave = make_whole_wave(24) / AMPLITUDE
    values = np.round(level + amplitude * wave, decimals)
    quantiles = printed(stream(serving, values))
    plain = printed(stream(serving, wave))
    rounding = 0.5 * 10.0**-decimals / amplitude + np.spacing(level) / amplitude
    width = float((plain[:, -1] - plain[:, 0]).max())
    assert np.abs((quantiles - level) / amplitude - plain).max() <= 50.0 * rounding + 1e-6 * width
    assert (np.diff(quantiles, axis=1) > 0.0).all(), "no two quantiles are rounded onto each other"


def test_a_register_that_counts_evenly_is_forecast_to_go_on_and_not_backwards(serving: Scorer) -> None:
    counts = np.arange(24) * 0.125
    plain = printed(stream(serving, counts))
    for level in (1e6, 1e9, 1e12):
        register = printed(stream(serving, level + counts))
        held = 4.0 * np.spacing(level) + DIGITS * level
        assert np.abs(register - level - plain).max() <= ROUNDED * np.ptp(plain) + held


@pytest.mark.parametrize(("level", "amplitude", "quality"), [(1e9, 1e-3, "ok"), (1.0, 1e-14, "degraded")])
def test_what_float64_cannot_hold_is_degraded(level: float, amplitude: float, quality: str) -> None:
    registry = Registry()
    registry.promote(1)
    one = scorer(registry)
    one.refresh(0)
    values = level + amplitude * make_whole_wave(24) / AMPLITUDE
    assert stream(one, values).quality == [quality]
    assert stream(one, np.full(24, level)).quality == ["ok"], "a constant is held"
    frame = make_frame(a=np.tile(values, 3))
    forecast = make_forecaster().fit(make_frame(a=make_whole_wave(60))).predict(frame)
    assert set(forecast["quality"]) == {quality}


@pytest.mark.parametrize("loss", ["mae", "pinball"])
def test_a_fit_a_forecast_and_a_backtest_are_the_same_at_any_level(loss: str) -> None:
    # The relative term of pinball looks at the level, as sMAPE does; far from 0 it is nothing.
    levels = LEVELS if loss == "mae" else LEVELS[2:]
    found = []
    for level in levels:
        frame = make_frame(a=make_whole_wave(60) + level * AMPLITUDE, b=make_whole_wave(50, seed=2) - level * AMPLITUDE)
        forecaster: Forecaster = make_forecaster(training={"loss": loss}).fit(frame)
        forecast = forecaster.predict(frame)
        quantiles = forecast[list(QUANTILE_NAMES)].to_numpy()
        sign = np.where(forecast["series_id"] == "a", 1.0, -1.0)[:, None]
        scores = forecaster.backtest(frame, 2).scores.set_index("forecaster")
        assert np.isfinite(scores[["mase", "sql"]]).all(axis=None)
        found.append((quantiles - sign * level * AMPLITUDE, scores[["mase", "sql", "mae", "coverage_80"]].to_numpy()))
    for level, (quantiles, scores) in zip(levels[1:], found[1:], strict=True):
        rounded = 10.0 if level == LEVELS[-1] else 1.0  # the data themselves are to 1e-4 of the amplitude there
        np.testing.assert_allclose(quantiles, found[0][0], atol=2e-3 * rounded * AMPLITUDE)
        np.testing.assert_allclose(scores, found[0][1], rtol=5e-3 * rounded)


@pytest.mark.parametrize("unit", UNITS)
def test_a_fit_is_the_same_in_any_unit(unit: float) -> None:
    frame = make_frame(a=make_whole_wave(60), b=make_whole_wave(50, seed=2))
    scaled = frame.assign(value=unit * frame["value"])
    plain, other = (make_forecaster().fit(each).predict(each)[list(QUANTILE_NAMES)] for each in (frame, scaled))
    np.testing.assert_allclose(other.to_numpy() / unit, plain.to_numpy(), rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("unit", UNITS)
def test_scores_do_not_depend_on_the_level(level: float, unit: float) -> None:
    random = np.random.default_rng(5)
    quantiles = np.sort(random.integers(-1000, 1000, (6, 9, 13)), axis=-1).astype(np.float64)
    target = random.integers(-1000, 1000, (6, 9)).astype(np.float64)
    history = np.stack([make_whole_wave(60, seed) for seed in range(6)])

    def scored(shift: float, by: float) -> dict[str, float]:
        scale = scale_of_metrics(by * (history + shift), 4)
        return measure(Matured(target=by * (target + shift), quantiles=by * (quantiles + shift), scale=scale))

    plain, moved = scored(0.0, 1.0), scored(level * AMPLITUDE, unit)
    for name in ("mase", "sql", "coverage_80", "coverage_95"):
        assert moved[name] == pytest.approx(plain[name], rel=1e-12), name
    for name in ("mae", "rmse", "bias", "pinball", "width_80", "interval_score_80"):
        assert moved[name] / unit == pytest.approx(plain[name], rel=1e-9), name


def test_the_scale_of_a_day_does_not_depend_on_the_level_and_rounding_is_none() -> None:
    hour, wave = 3_600_000_000, make_whole_wave(60)

    def scale(values: Floats) -> float:
        observed = Observed(hour * np.arange(len(values)), values)
        return float(find_scales(observed, 4, 3600.0, np.array([len(values) * hour]))[0])

    for level in LEVELS:
        assert scale(wave + level * AMPLITUDE) == scale(wave)
    noisy = np.where(np.arange(60) % 7 == 0, 0.1 + 0.2, 0.3)
    assert scale(noisy) == scale_of_metrics(noisy[None], 4)[0] == 0.0


@pytest.mark.parametrize("level", LEVELS)
def test_calibration_does_not_depend_on_the_level(level: float) -> None:
    random = np.random.default_rng(3)
    count = 600
    quantiles = np.sort(random.integers(-1000, 1000, (count, 13)), axis=1).astype(np.float64)
    actual = random.integers(-1500, 1500, count).astype(np.float64)
    one, age = np.ones(count, np.int64), np.arange(count)[::-1]
    method = Method(window=600, minimum=50, half_life=600)
    none = np.ones((1, 13))
    plain = calibrate(AgedSteps(one, one, age, actual, quantiles), none, method)
    shift = level * AMPLITUDE
    moved = calibrate(AgedSteps(one, one, age, actual + shift, quantiles + shift), none, method)
    np.testing.assert_array_equal(moved.factors, plain.factors)
    assert moved.method == plain.method


def test_a_corrected_forecast_does_not_depend_on_the_level() -> None:
    registry, calibrations = Registry(), MemoryCalibrations()
    registry.promote(1)
    one = scorer_of(registry, calibrations)
    factors = np.linspace(0.5, 1.5, 13)
    factors[6] = 1.0
    calibrations.store(1, np.tile(factors, (4, 1)).tolist())
    one.refresh(0)
    wave = make_whole_wave(24)
    plain = stream(one, wave)
    assert plain.calibration.tolist() != [0]
    moved = stream(one, wave + 1e9 * AMPLITUDE)
    last_place = np.spacing(1e9 * AMPLITUDE)
    difference = np.abs(printed(moved) - 1e9 * AMPLITUDE - printed(plain))
    assert difference.max() <= ROUNDED * np.ptp(printed(plain)) + 3.0 * last_place


def test_a_table_of_forecasts_shows_the_digits_in_which_quantiles_differ() -> None:
    assert show_near([50.0, 51.5, 53.0]) == ["50", "51.5", "53"]
    assert show_near([52.1234557, 52.1234567, 52.1234577]) == ["52.1234557", "52.1234567", "52.1234577"]
    assert show_near([1e9, 1e9 + 0.1, 1e9 + 0.2]) == ["1000000000", "1000000000.1", "1000000000.2"]
    assert show_near([0.0, 0.0, 0.0]) == show_near([-0.0] * 3) == ["0"] * 3


def test_forecasts_of_a_backtest_keep_their_digits_in_a_file() -> None:
    level = 1e9 + 0.1 * np.arange(13)
    table = pd.DataFrame({name: [value] for name, value in zip(QUANTILE_NAMES, level, strict=True)})
    text = shorten_table(table).to_csv(index=False).splitlines()[1]
    assert text.split(",")[:3] == ["1000000000.0", "1000000000.1", "1000000000.2"]


@pytest.mark.parametrize("level", [0.0, 20.0, 1e9])
def test_a_tick_in_a_constant_window_moves_a_forecast_by_about_a_tick(level: float) -> None:
    forecaster = make_forecaster().fit(make_frame(a=make_whole_wave(60), b=make_whole_wave(50, seed=2)))
    tick = 2.0**-6
    for length, at in ((1, 50), (1, 58), (1, 59), (12, 54)):
        values = np.full(60, level)
        values[at : at + length] += tick
        forecast = forecaster.predict(make_frame(a=values))
        distance = np.abs(forecast[list(QUANTILE_NAMES)].to_numpy() - level).max()
        assert distance <= 3.0 * tick
        assert set(forecast["quality"]) == {"ok"}


@pytest.mark.parametrize("level", [0.0, 20.0, 1e9, 1e18])
@pytest.mark.parametrize("loss", ["pinball", "mse"])
def test_a_constant_panel_is_learned_and_forecast_as_that_constant(level: float, loss: str) -> None:
    frame = make_frame(a=np.full(60, level), b=np.full(50, level))
    forecaster = make_forecaster(training={"loss": loss}).fit(frame)
    forecast = forecaster.predict(frame)
    assert (forecast[list(QUANTILE_NAMES)] == level).all(axis=None)
    assert set(forecast["quality"]) == {"ok"}
    assert forecaster.backtest(frame, 2).scores["mae"].tolist() == [0.0, 0.0]
