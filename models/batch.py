"""Batch: the one record of tensors that every forecaster reads."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """B windows, ready for `forward(batch) -> (B, H, Q)`; all tensors on one device.

    target   (B, T)        float64, in the user's units; 0 where not observed
    observed (B, T)        bool, False for gaps and for steps before the series began (left padding)
    series   (B,)          int64, row of the series embedding; 0 is UNK, a series the model was not trained on
    calendar (B, H, F)     float32, known-future features of the H target times; a model made for fewer reads the first
    past     (B, T, P)     float64, covariates known up to the origin, in their own units; past_observed: bool
    future   (B, T + H, K) float64, covariates known over context and horizon; future_observed: bool
    static   (B, Z)        float64, what does not change within a series; static_observed: bool

    Values are float64 until a model has centred them (models.network.scaling). Where a covariate was not observed its
    value means nothing. P, K and Z are 0 for a model without covariates.
    """

    target: Tensor
    observed: Tensor
    series: Tensor
    calendar: Tensor
    past: Tensor
    past_observed: Tensor
    future: Tensor
    future_observed: Tensor
    static: Tensor
    static_observed: Tensor

    @classmethod
    def without_covariates(cls, target: Tensor, observed: Tensor, series: Tensor, calendar: Tensor) -> Batch:
        """Windows of values alone: every covariate has width 0."""
        (rows, context_length), horizon = target.shape, calendar.shape[1]
        return cls(
            target=target,
            observed=observed,
            series=series,
            calendar=calendar,
            past=target.new_empty((rows, context_length, 0)),
            past_observed=observed.new_empty((rows, context_length, 0)),
            future=target.new_empty((rows, context_length + horizon, 0)),
            future_observed=observed.new_empty((rows, context_length + horizon, 0)),
            static=target.new_empty((rows, 0)),
            static_observed=observed.new_empty((rows, 0)),
        )

    @property
    def covariates(self) -> tuple[int, int, int]:
        """P, K, Z: how many past, known-future and static covariates the windows have."""
        return self.past.shape[2], self.future.shape[2], self.static.shape[1]

    def __len__(self) -> int:
        return int(self.target.shape[0])

    def take(self, rows: slice | Tensor) -> Batch:
        """Some of the windows, by a slice, an index or a mask."""
        return Batch(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def to(self, device: torch.device | str) -> Batch:
        """The same windows on `device`."""
        return Batch(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})
