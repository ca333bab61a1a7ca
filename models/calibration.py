"""Honest quantiles for a network that was trained on one value: the quantiles of its own residuals."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from models.forecasters import RecurrentForecaster
from models.heads import PointHead
from models.panel import Panel
from models.sampling import Windows, cut_with_truth, held_back_origins

BATCH = 1024
ENOUGH = 100
"""Residuals of one step from which its quantiles are taken alone; with fewer, those of all steps are pooled."""


@torch.no_grad()
def calibrate(model: RecurrentForecaster, panel: Panel, windows: Windows, validation_steps: int) -> None:
    """Set a point head's offsets to the quantiles of (target - point) / window scale, per step of the horizon.

    The residuals are those of the held-back steps, which no weight was fitted to; without any, of the newest horizon.
    The level 0.5 stays the trained value itself, so the levels below it are at most that and those above at least
    that. Nothing changes for a network with quantiles of its own, or where fewer than two residuals were observed.
    """
    if not isinstance(model.head, PointHead):
        return
    horizon = model.config.horizon
    rows, ends = held_back_origins(panel, held_back=validation_steps or horizon, horizon=horizon)
    residuals, observed = find_residuals(model, replace(windows, panel=panel), rows, ends)  # (M, H) each
    if int(observed.sum()) < 2:
        return
    levels = torch.tensor(model.config.quantile_levels, dtype=residuals.dtype, device=residuals.device)  # (Q,)
    if int(observed.sum(dim=0).min()) >= ENOUGH:
        each = [find_quantiles(residuals[observed[:, step], step], levels) for step in range(horizon)]
        offsets = torch.stack(each)  # (H, Q)
    else:
        offsets = find_quantiles(residuals[observed], levels).expand(horizon, -1)  # (H, Q)
    median = model.head.median
    below, above = offsets[:, :median].clamp(max=0.0), offsets[:, median + 1 :].clamp(min=0.0)
    model.head.offsets.copy_(torch.cat((below, torch.zeros_like(offsets[:, :1]), above), dim=1))


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
