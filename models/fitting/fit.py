"""A fit: learn with the newest steps held back, measure how wide quantiles must be, then learn on everything."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch

from models.config import TrainConfig
from models.fitting.anchor import fit_anchored
from models.fitting.ranks import ALONE, Ranks
from models.fitting.training import FitReport, Progress, clone, learn, list_known
from models.fitting.widths import find_points, loosen, measure_widths, set_widths
from models.network.forecasters import Single
from models.network.heads import PointHead
from models.panel import Panel

REFIT_RATE = 0.4
"""Share of the learning rate in a refit, which begins with good weights.

M4-Hourly's cuts, one seed: 0.4 gave MASE 0.811 and sMAPE 10.57, 1 gave 0.805 and 10.77.
"""
REFIT_SEED = 500_009
"""Between the seeds of a fit and of its refit."""
EARLY = 2
"""A refit counts no more steps of a fit than so many times those that the best weights took."""
LEAST = 0.125
"""Share of the steps of a fit that a refit counts at least."""
LATE = 0.75
"""Where the best weights were found after this share of the steps, the last ones stand for a refit that is blind."""


def fit(
    model: Single,
    panel: Panel,
    config: TrainConfig,
    *,
    device: torch.device,
    on_progress: Callable[[Progress], None],
    ranks: Ranks = ALONE,
) -> FitReport:
    """Trains `model` in place on all but the last `validation_steps` of every series, then for a share `refit` of the
    steps that took on everything; leaves it in eval mode on `device`.

    The weights it starts from are validated too, so without a refit a warm start never ends worse than it began; where
    none were better, there is none. Where the best weights were found early, the refit is shorter: a fit that only grew
    surer of itself would do so again.

    The widths of the quantiles are measured on the held-back steps by the errors of weights that have not seen them and
    were not chosen by them: those of a rehearsal, which goes on from the best weights as the refit will, but blindly.
    Where the best weights are nearly the last, the last ones serve for it. Without a refit, the best weights do.

    Randomness is `config.seed` alone, and the caller's random state is kept. Several `ranks` call it with the same
    model, panel and config, and all end with the weights of one process that takes the same steps; only their dropout
    differs. A fit that is `anchored` has rules of its own, see models/fitting/anchor.py. ValueError when no series has
    two steps to learn from, or the loss does not suit the model's output.
    """
    loosen(model)
    if config.anchored:
        return fit_anchored(model, panel, config, device=device, on_progress=on_progress, ranks=ranks)
    planned = count_steps(config)

    def tell(progress: Progress) -> None:
        on_progress(replace(progress, steps=planned))

    share = None if config.max_seconds is None else max(config.max_seconds * config.steps / planned, 1e-3)
    panel = panel.to(device)
    once = replace(config, max_seconds=share)
    report, last = learn(model, panel, once, device=device, on_progress=tell, ranks=ranks)
    best = clone(model)
    windows = list_known(model, panel, config)
    if planned == config.steps or report.stopped == "loss not finite" or not report.best_step:
        set_widths(model, measure_widths(model, panel, windows, config))
        return report
    along = _Course(config, report, ranks, on_progress)
    if report.best_step >= LATE * report.steps:
        model.load_state_dict(last)
    else:
        along.go_on(model, windows.panel, device=device)
    widths = measure_widths(model, panel, windows, config)
    points = find_points(model, replace(windows, panel=panel), config)
    model.load_state_dict(best)
    report = along.go_on(model, panel, device=device)
    if not isinstance(model.head, PointHead):
        widths = measure_widths(model, panel, windows, config, points=points)
    set_widths(model, widths)
    return report


def count_steps(config: TrainConfig) -> int:
    """Steps of a fit and its refit, if nothing ends them early."""
    refits = config.validation_steps and not config.anchored
    return config.steps + (math.ceil(config.refit * config.steps) if refits else 0)


class _Course:
    """What comes after the best weights are known: goes on from them, with what is known by then.

    There is nothing left to validate on. `report` is that of the fit and of what followed.
    """

    def __init__(
        self, config: TrainConfig, first: FitReport, ranks: Ranks, on_progress: Callable[[Progress], None]
    ) -> None:
        self._config, self._ranks, self._tell = config, ranks, on_progress
        counted = min(first.steps, max(EARLY * first.best_step, LEAST * first.steps))
        self._steps = math.ceil(config.refit * counted)
        self._parts = 1 if first.best_step >= LATE * first.steps else 2
        self._total = first.steps + self._parts * self._steps
        self.report = first

    def go_on(self, model: Single, panel: Panel, *, device: torch.device) -> FitReport:
        """Learn from all of the panel, from the weights that the model has, in an equal part of the time left."""
        config, before = self._config, self.report
        (spent,) = self._ranks.follow(before.seconds)  # rank 0's, so that all end at the same step
        left = None if config.max_seconds is None else max((config.max_seconds - spent) / self._parts, 1e-3)
        again = replace(
            config,
            steps=self._steps,
            learning_rate=REFIT_RATE * config.learning_rate,
            seed=config.seed + REFIT_SEED,
            validation_steps=0,
            max_seconds=left,
        )
        told: list[Progress] = []

        def tell(progress: Progress) -> None:
            step, seconds = before.steps + progress.step, before.seconds + progress.seconds
            told.append(replace(progress, step=step, steps=self._total, seconds=seconds))
            self._tell(told[-1])

        found, _ = learn(model, panel, again, device=device, on_progress=tell, ranks=self._ranks)
        self._parts -= 1
        self.report = replace(
            before,
            steps=before.steps + found.steps,
            seconds=before.seconds + found.seconds,
            history=(*before.history, *told),
            refit_steps=found.steps,
        )
        return self.report
