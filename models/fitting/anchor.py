"""A fit that begins with good weights: a few steps, and of the way that they go what held-back steps bear out.

The network of the wheel forecasts series well that it has never seen. A user's history moves its weights a little, and
those that are kept lie between where they began and where they ended, which forecast better than either (WiSE-FT,
https://arxiv.org/abs/2109.01903). The held-back steps are few and alike, so they do not find the best share of the way:
it is a quarter where they are forecast better so, a tenth where they say little, and they may speak for more or none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from models.config import TrainConfig
from models.fitting.ranks import Ranks
from models.fitting.training import FitReport, Progress, learn, list_known, validate
from models.fitting.widths import ALIKE, find_stride, measure_widths, set_widths
from models.network.forecasters import Single
from models.panel import Panel

SHARES = (0.0, 0.1, 0.25, 0.5, 1.0)
USUAL = 2
"""Place of the share that is kept where held-back steps are forecast better so, by however little."""
WORSE = 1.01
"""Of the loss that the weights had at the start: where the least share is worse, nothing is kept."""
BETTER = 0.06
"""By so much of that loss, over the root of the independent windows, a share above that must be better than the next
smaller one."""
EPOCHS = 8
"""Times that a window is learned from, at most: from a short history, many steps learn its noise."""
LEAST = 10
"""Steps, where there are fewer windows than that."""


def fit_anchored(
    model: Single,
    panel: Panel,
    config: TrainConfig,
    *,
    device: torch.device,
    on_progress: Callable[[Progress], None],
    ranks: Ranks,
) -> FitReport:
    """Train `model` in place as `fit` does, without a refit; `share` of the report says what is kept of the way."""
    panel = panel.to(device)
    windows = list_known(model, panel, config)
    steps = min(config.steps, max(LEAST, math.ceil(EPOCHS * len(windows) / config.batch_size)))
    start = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    planned = replace(config, steps=steps)
    report, last = learn(model, panel, planned, device=device, on_progress=on_progress, ranks=ranks)
    often = replace(config, relative=0.0, validation_stride=find_stride(panel, model.config.horizon, config))
    losses: dict[float, float] = {}
    for share in SHARES if report.stopped != "loss not finite" else (0.0,):
        model.load_state_dict(go_part_of_the_way(start, last, share))
        losses[share] = validate(model, panel, windows, often, ranks)
    share = choose_share(losses, count_independent(panel, model.config.horizon, config))
    model.load_state_dict(go_part_of_the_way(start, last, share))
    if share:
        set_widths(model, measure_widths(model, panel, windows, config))
    best_step = report.steps if share else 0
    return replace(report, best_step=best_step, best_validation=losses[share], share=share)


def go_part_of_the_way(start: Mapping[str, Tensor], end: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """The state `end`, with its weights that `start` has at that share of the way from there."""
    kept = {name: torch.lerp(weight, end[name], share) for name, weight in start.items()} if share else start
    return {**end, **kept}


def count_independent(panel: Panel, horizon: int, config: TrainConfig) -> float:
    """How many held-back windows say something of their own: series err alike, and windows that overlap, too."""
    return float(len(panel) ** ALIKE * config.validation_steps / horizon)


def choose_share(losses: Mapping[float, float], windows: float) -> float:
    """Which share of the way to keep, by the loss that each has on so many held-back windows; NaN where none are."""
    before = losses[0.0]
    if len(losses) == 1 or not before > 0.0:
        return 0.0
    loss = [losses[share] for share in SHARES]
    kept = USUAL
    while kept + 1 < len(SHARES) and loss[kept + 1] < loss[kept] - BETTER / math.sqrt(windows) * before:
        kept += 1
    if kept > USUAL or loss[USUAL] < min(loss[:USUAL]):
        return SHARES[kept]
    return SHARES[1] if loss[1] <= WORSE * before else 0.0
