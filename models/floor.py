"""The floor of what cannot be negative: counts, sales, rain, loads. Found series by series, never for a deployment.

    auto    0 for a window without a negative value, unless its series was negative in training
    on      0 for every window             off    none

A series that is far above zero is never cut, so where zero means nothing the floor only matters near it: a temperature
in degrees Celsius that was never below zero in training stays above it until it is. Then its window says so.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.batch import Batch
from models.panel import Panel


def find_floor(wish: str, batch: Batch, negative: Tensor | None = None) -> Tensor | None:
    """Find the least value (B,) of each window's forecast, 0 or -inf; `negative` (B,): its series was so before."""
    if wish == "off":
        return None
    floor = batch.target.new_zeros(len(batch))  # (B,)
    if wish == "on":
        return floor
    below = (batch.observed & (batch.target < 0.0)).any(dim=1)  # (B,)
    return floor.masked_fill(below if negative is None else below | negative, -torch.inf)


def raise_to(quantiles: Tensor, floor: Tensor | None) -> Tensor:
    """Quantiles (B, H, Q), none below the floor (B,)."""
    return quantiles if floor is None else torch.maximum(quantiles, floor[:, None, None].to(quantiles))


class SeriesSign(nn.Module):
    """Which series had a negative value in training, by embedding row; row 0, the unknown ones, never has."""

    rows: Tensor

    def __init__(self, series: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(series + 1, dtype=torch.bool))

    def learn(self, panel: Panel) -> None:
        """Add what the steps of a training set show; what was seen before, as by a champion, stays."""
        negative = (panel.observed & (panel.target < 0.0)).long()  # (N,)
        before = torch.cat((negative.new_zeros(1), negative.cumsum(0)))  # (N + 1,)
        some = before[panel.start + panel.length] > before[panel.start]  # (S,)
        self.rows[panel.series[some]] = True
        self.rows[0] = False

    def forward(self, series: Tensor) -> Tensor:
        """Rows (B,) of windows to whether their series was negative (B,)."""
        known: Tensor = self.rows[series]
        return known
