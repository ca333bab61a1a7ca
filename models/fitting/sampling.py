"""Which windows a fit sees: no window index, only cumulative counts; and the known part of every series."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from models.batch import Batch
from models.fitting.losses import Truth
from models.metrics import ROUNDING
from models.panel import Panel

RARE = 0.25
"""Least scale of a series in units of its mean change where it changes at all.

A quarter of a tick is what rounding to ticks costs the best forecast; so a series that is constant but for a tick now
and then does not outweigh all others. M4-Hourly has three series in ticks of 0.1 that repeat their day to 0.18 of them;
on its validation cut, MASE of three seeds and 400 steps was 0.967 with 0.25, 0.971 with 0.1, and 0.968 before, when
the floor was 1e-3 of the level; seeds differ by 0.01.
"""
EXACT = 0.01
"""Least scale in units of the change between neighbours: a series that repeats its season but for the noise of its own
arithmetic does not outweigh all others."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows of a panel up to a cut, on the panel's device: series r offers first[r] .. first[r] + count[r]
    - 1.

    panel ends at the cut (its `length` was reduced), so nothing after the cut is ever a target. first (S,)
    and cumulative (S,) int64; scale (S,) float64 in the target's units, inf for a series that never moves.
    """

    panel: Panel
    first: Tensor
    cumulative: Tensor
    scale: Tensor

    def __len__(self) -> int:
        return int(self.cumulative[-1]) if len(self.cumulative) else 0

    def draw(self, size: int, total: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Series rows (B,) and ends (B,) of `size` windows, uniform over all `total` windows, with replacement."""
        number = torch.randint(total, (size,), device=self.panel.device, generator=generator)  # (B,)
        rows = torch.searchsorted(self.cumulative, number, right=True)  # (B,)
        before = torch.where(rows > 0, self.cumulative[rows - 1], 0)  # (B,)
        return rows, self.first[rows] + number - before


