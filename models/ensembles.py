"""Fit an ensemble: its members one after the other, each exactly as it would be fitted alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import torch

from models.config import TrainConfig
from models.forecasters import Network, RecurrentForecaster
from models.panel import Panel
from models.sampling import list_windows
from models.training import FitReport, Progress, fit, validate


def fit_members(
    model: Network,
    panel: Panel,
    config: TrainConfig,
    *,
    device: torch.device,
    on_progress: Callable[[Progress], None],
) -> FitReport:
    """Train a network, or every member of an ensemble, in place, member i with seed + i.

    `max_seconds` is for all of them: each gets an equal share of what is left. Steps, best step and history of the
    report are sums over the members, `best_validation` is the ensemble's own. Each member of a point loss has the
    quantiles of its own residuals, so those of the ensemble are a little too wide.
    """
    if isinstance(model, RecurrentForecaster):
        return fit(model, panel, config, device=device, on_progress=on_progress)
    members = model.networks()
    began = time.monotonic()
    reports: list[FitReport] = []
    history: list[Progress] = []
    for index, member in enumerate(members):
        before = time.monotonic() - began

        def tell(progress: Progress, *, index: int = index, before: float = before) -> None:
            history.append(
                replace(
                    progress,
                    step=index * config.steps + progress.step,
                    steps=len(members) * config.steps,
                    seconds=before + progress.seconds,
                )
            )
            on_progress(history[-1])

        share = None if config.max_seconds is None else (config.max_seconds - before) / (len(members) - index)
        own = replace(config, seed=config.seed + index, max_seconds=None if share is None else max(share, 1e-3))
        reports.append(fit(member, panel, own, device=device, on_progress=tell))
    model.eval()
    sizes = {"context_length": model.config.context_length, "horizon": model.config.horizon}
    panel = panel.to(device)
    windows = list_windows(
        panel, held_back=config.validation_steps, season=model.config.season, scaled=config.scaled, **sizes
    )
    return FitReport(
        steps=sum(report.steps for report in reports),
        best_step=sum(report.best_step for report in reports),
        best_validation=validate(model, panel, windows, config),
        seconds=time.monotonic() - began,
        stopped="; ".join(dict.fromkeys(report.stopped for report in reports)),
        history=tuple(history),
    )
