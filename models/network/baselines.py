"""Seasonal naive with the interface of every forecaster: the gate's floor and the scorer's fallback."""

from __future__ import annotations

import math
from statistics import NormalDist

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.batch import Batch
from models.config import ModelConfig
from models.network.floor import find_floor, raise_to
from models.network.scaling import last_observed


class SeasonalNaive(nn.Module):
    """The value one season ago, with a normal interval from the window's seasonal differences.

    Median: the newest observed value of the same phase, walking back over whole periods; else the last
    observed value; else 0. Spread: the mean absolute seasonal difference as a normal deviation, times
    sqrt(periods walked). No quantile is below the window's floor. No weights.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.scores = tuple(NormalDist().inv_cdf(level) for level in config.quantile_levels)

    def forward(self, batch: Batch) -> Tensor:
        """Quantiles (B, H, Q), ascending, in the user's units."""
        season, horizon = self.config.season, self.config.horizon
        known = batch.target.where(batch.observed, 0.0)  # (B, T)
        padding = -known.shape[1] % season
        periods = (known.shape[0], -1, season)
        values = functional.pad(known, (padding, 0)).reshape(periods)  # (B, P, season), newest period last
        observed = functional.pad(batch.observed, (padding, 0)).reshape(periods)  # (B, P, season)
        order = torch.arange(1, values.shape[1] + 1, device=known.device)[:, None]  # (P, 1)
        newest = (observed * order).amax(dim=1)  # (B, season), 0 where the phase was never observed
        phase_value = values.gather(1, (newest - 1).clamp(min=0)[:, None])[:, 0]  # (B, season)
        last = last_observed(known, batch.observed)[:, None]  # (B, 1)
        phase_value = phase_value.where(newest > 0, last)  # (B, season)

        step = torch.arange(horizon, device=known.device)  # (H,)
        phase = step % season  # (H,)
        walked = step // season + 1 + values.shape[1] - newest[:, phase]  # (B, H) periods
        deviation = _find_deviation(known, batch.observed, season)  # (B, 1)
        spread = deviation * walked.sqrt()  # (B, H)
        scores = torch.tensor(self.scores, dtype=known.dtype, device=known.device)  # (Q,)
        quantiles: Tensor = phase_value[:, phase, None] + spread[:, :, None] * scores  # (B, H, Q)
        return raise_to(quantiles, lambda: self.find_floor(batch))

    def find_floor(self, batch: Batch) -> Tensor | None:
        """The least value (B,) of the forecast of each window; None where nothing has one."""
        return find_floor(self.config.non_negative, batch)


def _find_deviation(known: Tensor, observed: Tensor, season: int) -> Tensor:
    # Seasonal differences; where the window has none, differences of neighbours. Absolute values, not squares: nothing
    # overflows, and one spike does not widen every interval.
    seasonal, count = _mean_change(known, observed, season)  # (B, 1) each
    neighbours, _ = _mean_change(known, observed, 1)  # (B, 1)
    return math.sqrt(math.pi / 2.0) * seasonal.where(count > 0, neighbours)  # (B, 1)


def _mean_change(known: Tensor, observed: Tensor, lag: int) -> tuple[Tensor, Tensor]:
    pairs = observed[:, lag:] & observed[:, :-lag]  # (B, T - lag)
    change = (known[:, lag:] - known[:, :-lag]).abs().where(pairs, 0.0)  # (B, T - lag)
    count = pairs.sum(dim=1, keepdim=True)  # (B, 1)
    return change.sum(dim=1, keepdim=True) / count.clamp(min=1), count