def list_windows(
    panel: Panel, *, held_back: int, context_length: int, horizon: int, season: int, scaled: bool = True
) -> Windows:
    """Windows whose targets end before the last `held_back` steps of their series.

    A series longer than the horizon offers whole horizons with at least half a context (or half of what it
    has) behind them; a shorter one offers every window with a target step; one of a single step offers none.
    Their scale is the series' seasonal one, or 1 if it is not to be `scaled`.
    """
    known = replace(panel, length=(panel.length - held_back).clamp(min=0))
    last = torch.where(known.length > horizon, known.length - horizon, known.length - 1)  # (S,)
    first = torch.minimum(last // 2, last.new_tensor(context_length // 2)).clamp(min=1)  # (S,)
    count = (last - first + 1).clamp(min=0)  # (S,)
    ones = torch.ones(len(panel), dtype=torch.float64, device=panel.device)  # (S,)
    scale = seasonal_scale(known, season) if scaled else ones  # (S,)
    return Windows(known, first, count.cumsum(0), scale)


def held_back_origins(panel: Panel, *, held_back: int, horizon: int, stride: int = 0) -> tuple[Tensor, Tensor]:
    """Rows (M,) and ends (M,) of rolling origins, `stride` apart (0: one horizon), into the last `held_back` steps."""
    offsets = torch.arange(0, held_back, stride or horizon, device=panel.device)  # (O,)
    ends = panel.length[:, None] - held_back + offsets  # (S, O)
    rows = torch.arange(len(panel), device=panel.device)[:, None].expand_as(ends)  # (S, O)
    usable = ends >= 1
    return rows[usable], ends[usable]


def seasonal_scale(panel: Panel, season: int) -> Tensor:
    """Mean absolute seasonal difference of each series, (S,) float64.

    It is at least RARE of the mean of those that are not 0, and EXACT of the neighbours' mean. The level has no part in
    it. A series without an observed pair one season apart gets the difference of neighbours, else its deviation; one
    that never moves gets inf.
    """
    owner, known = _find_owner(panel)  # (N,) each
    (neighbours, _), (seasonal, pairs) = (_find_change(panel, owner, known, lag) for lag in (1, season))  # (S,) each
    scale = torch.maximum(seasonal, EXACT * neighbours).where(pairs > 0, neighbours)  # (S,)
    scale = scale.where(scale > 0.0, find_deviation(panel))
    return scale.where(scale > 0.0, torch.inf)


def _find_change(panel: Panel, owner: Tensor, known: Tensor, lag: int) -> tuple[Tensor, Tensor]:
    """Mean absolute difference of values `lag` steps apart, at least RARE of those beyond rounding, and how many pairs
    there are, (S,) each.
    """
    pairs = known[lag:] & known[:-lag] & (owner[lag:] == owner[:-lag])  # (N - lag,)
    change = (panel.target[lag:] - panel.target[:-lag]).abs()  # (N - lag,)
    moves = pairs & (change > 2.0 * ROUNDING * panel.target[lag:].abs())
    change = change.where(moves, 0.0)
    mean, count = _mean_by_owner(change, pairs, owner[lag:], len(panel))
    mean_move, _ = _mean_by_owner(change, moves, owner[lag:], len(panel))
    return torch.maximum(mean, RARE * mean_move), count


def find_deviation(panel: Panel) -> Tensor:
    """Standard deviation of each series' observed steps, (S,) float64; 0 for a constant one."""
    owner, known = _find_owner(panel)  # (N,) each
    mean, _ = _mean_by_owner(panel.target.where(known, 0.0), known, owner, len(panel))
    error = (panel.target - mean[owner]).where(known, 0.0)  # (N,)
    rest, _ = _mean_by_owner(error, known, owner, len(panel))  # what rounding left of the mean
    variance, _ = _mean_by_owner((error - rest[owner]).where(known, 0.0).square(), known, owner, len(panel))
    deviation = variance.sqrt()
    return deviation.where(deviation > ROUNDING * mean.abs(), 0.0)


def _find_owner(panel: Panel) -> tuple[Tensor, Tensor]:
    """The series row of each step of the flat panel, and whether it was observed within it, (N,) each."""
    step = torch.arange(panel.target.shape[0], device=panel.device)  # (N,)
    owner = (torch.searchsorted(panel.start, step, right=True) - 1).clamp(min=0)  # (N,)
    known = panel.observed & (step >= panel.start[owner]) & (step < panel.start[owner] + panel.length[owner])
    return owner, known


def _mean_by_owner(values: Tensor, known: Tensor, owner: Tensor, series: int) -> tuple[Tensor, Tensor]:
    total = torch.zeros(series, dtype=torch.float64, device=values.device).index_add_(0, owner, values.double())
    count = torch.zeros(series, dtype=torch.float64, device=values.device).index_add_(0, owner, known.double())
    return total / count.clamp(min=1.0), count


def cut_with_truth(
    windows: Windows, rows: Tensor, ends: Tensor, *, context_length: int, horizon: int
) -> tuple[Batch, Truth]:
    """The windows (B,) and what happened after them."""
    batch = windows.panel.cut(rows, ends, context_length=context_length, horizon=horizon)
    target, observed = windows.panel.future(rows, ends, horizon)
    return batch, Truth(target, observed, windows.scale[rows])


def hide_some(
    batch: Batch, generator: torch.Generator, *, ids: float, histories: float, among: int = 1, place: int = 0
) -> Batch:
    """Hides the series of a share `ids` of the windows (UNK), and the older part of a share `histories` of
    them.

    That is how the UNK row and short histories are learned from long, known series. Covariates are hidden likewise. The
    windows are those at `place` of `among` equal parts of a larger batch: chances are drawn for all of it.
    """
    device = batch.target.device
    rows, context_length = batch.target.shape
    chance = torch.rand((3, among * rows), device=device, generator=generator)[:, place * rows : (place + 1) * rows]
    series = batch.series.where(chance[0] >= ids, 0)  # (B,)
    hidden = (chance[2] * context_length).long().where(chance[1] < histories, 0)  # (B,) steps hidden
    kept = torch.arange(context_length, device=device) >= hidden[:, None]  # (B, T)
    batch = replace(batch, target=batch.target.where(kept, 0.0), observed=batch.observed & kept, series=series)
    past, future, _ = batch.covariates
    if not past + future:
        return batch
    chances = torch.rand((among * rows, 1, past + future), device=device, generator=generator)
    return _hide_covariates(batch, kept, chances[place * rows : (place + 1) * rows] >= histories)


def _hide_covariates(batch: Batch, kept: Tensor, shown: Tensor) -> Batch:
    # The older part (kept is (B, T)) of past ones, and where shown (B, 1, P + K) is False a past or known-future one
    # wholly, so that a forecast without them is learned, too. Values need no zeroing: the mask rules.
    context_length = kept.shape[1]
    past = batch.covariates[0]
    ahead = torch.arange(batch.future.shape[1], device=kept.device) >= context_length  # (T + H,)
    return replace(
        batch,
        past_observed=batch.past_observed & kept[:, :, None] & shown[:, :, :past],
        future_observed=batch.future_observed & (shown[:, :, past:] | ~ahead[:, None]),
    )
