"""Scale inside the model: every window is centred and scaled by its own observed values."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

CLIP = 10.0
FLOOR = 1e-3
"""Least scale relative to the window's level: a constant series with one tick of noise must not become a signal."""


class Scale(NamedTuple):
    """One affine map per window, in the user's units: location (B, 1), spread (B, 1); spread 0 maps all to 0."""

    location: Tensor
    spread: Tensor

    def apply(self, values: Tensor) -> Tensor:
        """Units of the user (B, X) to units of the window (B, X), clipped to +-10."""
        safe = self.spread.where(self.spread > 0.0, 1.0)  # (B, 1)
        return ((values - self.location) / safe).clamp(-CLIP, CLIP)

    def invert(self, values: Tensor) -> Tensor:
        """Units of the window (B, H, Q) to units of the user (B, H, Q)."""
        return self.location[:, :, None] + self.spread[:, :, None] * values


def find_scale(target: Tensor, observed: Tensor, location: str) -> Scale:
    """Location ("mean" or "last" observed value) and masked deviation of windows (B, T), observed (B, T)
    bool.

    Sums run on values divided by the largest one, so squares neither overflow nor vanish. A window with
    nothing observed, or with zeros only, has spread 0: its forecast is its location.
    """
    known = target.where(observed, 0.0)  # (B, T)
    unit = known.abs().amax(dim=1, keepdim=True)  # (B, 1)
    unit = unit.where(unit > 0.0, 1.0)
    known = known / unit  # (B, T), within +-1
    count = observed.sum(dim=1, keepdim=True).clamp(min=1)  # (B, 1)
    mean = known.sum(dim=1, keepdim=True) / count  # (B, 1)
    variance = (known - mean).where(observed, 0.0).square().sum(dim=1, keepdim=True) / count  # (B, 1)
    level = known.abs().sum(dim=1, keepdim=True) / count  # (B, 1)
    spread = torch.maximum(variance.sqrt(), FLOOR * level)  # (B, 1)
    centre = last_observed(known, observed)[:, None] if location == "last" else mean  # (B, 1)
    return Scale(location=centre * unit, spread=spread * unit)


class SeriesSpread(nn.Module):
    """The spread of known series, as it was in training: a quiet week of a lively series then looks quiet.

    `rows` (series + 1,), in the user's units, is 0 where nothing was learned, UNK among them: such a window keeps its
    own spread. It is stored with the weights.
    """

    rows: Tensor

    def __init__(self, series: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(series + 1))

    def learn(self, series: Tensor, spread: Tensor) -> None:
        """Take the spread (S,) of the embedding rows `series` (S,)."""
        self.rows.zero_()
        self.rows[series] = spread
        self.rows[0] = 0.0

    def forward(self, scale: Scale, series: Tensor) -> Scale:
        """The scale of windows of `series` (B,); one without any spread of its own still has nothing to say."""
        known = self.rows[series][:, None]  # (B, 1)
        return scale._replace(spread=known.where((known > 0.0) & (scale.spread > 0.0), scale.spread))


def last_observed(target: Tensor, observed: Tensor) -> Tensor:
    """The newest observed value of each window (B, T), as (B,); 0 where nothing was observed."""
    steps = torch.arange(1, target.shape[1] + 1, device=target.device)  # (T,)
    newest = (observed * steps).amax(dim=1, keepdim=True)  # (B, 1), 0 for none
    value = target.gather(1, (newest - 1).clamp(min=0))[:, 0]  # (B,)
    return value.where(newest[:, 0] > 0, 0.0)
