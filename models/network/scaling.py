"""Scale inside the model: every window is centred and scaled by its own observed values.

A network must see the same window at whatever level it lies: 50 +- 0.001 as 0 +- 0.001, a meter at 1e9 as one at 0. So
values stay float64 until they are centred, are centred on a value of the window itself, which is exact, and the way
back ends with that value. Only what lies between, in units of the window, is float32.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.metrics import ROUNDING

CLIP = 10.0
SPARSE = 0.25
"""Least spread in units of the mean change between neighbours that differ at all.

A window that is constant but for one tick of noise has a deviation of tick / sqrt(T), by which that tick would be a
signal as loud as there can be. Where most neighbours differ, the deviation is larger anyway: white noise has 0.89 of
these units, a zigzag 0.5.
"""
COARSE = 2e-13
"""Values whose range is smaller than this share of them are no longer held well by float64: 900 units in the last
place for a range, and an error of forecasts that is 1e-3 of it."""


class Scale(NamedTuple):
    """One affine map per window, in the user's units, (B, 1) each; spread 0 maps all to 0.

    Zero of the window is `reference`, an observed value of it, plus `offset`, kept apart so that neither is rounded.
    """

    reference: Tensor
    offset: Tensor
    spread: Tensor

    @property
    def location(self) -> Tensor:
        """Where the window's zero lies, (B, 1)."""
        return self.reference + self.offset

    def apply(self, values: Tensor) -> Tensor:
        """Units of the user (B, X) to units of the window (B, X) float32, clipped to +-10."""
        spread = self.spread.where(self.spread > 0.0, torch.inf)  # (B, 1)
        return ((values - self.reference - self.offset) / spread).float().clamp(-CLIP, CLIP)

    def invert(self, values: Tensor) -> Tensor:
        """Units of the window (B, H, Q) to units of the user (B, H, Q), float64."""
        reference, offset, spread = (part[:, :, None] for part in self)  # (B, 1, 1) each
        return reference + (offset + spread * values)


def find_scale(target: Tensor, observed: Tensor, location: str) -> Scale:
    """Location ("mean" or "last" observed value) and masked deviation of windows (B, T), observed (B, T) bool.

    Neither depends on the level, and a spread never on a value alone: it is the deviation, or what SPARSE says of the
    changes. A window with nothing observed, or that is constant, has spread 0: its forecast is its location.
    """
    reference = last_observed(target, observed)[:, None].double()  # (B, 1)
    moved = (target - reference).where(observed, 0.0)  # (B, T) exact, where values are near each other
    count = observed.sum(dim=1, keepdim=True).clamp(min=1)  # (B, 1)
    mean = moved.sum(dim=1, keepdim=True) / count  # (B, 1)
    variance = (moved - mean).where(observed, 0.0).square().sum(dim=1, keepdim=True) / count  # (B, 1)
    spread = torch.maximum(variance.sqrt(), SPARSE * _mean_change(moved, observed))  # (B, 1)
    spread = spread.where(spread > ROUNDING * reference.abs(), 0.0)
    return Scale(reference, torch.zeros_like(mean) if location == "last" else mean, spread)


def _mean_change(moved: Tensor, observed: Tensor) -> Tensor:
    # The mean of |change| over neighbours that were both observed and differ, (B, 1); 0 where there are none.
    change = (moved[:, 1:] - moved[:, :-1]).abs().where(observed[:, 1:] & observed[:, :-1], 0.0)  # (B, T - 1)
    return change.sum(dim=1, keepdim=True) / (change > 0.0).sum(dim=1, keepdim=True).clamp(min=1)


def find_coarse(target: Tensor, observed: Tensor) -> Tensor:
    """Which windows (B, T) float64 cannot hold well: they move, but by too small a share of their level; (B,) bool."""
    low = target.where(observed, torch.inf).amin(dim=1)  # (B,)
    high = target.where(observed, -torch.inf).amax(dim=1)  # (B,)
    width, level = high - low, torch.maximum(low.abs(), high.abs())  # (B,) each; -inf and inf for nothing observed
    return (width > 2.0 * ROUNDING * level) & (width < COARSE * level)


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
        self.rows[series] = spread.to(self.rows.dtype)
        self.rows[0] = 0.0

    def forward(self, scale: Scale, series: Tensor, observed: Tensor) -> Scale:
        """The scale of windows (B, T) of `series` (B,), also of a constant one; with nothing observed, nothing said."""
        known = self.rows[series][:, None].to(scale.spread.dtype)  # (B, 1)
        return scale._replace(spread=known.where((known > 0.0) & observed.any(dim=1, keepdim=True), scale.spread))


def last_observed(target: Tensor, observed: Tensor) -> Tensor:
    """The newest observed value of each window (B, T), as (B,); 0 where nothing was observed."""
    steps = torch.arange(1, target.shape[1] + 1, device=target.device)  # (T,)
    newest = (observed * steps).amax(dim=1, keepdim=True)  # (B, 1), 0 for none
    value = target.gather(1, (newest - 1).clamp(min=0))[:, 0]  # (B,)
    return value.where(newest[:, 0] > 0, 0.0)
