"""The forecasters by name. A new kind is one class of the parts and one line in `build`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.attention import AttentionBlock
from models.baselines import SeasonalNaive
from models.batch import Batch
from models.config import ModelConfig
from models.heads import HorizonQueries, QuantileHead, SeasonalSkip, StepStates
from models.recurrent import SegmentTokens, StackedEncoder
from models.scaling import find_scale


class AttentionForecaster(nn.Module):
    """Stacked recurrent encoder over segment tokens, and attention of horizon queries over all its states."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        hidden, dropout = config.hidden, config.dropout
        self.tokens = SegmentTokens(config.segment, hidden)
        self.series = SeriesEmbedding(config.series, config.series_dim, hidden) if config.series_dim else None
        self.encoder = StackedEncoder(config.cell, hidden, layers=config.layers, dropout=dropout)
        self.queries = HorizonQueries(config.horizon, config.segment, hidden, features=config.calendar_features)
        self.attention = AttentionBlock(hidden, config.heads, dropout)
        self.steps = StepStates(config.horizon, config.segment, hidden, features=config.calendar_features)
        self.skip = SeasonalSkip(config.context_length, config.horizon, config.season)
        self.head = QuantileHead(self.steps.width, config.quantile_levels)

    def forward(self, batch: Batch) -> Tensor:
        """Quantiles (B, H, Q), ascending, in the user's units."""
        scale = find_scale(batch.target, batch.observed, self.config.location)
        values = scale.apply(batch.target).where(batch.observed, 0.0)  # (B, T)
        tokens = self.tokens(values, batch.observed)  # (B, S, D)
        if self.series is not None:
            tokens = tokens + self.series(batch.series)[:, None, :]  # (B, S, D)
        states = self.encoder(tokens)  # (B, S, D)
        queries = self.queries(states[:, -1], batch.calendar)  # (B, X, D)
        mixed = self.attention(queries, states)  # (B, X, D)
        steps = self.steps(mixed, batch.calendar)  # (B, H, width)
        quantiles = self.head(steps) + self.skip(values)[:, :, None]  # (B, H, Q) in window scales
        return scale.invert(quantiles)  # (B, H, Q)


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


Forecaster = AttentionForecaster | SeasonalNaive
"""Every kind: `config`, and `forward(batch) -> (B, H, Q)`."""


def build(config: ModelConfig, *, seed: int = 0) -> Forecaster:
    """The forecaster of `config` on the CPU, its first weights drawn from `seed`; the caller's random state is kept."""
    if config.kind == "seasonal_naive":
        return SeasonalNaive(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AttentionForecaster(config)
