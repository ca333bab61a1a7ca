"""The network of the wheel: any season, context and horizon, from eight values on, and better than seasonal naive."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from models.artifact import pack, unpack
from models.batch import Batch
from models.config import QUANTILE_LEVELS, ModelConfig
from models.metrics import Matured, measure, seasonal_scale
from models.network.aligned import AT_ONCE, COPIES, FEW, AlignedSeason, read_phases, read_window
from models.network.forecasters import build
from models.network.pretrained import PLACES, REACH, PretrainedForecaster, compress, find_long_season, share
from models.presets import LEAST_OBSERVED, NAIVE
from models.pretrained import load_pretrained, read_pretrained

MEDIAN = QUANTILE_LEVELS.index(0.5)


def of(values: np.ndarray, horizon: int) -> Batch:
    """Rows of values, NaN where not observed, as a batch."""
    target = torch.from_numpy(values.astype(float))
    observed = ~target.isnan()
    rows = len(values)
    return Batch.without_covariates(
        target.nan_to_num(0.0), observed, torch.zeros(rows, dtype=torch.int64), torch.zeros(rows, horizon, 0)
    )


def ready(context: int, horizon: int, season: int, **fields: object) -> PretrainedForecaster:
    """The network of the wheel for a shape."""
    shape = {"context_length": context, "horizon": horizon, "season": season}
    config = ModelConfig(kind="pretrained", **shape, **fields)  # type: ignore[arg-type]
    model = load_pretrained(config).model
    assert isinstance(model, PretrainedForecaster)
    return model


@torch.inference_mode()
def forecast(model: torch.nn.Module, values: np.ndarray, horizon: int) -> np.ndarray:
    quantiles: np.ndarray = model(of(values, horizon)).numpy()
    return quantiles


def test_the_file_is_small_and_nothing_but_weights() -> None:
    artifact = read_pretrained()
    loaded = unpack(artifact)
    assert len(artifact) < 4e6
    assert sum(weight.numel() for weight in loaded.model.parameters()) < 1e6
    assert {"steps", "windows", "seed"} <= loaded.provenance.keys()
    assert loaded.series == ()


@pytest.mark.parametrize("season", [1, 4, 7, 12, 24, 48, 52, 96, 288, 31])
@pytest.mark.parametrize("context", [20, 100, 336, 1024])
@pytest.mark.parametrize("horizon", [1, 30])
def test_one_network_forecasts_every_season_context_and_horizon(season: int, context: int, horizon: int) -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((3, context)).cumsum(axis=1)
    values[1, : context - LEAST_OBSERVED] = np.nan
    values[2, ::3] = np.nan
    quantiles = forecast(ready(context, horizon, season), values, horizon)
    assert quantiles.shape == (3, horizon, len(QUANTILE_LEVELS))
    assert np.isfinite(quantiles).all()
    assert (np.diff(quantiles, axis=2) >= 0.0).all()


def test_an_artifact_of_it_is_the_same_network() -> None:
    loaded = load_pretrained(ModelConfig(kind="pretrained", context_length=100, horizon=5, season=7))
    again = unpack(pack(loaded.model, series=loaded.series, provenance=loaded.provenance))
    values = np.random.default_rng(0).standard_normal((2, 100))
    assert np.array_equal(forecast(loaded.model, values, 5), forecast(again.model, values, 5))
    assert again.config == loaded.config


def test_its_shape_is_that_of_its_weights_whatever_is_asked_for() -> None:
    asked = ModelConfig(kind="attention", hidden=32, segment=7, context_length=21, horizon=3, series_dim=4)
    config = load_pretrained(asked).config
    assert (config.kind, config.hidden, config.segment) == ("pretrained", 96, 16)
    assert (config.context_length, config.horizon) == (21, 3)


def test_other_levels_than_it_was_trained_at_are_refused() -> None:
    with pytest.raises(ValueError, match="usual quantile levels"):
        load_pretrained(ModelConfig(quantile_levels=(0.1, 0.5, 0.9)))


@pytest.mark.parametrize("fields", [{"output": "point"}])
def test_what_it_cannot_be_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="kind pretrained forecasts quantiles"):
        ModelConfig(kind="pretrained", **fields)  # type: ignore[arg-type]


def test_its_decoder_is_its_own() -> None:
    with pytest.raises(ValueError, match="kind pretrained alone"):
        ModelConfig(kind="gru", decoder="candidates")


@pytest.mark.parametrize("horizon", [REACH + 1, 2 * REACH + 7])
def test_beyond_its_reach_it_rolls_on_and_widens(horizon: int) -> None:
    rng = np.random.default_rng(1)
    time = np.arange(512)
    values = np.sin(2 * np.pi * time / 24)[None] + 0.1 * rng.standard_normal((4, 512))
    quantiles = forecast(ready(512, horizon, 24), values, horizon)
    near = forecast(ready(512, REACH, 24), values, REACH)
    assert np.array_equal(quantiles[:, :REACH], near), "what is near does not depend on what is far"
    width = quantiles[:, :, 10] - quantiles[:, :, 2]  # (B, H)
    assert (width[:, REACH:] >= 0.99 * width[:, REACH - 1 : REACH]).all(), "what rolls on is never surer"
    assert np.isfinite(quantiles).all()


def seasonal(rng: np.random.Generator, rows: int, steps: int, season: int) -> np.ndarray:
    pattern = rng.standard_normal((rows, season))
    noise = 0.7 * rng.standard_normal((rows, steps))
    return 100.0 + pattern[:, np.arange(steps) % season] + noise


@pytest.mark.parametrize("season", [7, 12, 24, 48])
def test_it_beats_seasonal_naive_without_any_training(season: int) -> None:
    rng, horizon, context = np.random.default_rng(2), season, 10 * season
    values = seasonal(rng, 60, context + horizon, season)
    history, target = values[:, :context], values[:, context:]
    scale = seasonal_scale(history, season)
    naive = build(ModelConfig(kind=NAIVE, segment=1, context_length=context, horizon=horizon, season=season))
    found, floor = (
        measure(Matured(target=target, quantiles=forecast(model, history, horizon), scale=scale))
        for model in (ready(context, horizon, season), naive)
    )
    assert found["mase"] < 0.85 * floor["mase"]
    assert found["sql"] < 0.85 * floor["sql"]
    assert 0.65 < found["coverage_80"] < 0.93


def test_a_random_walk_is_forecast_by_its_last_value() -> None:
    rng = np.random.default_rng(3)
    values = rng.standard_normal((100, 1 + 256 + 10)).cumsum(axis=1)
    history, target = values[:, :257], values[:, 257:]
    quantiles = forecast(ready(257, 10, 1), history, 10)
    own = np.abs(target - quantiles[:, :, MEDIAN]).mean()
    assert own < 1.1 * np.abs(target - history[:, -1:]).mean()


def test_a_constant_series_stays_constant() -> None:
    quantiles = forecast(ready(100, 8, 7), np.full((1, 100), 42.0), 8)
    assert np.array_equal(quantiles, np.full_like(quantiles, 42.0))


def test_the_floor_of_what_cannot_be_negative_holds() -> None:
    values = np.random.default_rng(4).poisson(0.3, (5, 200)).astype(float)
    quantiles = forecast(ready(200, 12, 7, non_negative="auto"), values, 12)
    assert quantiles.min() >= 0.0


@pytest.mark.parametrize("season", [5, 24])
def test_a_copy_of_a_clean_season_is_the_season(season: int) -> None:
    time = np.arange(20 * season + season)
    values = np.random.default_rng(5).standard_normal(season)[time % season][None]
    length, horizon = 20 * season, season
    history = torch.from_numpy(values[:, :length]).float()
    found = AlignedSeason()(
        read_window(history, torch.ones_like(history, dtype=torch.bool)), season, tuple(range(horizon))
    )
    wanted = torch.from_numpy(values[:, length:]).float()[..., None].expand(-1, -1, COPIES)
    torch.testing.assert_close(found.copies, wanted, atol=1e-4, rtol=1e-4)
    assert found.valid.all()
    assert float(found.change) < 1e-6


def test_a_second_season_goes_with_the_first() -> None:
    assert [find_long_season(season) for season in (24, 48, 7, 12, 1)] == [168, 336, 364, 0, 0]


@pytest.mark.parametrize("rows", [1, FEW, FEW + 1, AT_ONCE + 3])
def test_the_loop_of_forecasts_has_the_states_of_the_layer_that_was_trained(rows: int) -> None:
    layer = AlignedSeason().recur
    read = torch.randn(rows, 5, layer.input_size)
    with torch.enable_grad():
        wanted = read_phases(layer, read).detach()
    with torch.inference_mode():
        found = read_phases(layer, read)
    assert torch.allclose(found, wanted, atol=1e-6)


def test_a_place_says_how_far_and_where_in_both_seasons_a_step_lies() -> None:
    known = torch.tensor([[True] * 6, [True, False, False, False, True, True]])
    model = ready(6, 9, 24)
    place = model.place(read_window(torch.ones(2, 6), known), (0, 8))
    assert place.shape == (2, 2, PLACES)
    for row, count in enumerate((6, 3)):
        for column, ahead in enumerate((1.0, 9.0)):
            far = [0.2 * math.log(ahead), 0.2 * math.log(ahead / count)]
            day, week = (2.0 * math.pi * (ahead - 1.0) / season for season in (24, 168))
            turns = [math.sin(day), math.cos(day), ahead / 96, math.sin(week), math.cos(week), ahead / 672]
            wanted = torch.tensor([*far, *turns, 0.1 * math.log(24)])
            assert torch.allclose(place[row, column], wanted, atol=1e-6)


def test_what_is_faster_is_the_same() -> None:
    logits = torch.randn(7, 5, 15) * 30.0
    assert torch.allclose(share(logits), logits.softmax(dim=-1), atol=1e-6)
    values = torch.tensor([-800.0, -3.0, -1e-4, 0.0, 1e-4, 0.5, 40.0, 2000.0])
    with torch.no_grad():
        assert torch.allclose(compress(values), values.asinh(), atol=1e-6)
