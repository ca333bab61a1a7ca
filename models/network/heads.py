"""From states to quantiles: horizon queries, the seasonal skip, and quantiles that cannot cross."""

from __future__ import annotations

import math
from statistics import NormalDist

import torch
from torch import Tensor, nn
from torch.nn import functional

FIRST_GAP = 0.25
"""Distance of neighbouring quantiles before training, in window scales: a standard normal's, about."""


class HorizonQueries(nn.Module):
    """One query per horizon segment: the full final state + its position + its calendar and known-future covariates.

    Every query starts from the state that has seen the whole window, so step 1 sees the newest point.
    """

    def __init__(self, horizon: int, segment: int, hidden: int, *, features: int) -> None:
        super().__init__()
        self.segment = segment
        self.missing = -horizon % segment
        self.position = nn.Parameter(0.02 * torch.randn((horizon + self.missing) // segment, hidden))
        self.calendar = nn.Linear(features * segment, hidden) if features else None

    def forward(self, final: Tensor, calendar: Tensor) -> Tensor:
        """Final state (B, D) and what is known of the horizon (B, H, F) to queries (B, X, D), X = horizon segments."""
        queries = final[:, None, :] + self.position  # (B, X, D)
        if self.calendar is not None:
            padded = functional.pad(calendar, (0, 0, 0, self.missing))  # (B, X * segment, F)
            queries = queries + self.calendar(padded.reshape(*queries.shape[:2], -1))
        return queries


class StepStates(nn.Module):
    """Unfolds a horizon segment's state into one small state per step, where what is known of the step joins it."""

    def __init__(self, horizon: int, segment: int, hidden: int, *, features: int) -> None:
        super().__init__()
        self.horizon = horizon
        self.width = min(32, hidden)
        self.unfold = nn.Linear(hidden, segment * self.width)
        self.calendar = nn.Linear(features, self.width, bias=False) if features else None

    def forward(self, states: Tensor, calendar: Tensor) -> Tensor:
        """States (B, X, D) and what is known of the horizon (B, H, F) to step states (B, H, width)."""
        steps: Tensor = self.unfold(states).reshape(states.shape[0], -1, self.width)  # (B, X * segment, width)
        steps = steps[:, : self.horizon]  # (B, H, width)
        if self.calendar is not None:
            steps = steps + self.calendar(calendar)
        return functional.gelu(steps)


class SeasonalSkip(nn.Module):
    """A learned weighted seasonal naive: one weight per (past period, future period), shared by all phases.

    About 30 weights, zero at first. It is absent (returns 0) for a season of 1 step or one longer than the
    context: a dense skip of T x H weights overfits (1.010 against 0.906 MASE on M4-Hourly's validation cut).
    """

    def __init__(self, context_length: int, horizon: int, season: int) -> None:
        super().__init__()
        self.season = season
        self.horizon = horizon
        self.periods = context_length // season if season > 1 else 0
        self.weight = nn.Parameter(torch.zeros(self.periods, -(-horizon // season))) if self.periods else None

    def forward(self, values: Tensor) -> Tensor:
        """Scaled window (B, T), 0 where not observed, to its seasonal part of the horizon (B, H)."""
        if self.weight is None:
            return values.new_zeros((values.shape[0], self.horizon))
        periods = values[:, -self.periods * self.season :].reshape(-1, self.periods, self.season)
        future = self.weight.T @ periods  # (B, periods of the horizon, season)
        return future.flatten(1)[:, : self.horizon]  # (B, H)


class QuantileHead(nn.Module):
    """A median and softplus distances summed outwards from it, so quantiles never cross.

    `stretch` (2,) multiplies the distances below and above; measured after a fit, 1 until then (see calibration.py).
    """

    stretch: Tensor

    def __init__(self, width: int, levels: tuple[float, ...], *, steps: int = 1) -> None:
        super().__init__()
        self.levels = len(levels)
        self.median = levels.index(0.5)
        self.project = nn.Linear(width, steps * self.levels)
        with torch.no_grad():
            self.project.bias.fill_(math.log(math.expm1(FIRST_GAP)))
            self.project.bias[self.median :: self.levels] = 0.0
        self.register_buffer("stretch", torch.ones(2))

    def forward(self, states: Tensor) -> Tensor:
        """States (B, H / steps, width), each of `steps` steps, to ascending quantiles (B, H, Q) in window scales."""
        raw = self.project(states).reshape(states.shape[0], -1, self.levels)  # (B, H, Q)
        centre = raw[..., self.median : self.median + 1]  # (B, H, 1)
        below = functional.softplus(raw[..., : self.median]).flip(-1).cumsum(-1).flip(-1)  # (B, H, below)
        above = functional.softplus(raw[..., self.median + 1 :]).cumsum(-1)  # (B, H, above)
        low, high = self.stretch.unbind()
        return torch.cat((centre - low * below, centre, centre + high * above), dim=-1)  # (B, H, Q)


class PointHead(nn.Module):
    """One value per step, trained by a point loss, and quantiles at fixed distances from it.

    `offsets` (H, Q), in window scales, are the quantiles of the residuals on the validation cut (see `calibrate`);
    until then those of a normal with the window's deviation. They are stored with the weights.
    """

    offsets: Tensor

    def __init__(self, width: int, levels: tuple[float, ...], horizon: int, *, steps: int = 1) -> None:
        super().__init__()
        self.median = levels.index(0.5)
        self.project = nn.Linear(width, steps)
        nn.init.zeros_(self.project.bias)
        normal = torch.tensor([NormalDist().inv_cdf(level) for level in levels])
        self.register_buffer("offsets", normal.repeat(horizon, 1))  # (H, Q)

    def forward(self, states: Tensor) -> Tensor:
        """States (B, H / steps, width), each of `steps` steps, to ascending quantiles (B, H, Q) in window scales."""
        point = self.project(states).flatten(1)  # (B, H)
        quantiles: Tensor = point[:, :, None] + self.offsets  # (B, H, Q)
        return quantiles
