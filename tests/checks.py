"""What every forecaster must do, as one list: CHECKS run for every kind and every cell.

Each check takes a config whose model it builds itself; windows are random, with gaps, in the thousands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from models.artifact import pack, unpack
from models.batch import Batch
from models.config import ModelConfig
from models.network.covariates import StaticEmbedding
from models.network.forecasters import Forecaster, build
from models.presets import NAIVE

ROWS = 6
COVARIATES = ("past", "future", "static")


def make_batch(config: ModelConfig, *, rows: int = ROWS, seed: int = 1) -> Batch:
    """Random windows around 5000 with a season, a tenth of the steps missing, known and unknown series."""
    generator = torch.Generator().manual_seed(seed)
    step = torch.arange(config.context_length, dtype=torch.float64)
    wave = 900.0 * torch.sin(2.0 * torch.pi * step / config.season)
    target = 5000.0 + wave + 100.0 * torch.randn((rows, config.context_length), generator=generator)
    observed = torch.rand((rows, config.context_length), generator=generator) >= 0.1
    calendar = torch.randn((rows, config.horizon, config.calendar_features), generator=generator)
    series = torch.arange(rows) % (config.series + 1)
    past, future, static = config.covariates
    windows = Batch.without_covariates(target.where(observed, 0.0), observed, series, calendar)
    shapes = {
        "past": (rows, config.context_length, past),
        "future": (rows, config.context_length + config.horizon, future),
        "static": (rows, static),
    }
    random = {name: 20.0 + 5.0 * torch.randn(shape, generator=generator).double() for name, shape in shapes.items()}
    seen = {f"{name}_observed": torch.rand(shape, generator=generator) >= 0.1 for name, shape in shapes.items()}
    return replace(windows, **random, **seen)


def build_evaluated(config: ModelConfig) -> Forecaster:
    """The model in eval mode, its zero-initialised weights moved so that every part bears on the answer."""
    model = build(config, seed=3)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.05 * torch.randn(weight.shape, generator=generator))
    for part in model.modules():
        if isinstance(part, StaticEmbedding):
            static = 20.0 + 5.0 * torch.randn((50, len(part.mean)), generator=generator).double()
            part.learn(static, torch.ones_like(static, dtype=torch.bool))
    return model.eval()


@torch.no_grad()
def forecast(model: Forecaster, batch: Batch) -> Tensor:
    """Quantiles (B, H, Q)."""
    quantiles: Tensor = model(batch)
    return quantiles


def gives_ascending_quantiles_of_every_step(config: ModelConfig) -> None:
    quantiles = forecast(build_evaluated(config), make_batch(config))
    assert quantiles.shape == (ROWS, config.horizon, len(config.quantile_levels))
    assert quantiles.dtype == torch.float64
    assert bool((quantiles.diff(dim=-1) >= 0.0).all())
    assert bool((quantiles[..., -1] > quantiles[..., 0]).all())


def answers_in_the_users_units(config: ModelConfig) -> None:
    model, batch = build_evaluated(config), make_batch(config)
    quantiles = forecast(model, batch)
    for factor in (1000.0, 1e-20, 1e25):
        scaled = forecast(model, replace(batch, target=batch.target * factor))
        torch.testing.assert_close(scaled / factor, quantiles, rtol=1e-5, atol=1e-2)


def answers_at_any_level(config: ModelConfig) -> None:
    # Whole numbers, so that float64 holds them at every level: windows around 0 and around 1e15 are then the same, bit
    # for bit, in units of the window, and only the answer is rounded.
    model, batch = build_evaluated(config), make_batch(config)
    names = ("past", "future") if config.kind != NAIVE else ()
    parts = {name: getattr(batch, name).mul(100.0).round() for name in names}
    batch = replace(batch, target=batch.target.round(), **parts)
    quantiles = forecast(model, batch)
    for level in (1e6, 1e9, 1e12, -1e15):
        raised = {name: part + level for name, part in parts.items()}
        moved = forecast(model, replace(batch, target=batch.target + level, **raised)) - level
        torch.testing.assert_close(moved, quantiles, rtol=1e-12, atol=abs(level) * 2.0**-52)


def ignores_what_was_not_observed(config: ModelConfig) -> None:
    model, batch = build_evaluated(config), make_batch(config)
    poisoned = replace(batch, target=batch.target.where(batch.observed, 1e9))
    for name in COVARIATES:
        seen = getattr(batch, f"{name}_observed")
        poisoned = replace(poisoned, **{name: getattr(batch, name).where(seen, 1e9)})
    assert torch.equal(forecast(model, poisoned), forecast(model, batch))


def reads_every_covariate_whatever_its_unit(config: ModelConfig) -> None:
    model, batch = build_evaluated(config), make_batch(config)
    quantiles = forecast(model, batch)
    read = () if config.kind == NAIVE else COVARIATES
    for name in read[:2]:  # past and future; the scale of static ones is that of the training series
        scaled = forecast(model, replace(batch, **{name: 1000.0 * getattr(batch, name)}))
        torch.testing.assert_close(scaled, quantiles, rtol=1e-5, atol=1e-2)
    for name in read:
        values, seen = getattr(batch, name), getattr(batch, f"{name}_observed")
        for column in range(values.shape[-1]):
            other, hidden = values.clone(), seen.clone()
            other[..., column] = -other[..., column]
            hidden[..., column] = False
            for change in ({name: other}, {f"{name}_observed": hidden}):
                moved = (forecast(model, replace(batch, **change)) - quantiles).abs()
                there = seen[..., column].reshape(ROWS, -1).any(dim=1)  # (B,)
                assert bool((moved > 0.1).flatten(1).any(dim=1)[there].all()), f"{name} {column} has no bearing"


def reads_a_known_future_covariate_at_its_step(config: ModelConfig) -> None:
    model, batch = build_evaluated(config), make_batch(config)
    batch = replace(batch, future_observed=torch.ones_like(batch.future_observed))
    quantiles = forecast(model, batch)
    for column in range(batch.future.shape[2] if config.kind != NAIVE else 0):
        for step in range(config.horizon):
            # A swap with the step before it keeps the window's mean and deviation.
            future, at = batch.future.clone(), config.context_length + step
            future[:, [at - 1, at], column] = future[:, [at, at - 1], column]
            moved = (forecast(model, replace(batch, future=future)) - quantiles).abs()[:, step]
            assert bool((moved > 1e-3).any(dim=1).all()), f"step {step + 1} of column {column} has no bearing"


def forecasts_each_window_by_itself(config: ModelConfig) -> None:
    model, batch = build_evaluated(config), make_batch(config)
    together = forecast(model, batch)
    for row in range(ROWS):
        part = slice(row, row + 1)
        torch.testing.assert_close(forecast(model, batch.take(part)), together[part], rtol=1e-5, atol=1e-2)


def stays_finite_on_degenerate_windows(config: ModelConfig) -> None:
    batch = make_batch(config)
    observed, target = batch.observed.clone(), batch.target.clone()
    observed[0] = False  # nothing observed
    observed[1] = False
    observed[1, 3] = True  # one step
    observed[2], target[2] = True, 0.0  # zeros
    observed[3], target[3] = True, 7e30  # constant and huge
    observed[4], target[4] = True, 0.0
    target[4, -1] = 1e-38  # almost nothing
    beside: dict[str, Tensor] = {}
    for name in COVARIATES:  # nothing, zeros, huge, almost nothing
        values, seen = getattr(batch, name).clone(), getattr(batch, f"{name}_observed").clone()
        seen[1] = False
        values[2], values[3], values[4] = 0.0, 7e30, 1e-38
        beside |= {name: values, f"{name}_observed": seen}
    changed = replace(batch, target=target, observed=observed, **beside)
    quantiles = forecast(build_evaluated(config), changed)
    assert bool(quantiles.isfinite().all())
    assert bool((quantiles.diff(dim=-1) >= 0.0).all())
    assert not bool(quantiles[0].any()), "with nothing observed there is nothing to say but 0"


def sees_the_newest_step(config: ModelConfig) -> None:
    # The classic trap: decoding step 1 from an older state, which never sees the newest points. Swapping the last two
    # keeps the window's mean and deviation, so only a look at the newest step can tell.
    model, batch = build_evaluated(config), make_batch(config)
    target = batch.target.clone()
    target[:, -2:] = torch.tensor([4000.0, 6000.0])
    batch = replace(batch, observed=torch.ones_like(batch.observed))
    before = forecast(model, replace(batch, target=target))
    target[:, -2:] = torch.tensor([6000.0, 4000.0])
    after = forecast(model, replace(batch, target=target))
    steps = slice(None) if config.kind == "seasonal_naive" else slice(1)  # the naive uses it one season later
    assert bool(((before - after).abs() > 1.0)[:, steps].flatten(1).any(dim=1).all())


def serves_unknown_series(config: ModelConfig) -> None:
    model, batch = build_evaluated(config), make_batch(config)
    quantiles = forecast(model, replace(batch, series=torch.zeros_like(batch.series)))
    assert bool(quantiles.isfinite().all())


def reads_only_the_calendar_columns_of_its_config(config: ModelConfig) -> None:
    model, batch = build_evaluated(config), make_batch(config)
    more = torch.full((ROWS, config.horizon, 2), 1e9)
    longer = replace(batch, calendar=torch.cat((batch.calendar, more), dim=2))
    assert torch.equal(forecast(model, longer), forecast(model, batch))


def is_the_same_for_the_same_seed(config: ModelConfig) -> None:
    batch = make_batch(config)
    before = torch.get_rng_state()
    first, second = build(config, seed=9).eval(), build(config, seed=9).eval()
    assert torch.equal(torch.get_rng_state(), before), "building must not touch the caller's random state"
    assert torch.equal(forecast(first, batch), forecast(second, batch))


def survives_its_artifact_bit_for_bit(config: ModelConfig) -> None:
    model, batch = build_evaluated(config), make_batch(config)
    names = [f"meter-{row}" for row in range(config.series)]
    artifact = pack(model, series=names, provenance={"seed": 3})
    loaded = unpack(artifact)
    assert loaded.config == config
    assert loaded.series == tuple(names)
    assert loaded.provenance == {"seed": 3}
    assert torch.equal(forecast(loaded.model, batch), forecast(model, batch))
    assert pack(loaded.model, series=names, provenance={"seed": 3}) == artifact


CHECKS: tuple[Callable[[ModelConfig], None], ...] = (
    gives_ascending_quantiles_of_every_step,
    answers_in_the_users_units,
    answers_at_any_level,
    ignores_what_was_not_observed,
    reads_every_covariate_whatever_its_unit,
    reads_a_known_future_covariate_at_its_step,
    forecasts_each_window_by_itself,
    stays_finite_on_degenerate_windows,
    sees_the_newest_step,
    serves_unknown_series,
    reads_only_the_calendar_columns_of_its_config,
    is_the_same_for_the_same_seed,
    survives_its_artifact_bit_for_bit,
)
