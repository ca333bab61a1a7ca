"""The forecasters: one recurrent network of few parts for every kind, ensembles of it, and seasonal naive."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from models.batch import Batch
from models.config import ModelConfig
from models.network.attention import AdditiveAttention, AttentionBlock, CrossAttention
from models.network.baselines import SeasonalNaive
from models.network.covariates import StaticEmbedding, read_covariates
from models.network.floor import SeriesSign, find_floor, raise_to
from models.network.heads import HorizonQueries, PointHead, QuantileHead, SeasonalSkip, StepStates
from models.network.precision import full
from models.network.pretrained import PretrainedForecaster
from models.network.recurrent import RecurrentStep, SegmentTokens, StackedEncoder
from models.network.scaling import Scale, SeriesSpread, find_scale
from models.panel import Panel
from models.presets import NAIVE, PRETRAINED


class RecurrentForecaster(nn.Module):
    """Recurrent encoder over tokens, horizon queries that start from its final state, attention if there is any.

    A dense decoder is one query for the whole horizon, straight into the head; a recurrent one takes a step from the
    final state for every query.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        hidden, horizon = config.hidden, config.horizon
        past, future, static = config.covariates
        features = config.calendar_features + 2 * future
        dense = config.decoder == "dense"
        self.tokens = SegmentTokens(config.segment, hidden, beside=2 * (past + future), rectify=config.rectify)
        self.series = SeriesEmbedding(config.series, config.series_dim, hidden) if config.series_dim else None
        self.spreads = SeriesSpread(config.series) if config.spread == "series" else None
        self.signs = SeriesSign(config.series) if config.non_negative == "auto" else None
        self.static = StaticEmbedding(static, hidden) if static else None
        self.encoder = StackedEncoder(config)
        self.queries = HorizonQueries(horizon, horizon if dense else config.segment, hidden, features=features)
        self.step = RecurrentStep(hidden, config.dropout) if config.decoder == "recurrent" else None
        self.attention = _build_attention(config)
        self.steps = None if dense else StepStates(horizon, config.segment, hidden, features=features)
        self.skip = SeasonalSkip(config.context_length, horizon, config.season)
        self.head = _build_head(config, hidden if self.steps is None else self.steps.width)

    def forward(self, batch: Batch) -> Tensor:
        """Quantiles (B, H, Q) float64, ascending, in the user's units; in eval mode none below the window's floor."""
        quantiles = self.unbounded(batch)  # (B, H, Q)
        return quantiles if self.training else raise_to(quantiles, lambda: self.find_floor(batch))

    def find_floor(self, batch: Batch) -> Tensor | None:
        """The least value (B,) of the forecast of each window; None where nothing has one."""
        return find_floor(self.config.non_negative, batch, self.signs(batch.series) if self.signs else None)

    def unbounded(self, batch: Batch) -> Tensor:
        """Quantiles (B, H, Q) float64 as the network says them; of the calendar, F columns are read."""
        _check_widths(batch, self.config)
        calendar = batch.calendar[:, :, : self.config.calendar_features]  # (B, H, F)
        beside, ahead = read_covariates(batch, calendar)  # (B, T, 2P + 2K), (B, H, F + 2K)
        scale = self.find_scale(batch)
        values = scale.apply(batch.target).where(batch.observed, 0.0)  # (B, T)
        tokens = self.tokens(values, batch.observed, beside)  # (B, S, D)
        if self.static is not None:
            tokens = tokens + self.static(batch.static, batch.static_observed)[:, None, :]  # (B, S, D)
        series = torch.zeros_like(tokens[:, 0]) if self.series is None else self.series(batch.series)  # (B, D)
        states, final = self.encoder(tokens + series[:, None])  # (B, S, D), (B, D)
        decoded = self.queries(final if self.step is None else series, ahead)  # (B, X, D)
        if self.step is not None:
            decoded = self.step(decoded, final)  # (B, X, D)
        if self.attention is not None:
            decoded = self.attention(decoded, states)  # (B, X, D)
        if self.steps is not None:
            decoded = self.steps(decoded, ahead)  # (B, H, width)
        with full(values):
            quantiles = self.head(decoded.float()) + self.skip(values)[:, :, None]  # (B, H, Q) in window scales
            return scale.invert(quantiles)  # (B, H, Q)

    def find_scale(self, batch: Batch) -> Scale:
        """What the network's zero and one are in each window, in the user's units."""
        scale = find_scale(batch.target, batch.observed, self.config.location)
        return scale if self.spreads is None else self.spreads(scale, batch.series, batch.observed)

    def learn_static(self, panel: Panel) -> None:
        """Take the scale of static covariates from the series of a training set, if there are any."""
        if self.static is not None:
            self.static.learn(panel.static, panel.static_observed)


