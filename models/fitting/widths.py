"""Honest quantiles: how wide they must be is measured on held-back steps, which no weight was fitted to.

A network that was trained on one value takes the quantiles of its own residuals. One with quantiles of its own keeps
their shape, and both sides of its 80 % interval are stretched until they hold their share: trained on every hour many
times, it is surer of itself than it should be (one network on M4-Hourly's cuts: the interval held 73 %, then 80 %).

The steps that were held back are learned in a refit, so who has seen them cannot judge its errors on them any more. The
errors are therefore those of weights that have not, and the distances those of the weights that will serve:

    score = (actual - median of the blind weights) / (quantile - median of the final weights), as in
    jobs/upkeep/conformal.py
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from models.batch import Batch
from models.config import TrainConfig
from models.fitting.losses import Truth
from models.fitting.sampling import Windows, cut_with_truth, held_back_origins
from models.network.forecasters import Single
from models.network.heads import PointHead
from models.panel import Panel

BATCH = 1024
ENOUGH = 100
"""Residuals of one step from which its quantiles are taken alone; with fewer, those of all steps are pooled."""
SIDES = (0.1, 0.9)
"""The levels that must hold their share: the 80 % interval."""
SCORES = 20
"""Scores of a side from which it is stretched."""
PER_WINDOW = 6
"""Independent scores in a horizon that was held back: neighbouring steps err alike, so they are fewer than steps."""
ALIKE = 0.5
"""Power of the number of series that counts as so many windows: series err alike, too, at one time."""
WINDOWS = 10
"""Of a side's narrowing half is believed with so many windows; what they show to be too narrow is believed at once."""
CALM_WINDOWS = 30
"""The same of a widening, too, of a network that was trained on others' series and knows how wide quantiles are: on 21
tasks, 80 % intervals were within 75 to 85 % in ten, in nine before the fit, and in six with what few windows show."""
STRETCH = (0.5, 4.0)
ORIGINS = 64
"""Windows that few series are looked at through: they overlap, where so many do not fit side by side."""


def loosen(model: Single) -> None:
    """Take back what was measured for an earlier fit: the quantiles are the network's own while it learns."""
    if not isinstance(model.head, PointHead):
        model.head.stretch.fill_(1.0)


@torch.no_grad()
def find_points(model: Single, windows: Windows, config: TrainConfig) -> Tensor | None:
    """Forecast the median (M, H) in the held-back windows with weights that have not learned from them.

    `windows` are those of the whole panel. None where nothing was held back.
    """
    if not config.validation_steps:
        return None
    rows, ends = held_back_windows(windows.panel, model.config.horizon, config)
    median, parts = model.config.quantile_levels.index(0.5), [torch.zeros((0, model.config.horizon))]
    for part in _pieces(rows):
        batch, _ = _cut(model, windows, rows[part], ends[part])
        parts.append(model.unbounded(batch)[:, :, median].cpu())
    return torch.cat(parts)


@torch.no_grad()
def measure_widths(
    model: Single, panel: Panel, windows: Windows, config: TrainConfig, *, points: Tensor | None = None
) -> Tensor | None:
    """Measure on the held-back steps, or for a point loss without any on the newest horizon; None if there are too few.

    A point head's offsets (H, Q) are the quantiles of (target - point) / window scale, per step of the horizon where
    there are ENOUGH. The level 0.5 stays the trained value itself, so the levels below it are at most that and those
    above at least that. A quantile head's are the stretch (2,) of its distances below and above the median, by the
    errors of `points`, as `find_points` found them, or of its own medians.
    """
    own, horizon = isinstance(model.head, PointHead), model.config.horizon
    windows = replace(windows, panel=panel)
    if not own:
        return _find_stretch(model, windows, config, points) if config.validation_steps else None
    rows, ends = held_back_origins(
        panel,
        held_back=config.validation_steps or horizon,
        horizon=horizon,
        stride=config.validation_stride if config.validation_steps else 0,
    )
    return _find_offsets(model, windows, rows, ends)


