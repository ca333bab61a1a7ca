"""The floor of what cannot be negative: counts, sales, rain, loads. Found series by series, never for a deployment.

    auto    0 for a window without a negative value whose series was never negative in training, either, if values of
            the window or of the training show that zero is an end: several are zero, or all are whole numbers
    on      0 for every window             off    none

Temperatures and prices of a short history may not have been negative yet, but they are no whole numbers and do not
rest at zero. A series that is far above zero is never cut.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.batch import Batch
from models.panel import Panel


class Before(NamedTuple):
    """What was seen of the series of windows in training, (B,) each: a negative value; that zero is an end."""

    negative: Tensor
    ended: Tensor


ZEROS = 2
"""Values that are exactly zero, from which on zero is where a series rests."""


def find_floor(wish: str, batch: Batch, before: Before | None = None) -> Tensor | None:
    """Find the least value (B,) of each window's forecast, 0 or -inf; `before`: what the training showed."""
    if wish == "off":
        return None
    floor = batch.target.new_zeros(len(batch))  # (B,)
    if wish == "on":
        return floor
    negative = (batch.observed & (batch.target < 0.0)).any(dim=1)  # (B,)
    zeros = (batch.observed & (batch.target == 0.0)).sum(dim=1)  # (B,)
    broken = (batch.observed & (batch.target != batch.target.round())).any(dim=1)  # (B,)
    ended = (zeros >= ZEROS) | ~broken  # (B,)
    if before is not None:
        negative, ended = negative | before.negative, ended | before.ended
    return floor.masked_fill(negative | ~ended, -torch.inf)


def raise_to(quantiles: Tensor, find: Callable[[], Tensor | None]) -> Tensor:
    """Quantiles (B, H, Q), none below the floor (B,), which is looked for only where a quantile is below zero."""
    floor = find() if bool((quantiles < 0.0).any()) else None
    return quantiles if floor is None else torch.maximum(quantiles, floor[:, None, None].to(quantiles))


class SeriesSign(nn.Module):
    """What training showed of the sign of each series, by embedding row; row 0, the unknown ones, showed nothing.

    rows (series + 1,): it had a negative value; ended (series + 1,): its values show that zero is an end.
    """

    rows: Tensor
    ended: Tensor

    def __init__(self, series: int) -> None:
        super().__init__()
        for name in ("rows", "ended"):
            self.register_buffer(name, torch.zeros(series + 1, dtype=torch.bool))

    def learn(self, panel: Panel) -> None:
        """Add what the steps of a training set show; what was seen before, as by a champion, stays."""
        target = panel.target
        self.rows[panel.series[_count(panel, target < 0.0) > 0]] = True
        ended = (_count(panel, target == 0.0) >= ZEROS) | (_count(panel, target != target.round()) == 0)
        self.ended[panel.series[ended]] = True
        for rows in (self.rows, self.ended):
            rows[0] = False

    def forward(self, series: Tensor) -> Before:
        """Rows (B,) of windows to what is known of their series."""
        return Before(self.rows[series], self.ended[series])


def _count(panel: Panel, wanted: Tensor) -> Tensor:
    """Count the observed steps (S,) of each series that are `wanted` (N,)."""
    steps = (panel.observed & wanted).long()  # (N,)
    before = torch.cat((steps.new_zeros(1), steps.cumsum(0)))  # (N + 1,)
    return before[panel.start + panel.length] - before[panel.start]
