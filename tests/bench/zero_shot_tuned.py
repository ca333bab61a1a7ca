"""Ours after a fit on each task's own history, beside ours as it came: what a retraining adds.

The history ends at the first origin of each series, and all origins are forecast by that one fit.
"""

import time
from collections.abc import Sequence

import numpy as np
import torch

from jobs.retraining.challenger import train_config
from jobs.retraining.training_set import usual_validation
from jobs.retraining.warm_start import begin
from models.artifact import Loaded
from models.fitting.ensembles import fit_members
from models.fitting.training import FitReport
from models.network.forecasters import Single
from models.panel import Panel, build_panel
from models.presets import PRETRAINED
from models.pretrained import load_pretrained
from pipeline.records import Floats
from pipeline.settings import ModelSettings, SeriesSettings, Settings
from tests.bench.results import say
from tests.bench.zero_shot_own import OWN_CONTEXT, predict_own, predict_zero_shot
from tests.bench.zero_shot_peers import Answer, check
from tests.bench.zero_shot_sources import grid_of
from tests.bench.zero_shot_tasks import Task


def answer_tuned(name: str, tasks: Sequence[Task], artifact: bytes | None) -> Answer:
    """Fit and forecast every task; where there is nothing to learn from, the network forecasts as it came."""
    found, seconds, fits = {}, {}, {}
    for task in tasks:
        began = time.perf_counter()
        histories = task.histories()
        try:
            model, report = tune(task, artifact)
        except ValueError:
            quantiles = predict_own(artifact, histories, task.season, task.frequency, task.horizon)
        else:
            quantiles = predict_zero_shot(model, histories, task.season, task.frequency, task.horizon)
            fits[task.name] = {"share": report.share, "steps": report.steps, "seconds": round(report.seconds, 1)}
        seconds[task.name] = time.perf_counter() - began
        found[task.name] = check(f"{name} on {task.name}", task, quantiles)
        say(f"{name}: {task.name}, {fits.get(task.name, 'nothing to learn from')}")
    return Answer(found, seconds=seconds, fits=fits)


def tune(task: Task, artifact: bytes | None) -> tuple[Single, FitReport]:
    """Fit at the product's defaults, on what was known at the first origins; ValueError with nothing to learn from."""
    known = learnable(task)
    longest = max(2, min(OWN_CONTEXT, max(end for _, end in task.windows)))
    settings = Settings(
        series=SeriesSettings(frequency=task.frequency, season=task.season, context=longest, horizon=task.horizon),
        model=ModelSettings(kind=PRETRAINED),
    )
    start = begin(settings, grid_of(task.frequency))
    wheel = start.champion
    assert isinstance(wheel, Loaded)
    model = load_pretrained(wheel.config, artifact).model
    assert isinstance(model, Single)
    lengths = np.array([len(values) for values in known])
    training = train_config(start.adapt(settings), usual_validation(lengths, task.horizon))
    panel = lay_out(known, context=longest, horizon=task.horizon)
    return model, fit_members(model, panel, training, device=torch.device("cpu"), on_progress=lambda _: None)


def learnable(task: Task) -> list[Floats]:
    """The values of each series before its first origin."""
    ends: dict[int, int] = {}
    for row, end in task.windows:
        ends[row] = min(end, ends.get(row, end))
    return [task.values[row][:end] for row, end in sorted(ends.items())]


def lay_out(histories: Sequence[Floats], *, context: int, horizon: int) -> Panel:
    """A panel of series that no network knows by name."""
    none = np.zeros(len(histories), np.int64)
    return build_panel(
        np.concatenate(histories),
        np.array([len(values) for values in histories]),
        first_step=none,
        series=none,
        calendar=np.zeros((0, 0)),
        calendar_start=0,
        context_length=context,
        horizon=horizon,
    )
