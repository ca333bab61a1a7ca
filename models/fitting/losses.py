"""What a fit minimises, in units of each series' seasonal-naive error: pinball loss or a point loss.

Values and quantiles are subtracted in float64, where a small wave on a large level is still there; the rest is float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

POINT_LOSSES: dict[str, Callable[..., Tensor]] = {
    "mse": functional.mse_loss,
    "mae": functional.l1_loss,
    "huber": functional.huber_loss,
}


class Truth(NamedTuple):
    """What happened after B windows: target (B, H), observed (B, H) bool, series scale (B,) in the target's units.

    A series without a unit of its own has the scale inf, and no weight.
    """

    target: Tensor
    observed: Tensor
    scale: Tensor


def weigh_error(quantiles: Tensor, truth: Truth, levels: Sequence[float], *, loss: str, relative: float) -> Tensor:
    """Mean of `loss` over observed steps; a scalar, 0 when nothing was observed. See `sum_error`."""
    error, count = sum_error(quantiles, truth, levels, loss=loss, relative=relative)
    return error / count.clamp(min=1)


def sum_error(
    quantiles: Tensor,
    truth: Truth,
    levels: Sequence[float],
    *,
    loss: str,
    relative: float,
    probability: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Sum of `loss` over observed steps and how many there are, two scalars.

    quantiles (B, H, Q) of ascending `levels` with 0.5 among them, which is the point forecast. "pinball" is pinball /
    scale + relative * |error of the median| / (|target| + |median|); the second term bears on series of small
    level, which sMAPE sees and MASE does not. "mse", "mae" and "huber" (quadratic within one scale) take the point
    forecast's error / scale and nothing else. probability (Q,): the levels on the device, so that none are copied.
    """
    point = quantiles[:, :, levels.index(0.5)]  # (B, H)
    scale = truth.scale[:, None]  # (B, 1)
    if loss == "pinball":
        if probability is None:
            probability = torch.tensor(levels, device=quantiles.device)  # (Q,)
        each = _pinball(quantiles, truth, probability)  # (B, H)
        if relative > 0.0:
            size = truth.target.abs() + point.detach().abs() + 0.05 * scale  # (B, H), the last part bounds the gradient
            each = each + relative * ((truth.target - point).abs() / size).float()
    else:
        error = ((point - truth.target).where(truth.observed, 0.0) / scale).float()  # (B, H)
        each = POINT_LOSSES[loss](error, torch.zeros_like(error), reduction="none")  # (B, H)
    return each.where(truth.observed, 0.0).sum(), truth.observed.sum()


def _pinball(quantiles: Tensor, truth: Truth, probability: Tensor) -> Tensor:  # (B, H, Q) to (B, H), in scales
    error = ((truth.target[:, :, None] - quantiles) / truth.scale[:, None, None]).float()  # (B, H, Q)
    return 2.0 * torch.maximum(probability * error, (probability - 1.0) * error).mean(dim=-1)
