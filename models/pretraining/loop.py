"""The loop that makes the network of the wheel: batches, pinball loss, averaged weights, checkpoints to go on from."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.config import QUANTILE_LEVELS, ModelConfig
from models.network.pretrained import PretrainedForecaster, find_long_season, scale_window
from models.network.scaling import find_scale
from models.pretraining.synthetic import Array
from models.pretraining.windows import Windows, batches

CONFIG = ModelConfig(
    kind="pretrained", hidden=96, segment=16, context_length=1024, horizon=48, season=24, series_dim=0, dropout=0.0
)
"""Of the weights that are made; context, horizon and season are chosen where they are used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How the loop goes.

    steps: in all, those of a checkpoint among them. rate: of learning, constant after `warm_up` steps until the last
    `cool_down` share of all, in which it falls to 0. ema: decay of the averaged weights. real_share: of windows that
    are real where there are any.
    """

    steps: int
    rows: int = 64
    rate: float = 2e-3
    warm_up: int = 300
    cool_down: float = 0.25
    ema: float = 0.998
    weight_decay: float = 0.02
    clip_norm: float = 1.0
    real_share: float = 0.3
    seed: int = 0
    checkpoint_every: int = 500


def find_rate(plan: Plan, step: int) -> float:
    """The learning rate of a step, counted from 0."""
    cooling = plan.steps * plan.cool_down
    left = plan.steps - step
    return plan.rate * min(1.0, (step + 1) / plan.warm_up, left / max(cooling, 1.0))


def find_loss(model: PretrainedForecaster, season: int, windows: Windows, levels: Tensor) -> Tensor:
    """Mean pinball loss of all levels, a window's in units between its spread and its mean seasonal change."""
    model.seasons = (season, find_long_season(season))
    scale = find_scale(windows.values, windows.known, "mean")
    values = scale_window(windows.values, windows.known, scale)
    targets = scale_window(windows.targets, windows.there, scale)
    quantiles = model.forecast(values, windows.known, windows.steps)  # (B, X, Q)
    lag = season if season < values.shape[1] else 1
    pairs = windows.known[:, lag:] & windows.known[:, :-lag]
    change = (values[:, lag:] - values[:, :-lag]).abs().where(pairs, 0.0).sum(dim=1) / pairs.sum(dim=1).clamp(min=1)
    unit = change.where(pairs.any(dim=1), 1.0).clamp(0.02, 2.0).sqrt()[:, None]  # (B, 1)
    error = targets[:, :, None] - quantiles
    pinball = torch.maximum(levels * error, (levels - 1.0) * error).mean(dim=-1) * 2.0 / unit  # (B, X)
    weight = windows.there & (scale.spread > 0.0)
    return pinball.clamp(max=20.0).where(weight, 0.0).sum() / weight.sum().clamp(min=1)


def pretrain(
    plan: Plan,
    real: Mapping[int, Sequence[Array]],
    *,
    checkpoint: Path | None = None,
    start: Mapping[str, Tensor] | None = None,
    say: Callable[[dict[str, Any]], None] = lambda _: None,
    config: ModelConfig = CONFIG,
    device: str = "cpu",
) -> PretrainedForecaster:
    """Train to `plan.steps` and return the averaged weights.

    It begins with the checkpoint if there is one, else with the weights `start`, or with chance.
    The checkpoint is replaced every `checkpoint_every` steps and at the end, whole or not at all.
    """
    torch.manual_seed(plan.seed)
    model = PretrainedForecaster(config).to(device)
    if start is not None:
        model.load_state_dict(start)
    averaged = PretrainedForecaster(config).to(device)
    averaged.load_state_dict(model.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), lr=plan.rate, weight_decay=plan.weight_decay, betas=(0.9, 0.98))
    done = 0
    if checkpoint is not None and checkpoint.exists():
        done = _load(checkpoint, model, averaged, optimizer)
    levels = torch.tensor(QUANTILE_LEVELS, device=device)
    source = batches(np.random.default_rng((plan.seed, done)), plan.rows, real, real_share=plan.real_share)
    model.train()
    losses: list[float] = []
    began = time.monotonic()
    for step in range(done, plan.steps):
        season, windows = next(source)
        for group in optimizer.param_groups:
            group["lr"] = find_rate(plan, step)
        loss = find_loss(model, season, _to(windows, device), levels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), plan.clip_norm)
        optimizer.step()
        _average(averaged, model, min(plan.ema, (step + 1) / (step + 10)))
        losses.append(float(loss.detach()))
        ended = step + 1 == plan.steps
        if (step + 1) % 100 == 0 or ended:
            mean = math.fsum(losses) / len(losses)
            say({"step": step + 1, "loss": round(mean, 5), "seconds": round(time.monotonic() - began, 1)})
            losses.clear()
        if checkpoint is not None and ((step + 1) % plan.checkpoint_every == 0 or ended):
            _save(checkpoint, step + 1, model, averaged, optimizer)
    averaged.seasons = (config.season, find_long_season(config.season))
    return averaged.eval()


def _save(checkpoint: Path, step: int, model: nn.Module, averaged: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    parts = {"model": model.state_dict(), "averaged": averaged.state_dict()}
    tensors = {f"{part}/{name}": value for part, state in parts.items() for name, value in state.items()}
    for number, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{number}/{name}": value for name, value in moments.items()}
    kept = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    beside = checkpoint.with_suffix(".new")
    save_file(kept | {"step": torch.tensor(step)}, beside)
    beside.replace(checkpoint)


def _load(checkpoint: Path, model: nn.Module, averaged: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Put a checkpoint into all three; return the steps that are done."""
    tensors = load_file(checkpoint)
    done = int(tensors.pop("step"))
    state = optimizer.state_dict()
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "averaged": {}}
    for name, value in tensors.items():
        part, _, rest = name.partition("/")
        if part == "optimizer":
            number, _, moment = rest.partition("/")
            state["state"].setdefault(int(number), {})[moment] = value
        else:
            parts[part][rest] = value
    model.load_state_dict(parts["model"])
    averaged.load_state_dict(parts["averaged"])
    optimizer.load_state_dict(state)
    return done


def _to(windows: Windows, device: str) -> Windows:
    if device == "cpu":
        return windows
    names = ("values", "known", "targets", "there")
    return replace(windows, **{name: getattr(windows, name).to(device) for name in names})


@torch.no_grad()
def _average(averaged: PretrainedForecaster, model: PretrainedForecaster, decay: float) -> None:
    for kept, new in zip(averaged.parameters(), model.parameters(), strict=True):
        kept.lerp_(new, 1.0 - decay)
