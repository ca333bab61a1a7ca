"""The training loop, on one page: step after step (models/fitting/step.py), validate, keep the best."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from models.config import TrainConfig
from models.fitting.graph import choose_path
from models.fitting.losses import weigh_error
from models.fitting.ranks import ALONE, Clock, Ranks
from models.fitting.sampling import Windows, cut_with_truth, find_deviation, held_back_origins, list_windows
from models.fitting.step import TrainingStep
from models.network.forecasters import Network, Single
from models.network.precision import choose_precision
from models.panel import Panel

WARM_UP = 0.1
VALIDATION_BATCH = 1024
APART = 1_000_003
"""Between the dropout seeds of two ranks; ensembles use the seeds that follow each other."""


@dataclass(frozen=True, slots=True)
class Progress:
    """One validation: steps done of steps, seconds, mean training loss since the last one, validation loss (or NaN)."""

    step: int
    steps: int
    seconds: float
    loss: float
    validation: float


@dataclass(frozen=True, slots=True)
class FitReport:
    """How a fit ended. The model holds the weights of `best_step`, whose validation loss is
    `best_validation`.

    stopped: "all steps done", "no better for N validations", "time budget spent" or "loss not finite". path: "cuda
    graph" or "eager", with the reason if a graph was wanted. precision: of the forward pass. processes: that fitted.
    refit_steps: those of `steps` that followed once the best one was known, on everything. share: of the way from the
    weights at the start that is kept; below 1 only where the fit is anchored, 0 if nothing better was found.
    """

    steps: int
    best_step: int
    best_validation: float
    seconds: float
    stopped: str
    history: tuple[Progress, ...]
    path: str = "eager"
    precision: str = "float32"
    processes: int = 1
    refit_steps: int = 0
    share: float = 1.0


def choose_device(wish: str) -> torch.device:
    """The device named "cpu" or "cuda", or the better one there is for "auto"; ValueError when it is not there."""
    if wish == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if wish not in ("cpu", "cuda"):
        raise ValueError(f"device {wish!r} is unknown: use auto, cpu or cuda")
    if wish == "cuda" and not torch.cuda.is_available():
        raise ValueError("device cuda is not available on this machine: use auto or cpu")
    return torch.device(wish)


def learn(
    model: Single,
    panel: Panel,
    config: TrainConfig,
    *,
    device: torch.device,
    on_progress: Callable[[Progress], None],
    ranks: Ranks = ALONE,
) -> tuple[FitReport, dict[str, Tensor]]:
    """The loop: `model` ends with the best averaged weights; returned are the report and the last averaged ones."""
    if (config.loss == "pinball") != (model.config.output == "quantiles"):
        raise ValueError(f"loss {config.loss} does not train output {model.config.output!r}: change one of them")
    panel = panel.to(device)
    windows = list_known(model, panel, config)
    if not len(windows):
        raise ValueError(
            f"no series has two steps before the last {config.validation_steps}: train on longer histories"
        )

    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(config.seed + APART * ranks.rank)
        generator = torch.Generator(device).manual_seed(config.seed)
        model.to(device).train()
        model.learn_static(panel)
        if model.signs is not None:
            model.signs.learn(windows.panel)
        if model.spreads is not None:
            model.spreads.learn(windows.panel.series, find_deviation(windows.panel))
        average = copy.deepcopy(model).eval()
        _lay_flat(average)
        precision = choose_precision(config.precision, device)
        step_of = TrainingStep(model, average, windows, config, generator=generator, ranks=ranks, precision=precision)
        best = clone(average)
        best_step, best_loss, worse = 0, validate(average, panel, windows, config, ranks), 0
        make, path = choose_path(step_of, config.graph)
        history: list[Progress] = []
        clock = Clock(ranks, config.validate_every)
        stopped = "all steps done"

        for step in range(1, config.steps + 1):
            seconds = clock.read(step)
            rate = config.learning_rate * anneal(config.schedule, _find_progress(step, seconds, config))
            step_of.choose(rate, 1.0 - min(config.ema, step / (step + 10.0)))
            make()

            late = config.max_seconds is not None and seconds >= config.max_seconds
            if step % config.validate_every and step != config.steps and not late:
                continue
            scores = step_of.read_loss(), validate(average, panel, windows, config, ranks)
            training_loss, validation = ranks.follow(*scores)
            history.append(Progress(step, config.steps, clock.own(), training_loss, validation))
            on_progress(history[-1])
            if not math.isfinite(training_loss):
                stopped = "loss not finite"
                break
            if validation < best_loss or math.isnan(validation):
                best, best_step, best_loss, worse = clone(average), step, validation, 0
            else:
                worse += 1
            if late:
                stopped = "time budget spent"
                break
            if worse >= config.patience:
                stopped = f"no better for {worse} validations"
                break

    last = clone(average)
    model.load_state_dict(best)
    model.eval()
    report = FitReport(
        steps=step,
        best_step=best_step,
        best_validation=best_loss,
        seconds=clock.own(),
        stopped=stopped,
        history=tuple(history),
        path=path,
        precision=str(precision).removeprefix("torch."),
        processes=ranks.world,
    )
    return report, last


def list_known(model: Network, panel: Panel, config: TrainConfig) -> Windows:
    """The windows that a fit of `model` sees: all but the last `validation_steps` of every series."""
    return list_windows(
        panel,
        held_back=config.validation_steps,
        context_length=model.config.context_length,
        horizon=model.config.horizon,
        season=model.config.season,
        scaled=config.scaled,
    )


@torch.no_grad()
def validate(model: Network, panel: Panel, windows: Windows, config: TrainConfig, ranks: Ranks = ALONE) -> float:
    """Loss of `model` (eval mode) on rolling origins over the held-back steps; NaN when none of them was observed.

    Several ranks score a part each.
    """
    rows, ends = held_back_origins(
        panel, held_back=config.validation_steps, horizon=model.config.horizon, stride=config.validation_stride
    )
    whole = replace(windows, panel=panel)
    total, count = 0.0, 0.0
    for first in range(ranks.rank * VALIDATION_BATCH, len(rows), ranks.world * VALIDATION_BATCH):
        part = slice(first, first + VALIDATION_BATCH)
        batch, truth = cut_with_truth(
            whole, rows[part], ends[part], context_length=model.config.context_length, horizon=model.config.horizon
        )
        observed = int(truth.observed.sum())
        loss = weigh_error(
            model(batch), truth, model.config.quantile_levels, loss=config.loss, relative=config.relative
        )
        total += float(loss) * observed
        count += observed
    total, count = ranks.total(total, count)
    return total / count if count else math.nan


def anneal(schedule: str, progress: float) -> float:
    """Share of the learning rate at `progress` 0..1.

    "one_cycle": cosine up from 1/25 in the first tenth, then down to 1/1000. "cosine": down at once. "constant": 1.
    """
    if schedule == "constant":
        return 1.0
    warm_up = WARM_UP if schedule == "one_cycle" else 0.0
    if progress < warm_up:
        return 1.0 - 0.96 * (0.5 + 0.5 * math.cos(math.pi * progress / warm_up))
    left = 0.5 + 0.5 * math.cos(math.pi * min((progress - warm_up) / (1.0 - warm_up), 1.0))
    return max(left, 1e-3)


def _find_progress(step: int, seconds: float, config: TrainConfig) -> float:
    # The clock counts only after a tenth of the budget, so a fit well inside its budget depends on the seed alone.
    share = step / config.steps
    if config.max_seconds is None or seconds < 0.1 * config.max_seconds:
        return share
    return max(share, seconds / config.max_seconds)


def _lay_flat(model: nn.Module) -> None:
    # A copy of a recurrent layer has its weights in pieces, which cuDNN would gather again at every validation.
    for layer in model.modules():
        if isinstance(layer, nn.RNNBase):
            layer.flatten_parameters()


def clone(model: nn.Module) -> dict[str, Tensor]:
    """Copy weights and buffers, by name."""
    return {name: weight.detach().clone() for name, weight in model.state_dict().items()}