def _check_widths(batch: Batch, config: ModelConfig) -> None:
    if batch.covariates != config.covariates:
        raise ValueError(
            f"the model reads {config.covariates} past, future and static covariates, the batch has {batch.covariates}"
        )


def _build_attention(config: ModelConfig) -> AttentionBlock | None:
    if config.attention == "none":
        return None
    additive = config.attention == "additive"
    attend = AdditiveAttention(config.hidden) if additive else CrossAttention(config.hidden, config.heads)
    return AttentionBlock(attend, config.hidden, config.dropout)


def _build_head(config: ModelConfig, width: int) -> QuantileHead | PointHead:
    steps = config.horizon if config.decoder == "dense" else 1
    if config.output == "point":
        return PointHead(width, config.quantile_levels, config.horizon, steps=steps)
    return QuantileHead(width, config.quantile_levels, steps=steps)


class SeriesEmbedding(nn.Module):
    """What is particular to a series, from its row; row 0 is UNK and is trained by hiding ids."""

    def __init__(self, series: int, width: int, hidden: int) -> None:
        super().__init__()
        self.rows = nn.Embedding(series + 1, width)
        self.project = nn.Linear(width, hidden, bias=False)
        nn.init.normal_(self.rows.weight, std=0.1)

    def forward(self, series: Tensor) -> Tensor:
        """Rows (B,) to (B, D)."""
        vectors: Tensor = self.project(self.rows(series))
        return vectors


class Ensemble(nn.Module):
    """Networks of one config and different seeds, forecasting as one: the mean of their quantiles."""

    def __init__(self, config: ModelConfig, *, seed: int) -> None:
        super().__init__()
        self.config = config
        alone = replace(config, members=1)
        self.members = nn.ModuleList(_build_network(alone, seed + index) for index in range(config.members))

    def networks(self) -> list[Single]:
        """The members, each a forecaster by itself."""
        return [each for each in self.members if isinstance(each, Single)]

    def forward(self, batch: Batch) -> Tensor:
        """Quantiles (B, H, Q) float64, ascending, in the user's units."""
        return torch.stack([member(batch) for member in self.members]).mean(dim=0)  # (B, H, Q)

    def find_floor(self, batch: Batch) -> Tensor | None:
        """The least value (B,) of the forecast of each window: that of any member, for they learned from one panel."""
        return self.networks()[0].find_floor(batch)


Single = RecurrentForecaster | PretrainedForecaster
"""One network, as a fit takes it."""
Network = Single | Ensemble
"""What can be trained."""
Forecaster = Network | SeasonalNaive
"""Every kind: `config`, and `forward(batch) -> (B, H, Q)`."""


def build(config: ModelConfig, *, seed: int = 0) -> Forecaster:
    """The forecaster of `config` on the CPU, its first weights drawn from `seed`; the caller's random state is kept.

    Member i of an ensemble is the network of seed + i.
    """
    if config.kind == NAIVE:
        return SeasonalNaive(config)
    return Ensemble(config, seed=seed) if config.members > 1 else _build_network(config, seed)


def _build_network(config: ModelConfig, seed: int) -> Single:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # that of the CPU alone, which is restored
        return PretrainedForecaster(config) if config.kind == PRETRAINED else RecurrentForecaster(config)