def held_back_windows(panel: Panel, horizon: int, config: TrainConfig) -> tuple[Tensor, Tensor]:
    """Rows (M,) and ends (M,) of the windows by which widths are measured: ORIGINS of them, if there are few series."""
    stride = find_stride(panel, horizon, config)
    return held_back_origins(panel, held_back=config.validation_steps, horizon=horizon, stride=stride)


def find_stride(panel: Panel, horizon: int, config: TrainConfig) -> int:
    """How far apart those windows are."""
    return min(config.validation_stride or horizon, max(1, config.validation_steps * len(panel) // ORIGINS))


def set_widths(model: Single, widths: Tensor | None) -> None:
    """Put what `measure_widths` found into the head, where it is stored with the weights."""
    if widths is not None:
        (model.head.offsets if isinstance(model.head, PointHead) else model.head.stretch).copy_(widths)


def _find_offsets(model: Single, windows: Windows, rows: Tensor, ends: Tensor) -> Tensor | None:
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


def _find_stretch(model: Single, windows: Windows, config: TrainConfig, points: Tensor | None) -> Tensor | None:
    levels, horizon = model.config.quantile_levels, model.config.horizon
    if not all(level in levels for level in SIDES):
        return None
    low, middle, high = (levels.index(level) for level in (SIDES[0], 0.5, SIDES[1]))
    rows, ends = held_back_windows(windows.panel, horizon, config)
    below: list[Tensor] = []
    above: list[Tensor] = []
    for part in _pieces(rows):
        batch, truth = _cut(model, windows, rows[part], ends[part])
        quantiles = model.unbounded(batch)  # (B, H, Q): one at its floor would seem to be nearer than it is
        centre = quantiles[:, :, middle]  # (B, H)
        error = truth.target - (centre if points is None else points[part].to(centre.device))  # (B, H)
        for scores, level, sign in ((below, low, -1.0), (above, high, 1.0)):
            distance = sign * (quantiles[:, :, level] - centre)  # (B, H)
            usable = truth.observed & (distance > 0.0)
            scores.append((sign * error / distance.where(usable, 1.0))[usable])
    if not below or min(len(torch.cat(below)), len(torch.cat(above))) < SCORES:
        return None
    series, times = len(rows.bincount().nonzero()), config.validation_steps / horizon
    count = PER_WINDOW * series**ALIKE * times
    share = min(SIDES[1] * (count + 1.0) / count, 1.0)  # of few scores a higher one: the next may be beyond them all
    found = [torch.cat(scores).double() for scores in (below, above)]
    wanted = torch.tensor([share], dtype=torch.float64, device=found[0].device)
    stretch = torch.cat([find_quantiles(scores, wanted) for scores in found]).clamp(*STRETCH)  # (2,)
    belief = series * times / (series * times + (CALM_WINDOWS if config.anchored else WINDOWS))
    believed = 1.0 + belief * (stretch - 1.0)  # (2,)
    return (believed if config.anchored else stretch.where(stretch > 1.0, believed)).float()


def _pieces(rows: Tensor) -> list[slice]:
    return [slice(first, first + BATCH) for first in range(0, len(rows), BATCH)]


def _cut(model: Single, windows: Windows, rows: Tensor, ends: Tensor) -> tuple[Batch, Truth]:
    return cut_with_truth(windows, rows, ends, context_length=model.config.context_length, horizon=model.config.horizon)


@torch.no_grad()
def find_residuals(model: Single, windows: Windows, rows: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
    """Residuals of the point forecast in window scales and which of them were observed, (M, H) each."""
    median = model.config.quantile_levels.index(0.5)
    residuals, known = [], []
    for part in _pieces(rows):
        batch, truth = _cut(model, windows, rows[part], ends[part])
        spread = model.find_scale(batch).spread  # (B, 1)
        usable = truth.observed & (spread > 0.0)  # (B, H)
        error = truth.target - model.unbounded(batch)[:, :, median]  # (B, H)
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
