"""Covariates: cut where they should be, scaled by themselves, and worth something."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.artifact import pack, unpack
from models.config import ModelConfig, TrainConfig
from models.fitting.fit import fit
from models.fitting.sampling import hide_some
from models.network.covariates import StaticEmbedding, scale_channels
from models.network.forecasters import Single, build
from models.panel import Covariates, Panel, build_panel
from tests.checks import make_batch

CPU = torch.device("cpu")
CONTEXT, HORIZON, SEASON = 24, 8, 12


def count_panel(lengths: list[int], *, context_length: int, horizon: int) -> Panel:
    """Past covariates say 10 and 20 times the step counted from 1, future ones 100 times, static ones the series."""
    past = np.concatenate([np.arange(length) + 1.0 for length in lengths])
    future = np.concatenate([np.arange(length + horizon) + 1.0 for length in lengths])
    return build_panel(
        past,
        np.array(lengths),
        first_step=np.zeros(len(lengths), np.int64),
        series=np.arange(len(lengths)),
        calendar=np.zeros((max(lengths) + horizon, 0)),
        calendar_start=0,
        context_length=context_length,
        horizon=horizon,
        covariates=Covariates(
            past[:, None] * [10.0, 20.0], future[:, None] * 100.0, np.arange(len(lengths))[:, None] + 1.0
        ),
    )


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=4), st.integers(1, 15), st.integers(1, 15))
def test_every_covariate_is_found_at_its_place_and_none_of_a_neighbour(
    lengths: list[int], context_length: int, horizon: int
) -> None:
    panel = count_panel(lengths, context_length=context_length, horizon=horizon)
    pairs = [(row, end) for row, length in enumerate(lengths) for end in range(1, length + 1)]
    rows, ends = torch.tensor(pairs).T
    batch = panel.cut(rows, ends, context_length=context_length, horizon=horizon)
    for index, (row, end) in enumerate(pairs):
        steps = np.arange(end - context_length, end + horizon) + 1  # counted from 1
        there = steps >= 1
        past = slice(context_length)
        assert batch.past_observed[index].tolist() == [[each, each] for each in there[past].tolist()]
        assert batch.past[index, :, 0].tolist() == np.where(there, 10 * steps, 0)[past].tolist()
        assert batch.past[index, :, 1].tolist() == np.where(there, 20 * steps, 0)[past].tolist()
        assert batch.future_observed[index, :, 0].tolist() == there.tolist()
        assert batch.future[index, :, 0].tolist() == np.where(there, 100 * steps, 0).tolist()
        assert batch.static[index].tolist() == [row + 1.0]
        assert batch.static_observed[index].tolist() == [True]
    target, _ = panel.future(rows, ends, horizon)
    assert target.shape == (len(pairs), horizon)


def test_missing_and_unrepresentable_covariates_are_masked() -> None:
    values = np.array([[1.0], [np.nan], [np.inf], [1e300]])
    panel = build_panel(
        np.ones(4),
        np.array([4]),
        first_step=np.array([0]),
        series=np.array([0]),
        calendar=np.empty((0, 0)),
        calendar_start=0,
        context_length=4,
        horizon=2,
        covariates=Covariates(values, np.concatenate([values, values[:2]]), np.array([[np.nan, 7.0]])),
    )
    batch = panel.cut(torch.tensor([0]), torch.tensor([4]), context_length=4, horizon=2)
    assert batch.past[0, :, 0].tolist() == [1.0, 0.0, 0.0, 0.0]
    assert batch.past_observed[0, :, 0].tolist() == [True, False, False, False]
    assert batch.future[0, :, 0].tolist() == [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    assert batch.future_observed[0, :, 0].tolist() == [True, False, False, False, True, False]
    assert (batch.static.tolist(), batch.static_observed.tolist()) == ([[0.0, 7.0]], [[False, True]])


def test_covariates_of_other_lengths_and_windows_of_other_widths_are_refused() -> None:
    panel = count_panel([5, 9], context_length=4, horizon=2)
    row = torch.tensor([0])
    with pytest.raises(ValueError, match="horizon 5 is over the panel's margin 4"):
        panel.cut(row, row + 5, context_length=4, horizon=5)
    with pytest.raises(ValueError, match="do not fit 3 values of 1"):
        build_panel(
            np.ones(3),
            np.array([3]),
            first_step=np.array([0]),
            series=np.array([0]),
            calendar=np.empty((0, 0)),
            calendar_start=0,
            context_length=2,
            horizon=2,
            covariates=Covariates(np.ones((3, 1)), np.ones((4, 1)), np.ones((1, 0))),
        )
    config = ModelConfig(hidden=8, heads=2, segment=2, context_length=4, horizon=2, past_covariates=("wind",))
    with pytest.raises(ValueError, match=r"reads \(1, 0, 0\) past, future and static covariates, .* has \(2, 1, 1\)"):
        build(config)(panel.cut(row, row + 5, context_length=4, horizon=2))


def test_channels_are_scaled_each_by_itself_and_missing_is_zero() -> None:
    values = torch.tensor([[[1.0, 100.0], [3.0, 1e9], [5.0, 300.0]]])
    observed = torch.tensor([[[True, True], [True, False], [True, True]]])
    scaled = scale_channels(values, observed)
    assert scaled[0, :, 0].tolist() == pytest.approx([-(1.5**0.5), 0.0, 1.5**0.5], abs=1e-6)
    assert scaled[0, :, 1].tolist() == pytest.approx([-1.0, 0.0, 1.0], abs=1e-6)


def test_static_covariates_are_scaled_by_the_training_series_once() -> None:
    embed = StaticEmbedding(3, 4)
    static = torch.tensor([[1.0, 5.0, 2.0], [3.0, 5.0, 4.0], [9e9, 5.0, 6.0]])
    observed = torch.tensor([[True, True, True], [True, True, False], [False, True, True]])
    embed.learn(static, observed)
    assert embed.mean.tolist() == [2.0, 5.0, 4.0]
    assert embed.spread.tolist() == pytest.approx([1.0, 0.0, 2.0])
    wanted = embed.project(torch.tensor([[1.0, 0.0, 0.0]]))
    there = torch.tensor([[True, True, False]])
    torch.testing.assert_close(embed(torch.tensor([[3.0, 1e9, 1e9]]), there), wanted)
    embed.learn(static * 10.0, observed)
    assert embed.mean.tolist() == [2.0, 5.0, 4.0], "a warm start keeps its champion's"


def test_the_level_of_static_covariates_does_not_matter_and_an_older_model_has_no_rest() -> None:
    static = torch.tensor([[1.0], [3.0], [6.0]], dtype=torch.float64)
    seen = torch.ones_like(static, dtype=torch.bool)
    plain, raised = StaticEmbedding(1, 4), StaticEmbedding(1, 4)
    raised.load_state_dict(plain.state_dict())
    plain.learn(static, seen)
    for level in (1e5, 1e9, 100_100_037.0):  # as an id that float32 would round
        raised.spread.zero_()
        raised.learn(static + level, seen)
        torch.testing.assert_close(raised(static + level, seen), plain(static, seen), rtol=1e-4, atol=1e-5)
    constant = StaticEmbedding(1, 4)
    constant.learn(0.0 * static + 52.1234567, seen)
    assert constant.spread.tolist() == [0.0]

    config = ModelConfig(
        hidden=8, heads=2, segment=2, context_length=4, horizon=2, season=2, series_dim=0, static_covariates=("size",)
    )
    model = build(config, seed=1)
    artifact = pack(model, series=(), provenance={})
    weights = safetensors.torch.load(artifact)
    del weights["static.rest"]
    metadata = json.loads(artifact[8 : 8 + int.from_bytes(artifact[:8], "little")])["__metadata__"]
    older = unpack(safetensors.torch.save(weights, metadata=metadata))
    assert older.model.state_dict()["static.rest"].tolist() == [0.0]


def test_some_covariates_are_hidden_in_training_and_short_histories_have_none() -> None:
    config = ModelConfig(
        context_length=24, horizon=6, segment=6, season=6, past_covariates=("a", "b"), future_covariates=("c",)
    )
    batch = make_batch(config, rows=2000)
    batch = replace(batch, observed=torch.ones_like(batch.observed))
    batch = replace(
        batch,
        past_observed=torch.ones_like(batch.past_observed),
        future_observed=torch.ones_like(batch.future_observed),
    )
    hidden = hide_some(batch, torch.Generator().manual_seed(1), ids=0.1, histories=0.25)
    assert not hidden.past_observed[~hidden.observed].any()
    whole = hidden.past_observed.any(dim=1)  # (B, P)
    assert ((~whole).float().mean(dim=0) - 0.25).abs().max() < 0.05
    shown = hidden.past_observed[whole.all(dim=1)]
    assert torch.equal(shown, hidden.observed[whole.all(dim=1)][:, :, None].expand_as(shown))
    assert hidden.future_observed[:, :24].all(), "what was known of the context stays"
    ahead = hidden.future_observed[:, 24:, 0]
    assert torch.equal(ahead.any(dim=1), ahead.all(dim=1)), "a covariate is hidden for the whole horizon"
    assert abs(float((~ahead.all(dim=1)).float().mean()) - 0.25) < 0.05


def fit_driven(*, past: bool, future: bool) -> float:
    """Fit values that follow a price known ahead and the wind of a horizon before; the validation loss."""
    random = np.random.default_rng(0)
    series, steps = 8, 300
    price = (random.random((series, steps + HORIZON)) < 0.3) * 1.0
    wind = random.standard_normal((series, steps + HORIZON))
    wave = np.sin(2.0 * np.pi * np.arange(steps) / SEASON)
    values = 50.0 + wave + 2.0 * price[:, :steps] + wind[:, :steps] + 0.1 * random.standard_normal((series, steps))
    panel = build_panel(
        values.ravel(),
        np.full(series, steps),
        first_step=np.zeros(series, np.int64),
        series=np.zeros(series, np.int64),
        calendar=np.empty((0, 0)),
        calendar_start=0,
        context_length=CONTEXT,
        horizon=HORIZON,
        covariates=Covariates(
            1e6 * wind[:, HORIZON:].reshape(-1, 1)[:, : int(past)],
            1e-6 * price.reshape(-1, 1)[:, : int(future)],
            np.empty((series, 0)),
        ),
    )
    config = ModelConfig(
        kind="gru",
        hidden=32,
        segment=4,
        context_length=CONTEXT,
        horizon=HORIZON,
        season=SEASON,
        series_dim=0,
        dropout=0.0,
        location="mean",
        past_covariates=("wind",) * past,
        future_covariates=("price",) * future,
    )
    model = build(config, seed=0)
    assert isinstance(model, Single)
    train = TrainConfig(steps=200, batch_size=64, learning_rate=2e-2, validation_steps=40, validate_every=100)
    return fit(model, panel, train, device=CPU, on_progress=lambda _: None).best_validation


def test_a_model_that_reads_what_drives_its_series_is_far_better() -> None:
    alone = fit_driven(past=False, future=False)
    assert fit_driven(past=True, future=False) < 0.9 * alone
    assert fit_driven(past=False, future=True) < 0.9 * alone
    assert fit_driven(past=True, future=True) < 0.4 * alone
