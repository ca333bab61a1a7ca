"""Batch: the one record of tensors that every forecaster reads."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """B windows, ready for `forward(batch) -> (B, H, Q)`; all tensors on one device.

    target    (B, T)    float32, in the user's units; 0 where not observed
    observed  (B, T)    bool, False for gaps and for steps before the series began (left padding)
    series    (B,)      int64, row of the series embedding; 0 is UNK, a series the model was not trained on
    calendar  (B, H, F) float32, known-future features of the H target times; a model made for fewer reads the first
    """

    target: Tensor
    observed: Tensor
    series: Tensor
    calendar: Tensor

    def __len__(self) -> int:
        return int(self.target.shape[0])

    def to(self, device: torch.device | str) -> Batch:
        """The same windows on `device`."""
        return Batch(
            target=self.target.to(device),
            observed=self.observed.to(device),
            series=self.series.to(device),
            calendar=self.calendar.to(device),
        )
