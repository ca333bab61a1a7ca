"""Honest quantiles: how wide they must be is measured on held-back steps, which no weight was fitted to.

A network that was trained on one value takes the quantiles of its own residuals. One with quantiles of its own keeps
their shape, and both sides of its 80 % interval are stretched until they hold their share: trained on every hour many
times, it is surer of itself than it should be (one network on M4-Hourly's cuts: the interval held 73 %, then 80 %).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from models.config import TrainConfig
from models.forecasters import RecurrentForecaster
from models.heads import PointHead
from models.panel import Panel
from models.sampling import Windows, cut_with_truth, held_back_origins

BATCH = 1024
ENOUGH = 100
"""Residuals of one step from which its quantiles are taken alone; with fewer, those of all steps are pooled."""
SIDES = (0.1, 0.9)
"""The levels that must hold their share: the 80 % interval."""
WINDOWS = 10
"""Of a side's stretch half is believed with so many windows: their errors lean the same way, so few say little."""
STRETCH = (0.5, 3.0)


def loosen(model: RecurrentForecaster) -> None:
    """Take back what was measured for an earlier fit: the quantiles are the network's own while it learns."""
    if not isinstance(model.head, PointHead):
        model.head.stretch.fill_(1.0)


@torch.no_grad()
def measure_widths(model: RecurrentForecaster, panel: Panel, windows: Windows, config: TrainConfig) -> Tensor | None:
    """Measure on the held-back steps, or for a point loss without any on the newest horizon; None if there are too few.

    A point head's offsets (H, Q) are the quantiles of (target - point) / window scale, per step of the horizon where
    there are ENOUGH. The level 0.5 stays the trained value itself, so the levels below it are at most that and those
    above at least that. A quantile head's are the stretch (2,) of its distances below and above the median.
    """
    own, horizon = isinstance(model.head, PointHead), model.config.horizon
    if not own and not config.validation_steps:
        return None
    rows, ends = held_back_origins(
        panel,
        held_back=config.validation_steps or horizon,
        horizon=horizon,
        stride=config.validation_stride if config.validation_steps else 0,
    )
    windows = replace(windows, panel=panel)
    return _find_offsets(model, windows, rows, ends) if own else _find_stretch(model, windows, rows, ends)


def set_widths(model: RecurrentForecaster, widths: Tensor | None) -> None:
    """Put what `measure_widths` found into the head, where it is stored with the weights."""
    if widths is not None:
        (model.head.offsets if isinstance(model.head, PointHead) else model.head.stretch).copy_(widths)


def _find_offsets(model: RecurrentForecaster, windows: Windows, rows: Tensor, ends: Tensor) -> Tensor | None:
    horizon, median = model.config.horizon, model.config.quantile_levels.index(0.5)
    residuals, observed = find_residuals(model, windows, rows, ends)  # (M, H) each
    if int(observed.sum()) < 2:
        return None
    levels = torch.tensor(model.config.quantile_levels, dtype=residuals.dtype, device=residuals.device)  # (Q,)
    if int(observed.sum(dim=0).min()) >= ENOUGH:
        each = [find_quantiles(residuals[observed[:, step], step], levels) for step in range(horizon)]
        offsets = torch.stack(each)  # (H, Q)
    else:
        offsets = find_quantiles(residuals[observed], levels).expand(horizon, -1)  # (H, Q)
    below, above = offsets[:, :median].clamp(max=0.0), offsets[:, median + 1 :].clamp(min=0.0)
    return torch.cat((below, torch.zeros_like(offsets[:, :1]), above), dim=1)


def _find_stretch(model: RecurrentForecaster, windows: Windows, rows: Tensor, ends: Tensor) -> Tensor | None:
    levels = model.config.quantile_levels
    if not all(level in levels for level in SIDES):
        return None
    low, middle, high = (levels.index(level) for level in (SIDES[0], 0.5, SIDES[1]))
    below: list[Tensor] = []
    above: list[Tensor] = []
    for first in range(0, len(rows), BATCH):
        part = slice(first, first + BATCH)
        batch, truth = cut_with_truth(
            windows, rows[part], ends[part], context_length=model.config.context_length, horizon=model.config.horizon
        )
        quantiles = model(batch)  # (B, H, Q)
        point = quantiles[:, :, middle]  # (B, H)
        for ratios, level, sign in ((below, low, -1.0), (above, high, 1.0)):
            distance = sign * (quantiles[:, :, level] - point)  # (B, H)
            usable = truth.observed & (distance > 0.0)
            ratios.append((sign * (truth.target - point) / distance.where(usable, 1.0))[usable])
    if not below or min(len(torch.cat(below)), len(torch.cat(above))) < ENOUGH:
        return None
    found = [torch.cat(ratios).double() for ratios in (below, above)]
    share = torch.tensor([SIDES[1]], dtype=torch.float64, device=found[0].device)
    stretch = torch.cat([find_quantiles(ratios, share) for ratios in found])  # (2,)
    belief = len(rows) / (len(rows) + WINDOWS)
    return (1.0 + belief * (stretch.clamp(*STRETCH) - 1.0)).float()


@torch.no_grad()
def find_residuals(model: RecurrentForecaster, windows: Windows, rows: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
    """Residuals of the point forecast in window scales and which of them were observed, (M, H) each."""
    median = model.config.quantile_levels.index(0.5)
    residuals, known = [], []
    for first in range(0, len(rows), BATCH):
        part = slice(first, first + BATCH)
        batch, truth = cut_with_truth(
            windows, rows[part], ends[part], context_length=model.config.context_length, horizon=model.config.horizon
        )
        spread = model.find_scale(batch).spread  # (B, 1)
        usable = truth.observed & (spread > 0.0)  # (B, H)
        error = truth.target - model(batch)[:, :, median]  # (B, H)
        residuals.append((error / spread.where(spread > 0.0, 1.0)).where(usable, 0.0))
        known.append(usable)
    if not residuals:
        return torch.zeros((0, model.config.horizon)), torch.zeros((0, model.config.horizon), dtype=torch.bool)
    return torch.cat(residuals), torch.cat(known)


def find_quantiles(values: Tensor, levels: Tensor) -> Tensor:
    """Quantiles of any number of values (N,) at `levels` (Q,), interpolated: (Q,). torch.quantile stops at 2^24."""
    ordered = values.sort().values  # (N,)
    place = levels * (len(ordered) - 1)  # (Q,)
    low = place.floor().long()  # (Q,)
    high = (low + 1).clamp(max=len(ordered) - 1)  # (Q,)
    return torch.lerp(ordered[low], ordered[high], place - low)
