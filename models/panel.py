"""Panel: every series' history in one flat tensor, and the one function that cuts windows out of flat
tensors.

The scorer cuts from its ring buffer with the same `cut`, so training and serving windows are equal bit for
bit.

    flat   | margin of zeros | series 0 | margin of zeros | series 1 | margin of zeros |
                              ^ start[0]                   ^ start[1]
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.batch import Batch


def slices(flat: Tensor, begin: Tensor, length: int) -> Tensor:
    """`flat[begin[i] : begin[i] + length]` for every i, as (B, length).

    An overlapping strided view makes the gather one `index_select` of contiguous rows: 7x an index matrix
    (measured). Raises IndexError on a CPU when a slice leaves `flat`.
    """
    if flat.dim() != 1 or not flat.is_contiguous() or flat.shape[0] < length:
        raise ValueError(f"slices of {length} need a contiguous 1-d tensor of at least that, not {tuple(flat.shape)}")
    rows = flat.as_strided((flat.shape[0] - length + 1, length), (1, 1))  # (N - length + 1, length), no memory
    return rows.index_select(0, begin)  # (B, length)


def cut(
    target: Tensor,
    observed: Tensor,
    begin: Tensor,
    series: Tensor,
    *,
    calendar: Tensor,
    calendar_index: Tensor,
    context_length: int,
    horizon: int,
) -> Batch:
    """Windows of two flat tensors as a Batch.

    target (N,) float32 with 0 where not observed, observed (N,) bool; begin (B,) int64 flat index of each
    window's first step; series (B,) int64; calendar (K, F) float32, calendar_index (B,) int64 its row for
    each first target step.
    """
    return Batch(
        target=slices(target, begin, context_length),
        observed=slices(observed, begin, context_length),
        series=series,
        calendar=_cut_calendar(calendar, calendar_index, horizon),
    )


def _cut_calendar(calendar: Tensor, index: Tensor, horizon: int) -> Tensor:
    rows, features = calendar.shape
    if features == 0:
        return calendar.new_zeros((index.shape[0], horizon, 0))
    if rows < horizon or not calendar.is_contiguous():
        raise ValueError(f"a horizon of {horizon} needs a contiguous calendar of at least that, not {rows} rows")
    windows = calendar.as_strided((rows - horizon + 1, horizon, features), (features, features, 1))
    return windows.index_select(0, index)  # (B, H, F)


@dataclass(frozen=True, slots=True)
class Panel:
    """S series on one device.

    target      (N,)   float32, 0 where not observed         observed (N,) bool
    start       (S,)   int64, flat index of each series' first real step
    length      (S,)   int64, steps of each series           first_step (S,) int64, grid step of the first one
    series      (S,)   int64, embedding rows, 0 = UNK
    calendar    (K, F) float32, row 0 belongs to grid step calendar_start
    margin             unobserved steps before each series and after the last: the longest context and horizon
    """

    target: Tensor
    observed: Tensor
    start: Tensor
    length: Tensor
    first_step: Tensor
    series: Tensor
    calendar: Tensor
    calendar_start: int
    margin: int

    def __len__(self) -> int:
        return int(self.start.shape[0])

    @property
    def device(self) -> torch.device:
        """Where the panel lies."""
        return self.target.device

    def to(self, device: torch.device | str) -> Panel:
        """The same panel on `device`."""
        return Panel(
            target=self.target.to(device),
            observed=self.observed.to(device),
            start=self.start.to(device),
            length=self.length.to(device),
            first_step=self.first_step.to(device),
            series=self.series.to(device),
            calendar=self.calendar.to(device),
            calendar_start=self.calendar_start,
            margin=self.margin,
        )

    def cut(self, rows: Tensor, ends: Tensor, *, context_length: int, horizon: int) -> Batch:
        """Windows of series `rows` (B,) whose last context step is the series' step `ends - 1`, ends in
        1..length.

        The origin is therefore step `ends - 1` and the first target is step `ends`. Short histories are
        padded left.
        """
        if context_length > self.margin:
            raise ValueError(f"context_length {context_length} is over the panel's margin {self.margin}: rebuild it")
        return cut(
            self.target,
            self.observed,
            self.start[rows] + ends - context_length,
            self.series[rows],
            calendar=self.calendar,
            calendar_index=self.first_step[rows] + ends - self.calendar_start,
            context_length=context_length,
            horizon=horizon,
        )

    def future(self, rows: Tensor, ends: Tensor, horizon: int) -> tuple[Tensor, Tensor]:
        """Targets of the same windows: (B, H) float32 and observed (B, H) bool, False beyond the series' end."""
        if horizon > self.margin:
            raise ValueError(f"horizon {horizon} is over the panel's margin {self.margin}: rebuild it")
        begin = self.start[rows] + ends  # (B,)
        left = (self.length[rows] - ends)[:, None]  # (B, 1) steps that exist
        exists = torch.arange(horizon, device=self.device) < left  # (B, H)
        observed = slices(self.observed, begin, horizon) & exists
        return slices(self.target, begin, horizon).where(observed, 0.0), observed


def build_panel(
    values: NDArray[np.floating],
    length: NDArray[np.integer],
    *,
    first_step: NDArray[np.integer],
    series: NDArray[np.integer],
    calendar: NDArray[np.floating],
    calendar_start: int,
    context_length: int,
    horizon: int,
) -> Panel:
    """A panel on the CPU from histories laid end to end.

    values (sum of length,) with NaN for missing (what float32 cannot hold counts as missing); length,
    first_step, series (S,); calendar (K, F), which must reach `horizon` steps past the newest step.
    ValueError says what is short.
    """
    if int(length.sum()) != values.shape[0] or bool((length < 1).any()):
        raise ValueError(f"lengths must be at least 1 and sum to the {values.shape[0]} values, not to {length.sum()}")
    if calendar.shape[1] and len(length):
        first, last = int(first_step.min()) + 1, int((first_step + length).max()) + horizon - 1
        final = calendar_start + len(calendar) - 1
        if calendar_start > first or final < last:
            raise ValueError(f"the calendar covers steps {calendar_start}..{final}: it must cover {first}..{last}")
    margin = max(context_length, horizon)
    count = len(length)
    start = np.cumsum(length) - length + margin * np.arange(1, count + 1)  # (S,)
    position = np.repeat(start - (np.cumsum(length) - length), length) + np.arange(values.shape[0])
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    known = np.isfinite(narrow)
    target = np.zeros(values.shape[0] + margin * (count + 1), dtype=np.float32)
    observed = np.zeros(target.shape[0], dtype=np.bool_)
    target[position] = np.where(known, narrow, np.float32(0.0))
    observed[position] = known
    return Panel(
        target=torch.from_numpy(target),
        observed=torch.from_numpy(observed),
        start=torch.from_numpy(start.astype(np.int64)),
        length=torch.from_numpy(length.astype(np.int64)),
        first_step=torch.from_numpy(first_step.astype(np.int64)),
        series=torch.from_numpy(series.astype(np.int64)),
        calendar=torch.from_numpy(np.ascontiguousarray(calendar, dtype=np.float32)),
        calendar_start=calendar_start,
        margin=margin,
    )
