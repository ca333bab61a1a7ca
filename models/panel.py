"""Panel: every series' history in one flat tensor, and the one function that cuts windows out of flat
tensors.

The scorer cuts from its ring buffer with the same `cut`, so training and serving windows are equal bit for
bit.

    flat   | margin of zeros | series 0 | margin of zeros | series 1 | margin of zeros |
                              ^ start[0]                   ^ start[1]

Known-future covariates reach a horizon past the end of their series, and the margin begins after them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.batch import Batch

LARGEST = float(np.finfo(np.float32).max)
"""Of a value or covariate: errors of forecasts are squared and summed up, in loss, metrics and SQL."""


def slices(flat: Tensor, begin: Tensor, length: int) -> Tensor:
    """`flat[begin[i] : begin[i] + length]` for every i, as (B, length), or (B, length, C) of a flat (N, C).

    An overlapping strided view makes the gather one `index_select` of contiguous rows: 7x an index matrix
    (measured). Raises IndexError on a CPU when a slice leaves `flat`.
    """
    if not flat.is_contiguous() or flat.shape[0] < length:
        raise ValueError(f"slices of {length} need a contiguous tensor of at least that, not {tuple(flat.shape)}")
    more = flat.shape[1:]
    if 0 in more:
        return flat.new_empty((begin.shape[0], length, *more))
    rows = flat.as_strided((flat.shape[0] - length + 1, length, *more), (flat.stride(0), *flat.stride()))
    return rows.index_select(0, begin)  # (B, length) or (B, length, C); the view itself takes no memory


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
    """Windows of two flat tensors as a Batch without covariates.

    target (N,) float64 with 0 where not observed, observed (N,) bool; begin (B,) int64 flat index of each
    window's first step; series (B,) int64; calendar (K, F) float32, calendar_index (B,) int64 its row for
    each first target step.
    """
    if not calendar.shape[1]:
        columns = calendar.new_empty((len(series), horizon, 0))
    elif len(calendar) < horizon:
        raise ValueError(f"a horizon of {horizon} needs a calendar of at least that, not {len(calendar)} rows")
    else:
        columns = slices(calendar, calendar_index, horizon)  # (B, H, F)
    return Batch.without_covariates(
        slices(target, begin, context_length), slices(observed, begin, context_length), series, columns
    )


@dataclass(frozen=True, slots=True)
class Covariates:
    """What is known beside the values of S series, NaN for missing.

    past (n, P) belongs to the n values laid end to end; future (n + S * horizon, K) to each series' steps and the
    `horizon` steps after them; static (S, Z) to the series.
    """

    past: NDArray[np.floating]
    future: NDArray[np.floating]
    static: NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Panel:
    """S series on one device.

    target      (N,)   float64, 0 where not observed         observed (N,) bool
    start       (S,)   int64, flat index of each series' first real step
    length      (S,)   int64, steps of each series           first_step (S,) int64, grid step of the first one
    series      (S,)   int64, embedding rows, 0 = UNK
    calendar    (K, F) float32, row 0 belongs to grid step calendar_start
    past        (N, P) float64, known_future (N, K), static (S, Z): covariates, 0 where not observed, and their masks
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
    past: Tensor
    past_observed: Tensor
    known_future: Tensor
    known_future_observed: Tensor
    static: Tensor
    static_observed: Tensor

    def __len__(self) -> int:
        return int(self.start.shape[0])

    @property
    def device(self) -> torch.device:
        """Where the panel lies."""
        return self.target.device

    def to(self, device: torch.device | str) -> Panel:
        """The same panel on `device`."""
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        moved: dict[str, Any] = {name: one.to(device) for name, one in columns.items() if isinstance(one, Tensor)}
        return replace(self, **moved)

    def cut(self, rows: Tensor, ends: Tensor, *, context_length: int, horizon: int) -> Batch:
        """Windows of series `rows` (B,) whose last context step is the series' step `ends - 1`, ends in
        1..length.

        The origin is therefore step `ends - 1` and the first target is step `ends`. Short histories are
        padded left.
        """
        if context_length > self.margin:
            raise ValueError(f"context_length {context_length} is over the panel's margin {self.margin}: rebuild it")
        begin = self.start[rows] + ends - context_length  # (B,)
        batch = cut(
            self.target,
            self.observed,
            begin,
            self.series[rows],
            calendar=self.calendar,
            calendar_index=self.first_step[rows] + ends - self.calendar_start,
            context_length=context_length,
            horizon=horizon,
        )
        if not (self.past.shape[1] or self.known_future.shape[1] or self.static.shape[1]):
            return batch
        if self.known_future.shape[1] and horizon > self.margin:
            raise ValueError(f"horizon {horizon} is over the panel's margin {self.margin}: rebuild it")
        return replace(
            batch,
            past=slices(self.past, begin, context_length),  # (B, T, P)
            past_observed=slices(self.past_observed, begin, context_length),
            future=slices(self.known_future, begin, context_length + horizon),  # (B, T + H, K)
            future_observed=slices(self.known_future_observed, begin, context_length + horizon),
            static=self.static[rows],  # (B, Z)
            static_observed=self.static_observed[rows],
        )

    def future(self, rows: Tensor, ends: Tensor, horizon: int) -> tuple[Tensor, Tensor]:
        """Targets of the same windows: (B, H) float64 and observed (B, H) bool, False beyond the series' end."""
        if horizon > self.margin:
            raise ValueError(f"horizon {horizon} is over the panel's margin {self.margin}: rebuild it")
        begin = self.start[rows] + ends  # (B,)
        left = (self.length[rows] - ends)[:, None]  # (B, 1) steps that exist
        exists = torch.arange(horizon, device=self.device) < left  # (B, H)
        observed = slices(self.observed, begin, horizon) & exists
        return slices(self.target, begin, horizon).where(observed, 0.0), observed


