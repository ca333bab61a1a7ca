"""What a fit minimises: pinball loss over the levels in units of each series' seasonal-naive error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Truth(NamedTuple):
    """What happened after B windows: target (B, H), observed (B, H) bool, series scale (B,) in the target's units."""

    target: Tensor
    observed: Tensor
    scale: Tensor


def weigh_error(quantiles: Tensor, truth: Truth, levels: Sequence[float], *, relative: float) -> Tensor:
    """Mean over observed steps of pinball / scale + relative * |error of the median| / (|target| + |median|).

    quantiles (B, H, Q) of ascending `levels` with 0.5 among them; a scalar, 0 when nothing was observed. The
    second term bears on series of small level, which sMAPE sees and MASE does not.
    """
    probability = torch.tensor(levels, dtype=quantiles.dtype, device=quantiles.device)  # (Q,)
    error = truth.target[:, :, None] - quantiles  # (B, H, Q)
    pinball = 2.0 * torch.maximum(probability * error, (probability - 1.0) * error).mean(dim=-1)  # (B, H)
    scale = truth.scale[:, None]  # (B, 1)
    loss = pinball / scale
    if relative > 0.0:
        median = quantiles[:, :, levels.index(0.5)]  # (B, H)
        size = truth.target.abs() + median.detach().abs() + 0.05 * scale  # (B, H), the last part bounds the gradient
        loss = loss + relative * (truth.target - median).abs() / size
    return loss.where(truth.observed, 0.0).sum() / truth.observed.sum().clamp(min=1)
