"""Fit a network or an ensemble, whose members come one after the other, each exactly as it would be fitted alone."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from models.config import TrainConfig
from models.fitting.fit import count_steps, fit
from models.fitting.parallel import Crew, crew, receive, send
from models.fitting.ranks import ALONE, Ranks
from models.fitting.training import FitReport, Progress, list_known, validate
from models.network.baselines import SeasonalNaive
from models.network.forecasters import Ensemble, Network, Single, build
from models.panel import Panel


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
    report are sums over the members, `best_validation` is the ensemble's own (with a refit the members' mean). Widths
    of quantiles are measured for each member alone, so those of the ensemble are a little too wide. Where torchrun
    has started other processes, which `follow`, they are called and fit along.
    """
    others = crew()
    if others is None:
        return _fit_all(model, panel, config, device=device, on_progress=on_progress, ranks=ALONE)
    others.ranks.share(config.batch_size)
    send(others, model, panel, config)
    return _fit_all(model, panel, config, device=device, on_progress=on_progress, ranks=others.ranks)


def follow(others: Crew, device: torch.device) -> None:
    """Fit along with rank 0 whenever it calls, until it has ended; what comes out is rank 0's to use."""
    while (order := receive(others)) is not None:
        model = build(order.model)
        assert not isinstance(model, SeasonalNaive), "seasonal naive is not fitted"
        model.load_state_dict(order.weights)
        with contextlib.suppress(ValueError):  # rank 0 meets the same one, and says it
            _fit_all(model, order.panel, order.config, device=device, on_progress=_say_nothing, ranks=others.ranks)


def _say_nothing(progress: Progress) -> None:
    """Rank 0 reports."""


def _fit_all(
    model: Network,
    panel: Panel,
    config: TrainConfig,
    *,
    device: torch.device,
    on_progress: Callable[[Progress], None],
    ranks: Ranks,
) -> FitReport:
    if isinstance(model, Single):
        return fit(model, panel, config, device=device, on_progress=on_progress, ranks=ranks)
    members = model.networks()
    planned = count_steps(config)
    began = time.monotonic()
    reports: list[FitReport] = []
    history: list[Progress] = []
    for index, member in enumerate(members):
        (before,) = ranks.follow(time.monotonic() - began)

        def tell(progress: Progress, *, index: int = index, before: float = before) -> None:
            history.append(
                replace(
                    progress,
                    step=index * planned + progress.step,
                    steps=len(members) * planned,
                    seconds=before + progress.seconds,
                )
            )
            on_progress(history[-1])

        share = None if config.max_seconds is None else (config.max_seconds - before) / (len(members) - index)
        own = replace(config, seed=config.seed + index, max_seconds=None if share is None else max(share, 1e-3))
        reports.append(fit(member, panel, own, device=device, on_progress=tell, ranks=ranks))
    model.eval()
    return FitReport(
        steps=sum(report.steps for report in reports),
        best_step=sum(report.best_step for report in reports),
        best_validation=_score(model, panel.to(device), config, reports, ranks),
        seconds=time.monotonic() - began,
        stopped="; ".join(dict.fromkeys(report.stopped for report in reports)),
        history=tuple(history),
        path="; ".join(dict.fromkeys(report.path for report in reports)),
        precision=reports[0].precision,
        processes=ranks.world,
        refit_steps=sum(report.refit_steps for report in reports),
    )


def _score(model: Ensemble, panel: Panel, config: TrainConfig, reports: Sequence[FitReport], ranks: Ranks) -> float:
    # After a refit nothing is held back, and what the members had before it is all there is to say.
    if config.refit > 0.0:
        return sum(report.best_validation for report in reports) / len(reports)
    return validate(model, panel, list_known(model, panel, config), config, ranks)