def build_panel(  # noqa: PLR0913 - a panel's parts, all by name
    values: NDArray[np.floating],
    length: NDArray[np.integer],
    *,
    first_step: NDArray[np.integer],
    series: NDArray[np.integer],
    calendar: NDArray[np.floating],
    calendar_start: int,
    context_length: int,
    horizon: int,
    covariates: Covariates | None = None,
) -> Panel:
    """A panel on the CPU from histories laid end to end.

    values (sum of length,) with NaN for missing (what is beyond LARGEST counts as missing); length,
    first_step, series (S,); calendar (K, F), which must reach `horizon` steps past the newest step;
    covariates, if there are any. ValueError says what is short.
    """
    if int(length.sum()) != values.shape[0] or bool((length < 1).any()):
        raise ValueError(f"lengths must be at least 1 and sum to the {values.shape[0]} values, not to {length.sum()}")
    if calendar.shape[1] and len(length):
        first, last = int(first_step.min()) + 1, int((first_step + length).max()) + horizon - 1
        final = calendar_start + len(calendar) - 1
        if calendar_start > first or final < last:
            raise ValueError(f"the calendar covers steps {calendar_start}..{final}: it must cover {first}..{last}")
    count, steps = len(length), values.shape[0]
    if covariates is None:
        covariates = Covariates(np.empty((steps, 0)), np.empty((steps + count * horizon, 0)), np.empty((count, 0)))
    found = (len(covariates.past), len(covariates.future), len(covariates.static))
    if found != (steps, steps + count * horizon, count):
        raise ValueError(f"covariates of {found} steps, known steps and series do not fit {steps} values of {count}")
    margin, reach = max(context_length, horizon), horizon if covariates.future.shape[1] else 0
    before = np.cumsum(length) - length  # (S,)
    start = before + (margin + reach) * np.arange(1, count + 1)  # (S,)
    size = steps + (margin + reach) * (count + 1)
    at = np.repeat(start - before, length) + np.arange(steps)  # (n,) place of each value
    ahead = length + horizon  # (S,) steps of which known-future covariates are given
    known_at = np.repeat(start - (np.cumsum(ahead) - ahead), ahead) + np.arange(int(ahead.sum())) if reach else at[:0]
    target, observed = _spread(values, at, size)
    past, past_observed = _spread(covariates.past, at, size)
    known, known_observed = _spread(covariates.future[: len(known_at)], known_at, size)
    static, static_observed = _spread(covariates.static, np.arange(count), count)
    return Panel(
        target=target,
        observed=observed,
        start=torch.from_numpy(start.astype(np.int64)),
        length=torch.from_numpy(length.astype(np.int64)),
        first_step=torch.from_numpy(first_step.astype(np.int64)),
        series=torch.from_numpy(series.astype(np.int64)),
        calendar=torch.from_numpy(np.ascontiguousarray(calendar, dtype=np.float32)),
        calendar_start=calendar_start,
        margin=margin,
        past=past,
        past_observed=past_observed,
        known_future=known,
        known_future_observed=known_observed,
        static=static,
        static_observed=static_observed,
    )


def _spread(values: NDArray[np.floating], at: NDArray[np.integer], size: int) -> tuple[Tensor, Tensor]:
    # Values and mask of `size` rows, those `at` filled: what is too large is missing, and missing is 0.
    known = np.abs(values) <= LARGEST  # False for NaN
    flat = np.zeros((size, *values.shape[1:]))
    mask = np.zeros(flat.shape, dtype=np.bool_)
    flat[at] = np.where(known, values, 0.0)
    mask[at] = known
    return torch.from_numpy(flat), torch.from_numpy(mask)
