"""Windows are cut where they should be: on y(t) = t every index shows in the values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.panel import Panel, build_panel, cut, slices

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=4)


def count_panel(lengths: list[int], *, context_length: int, horizon: int, first: int = 0) -> Panel:
    """y(t) = grid step + 1 for every series; the calendar says the grid step, too."""
    first_step = first + np.arange(len(lengths))
    steps = [start + np.arange(length) for start, length in zip(first_step, lengths, strict=True)]
    last = max(int(step[-1]) for step in steps)
    calendar = np.arange(first, last + horizon + 1, dtype=np.float64)
    return build_panel(
        np.concatenate(steps) + 1.0,
        np.array(lengths),
        first_step=first_step,
        series=np.arange(len(lengths)),
        calendar=np.stack([calendar, -calendar], axis=1),
        calendar_start=first,
        context_length=context_length,
        horizon=horizon,
    )


@settings(max_examples=60, deadline=None)
@given(LENGTHS, st.integers(1, 30), st.integers(1, 30), st.integers(1, 7), st.integers(-50, 50))
def test_an_oracle_finds_every_value_at_its_place(
    lengths: list[int], context_length: int, horizon: int, stride: int, first: int
) -> None:
    panel = count_panel(lengths, context_length=context_length, horizon=horizon, first=first)
    pairs = [(row, end) for row, length in enumerate(lengths) for end in range(1, length + 1, stride)]
    rows, ends = torch.tensor(pairs).T
    batch = panel.cut(rows, ends, context_length=context_length, horizon=horizon)
    target, observed = panel.future(rows, ends, horizon)
    for index, (row, end) in enumerate(pairs):
        origin = first + row + end - 1  # grid step
        wanted = origin + 1 + np.arange(1 - context_length, 1)
        exists = np.arange(end - context_length, end) >= 0
        assert batch.observed[index].tolist() == exists.tolist()
        assert batch.target[index].tolist() == np.where(exists, wanted, 0).tolist()
        assert batch.series[index] == row
        steps = origin + np.arange(1, horizon + 1)
        assert batch.calendar[index, :, 0].tolist() == steps.tolist()
        assert batch.calendar[index, :, 1].tolist() == (-steps).tolist()
        left = end + np.arange(horizon) < lengths[row]
        assert observed[index].tolist() == left.tolist()
        assert target[index].tolist() == np.where(left, steps + 1, 0).tolist()


def test_missing_and_unrepresentable_values_are_not_observed() -> None:
    values = np.array([1.0, np.nan, 3.0, np.inf, 1e300, -0.0])
    panel = build_panel(
        values,
        np.array([6]),
        first_step=np.array([0]),
        series=np.array([0]),
        calendar=np.empty((0, 0)),
        calendar_start=0,
        context_length=6,
        horizon=2,
    )
    batch = panel.cut(torch.tensor([0]), torch.tensor([6]), context_length=6, horizon=2)
    assert batch.observed.tolist() == [[True, False, True, False, False, True]]
    assert batch.target.tolist() == [[1.0, 0.0, 3.0, 0.0, 0.0, 0.0]]
    assert batch.calendar.shape == (1, 2, 0)


def test_a_ring_buffer_is_cut_by_the_same_function_without_a_copy() -> None:
    ring = np.arange(20.0)
    flat = torch.from_numpy(ring)
    seen = np.ones(20, dtype=np.bool_)
    batch = cut(
        flat,
        torch.from_numpy(seen),
        torch.tensor([3, 0]),
        torch.tensor([1, 2]),
        calendar=torch.zeros((4, 0)),
        calendar_index=torch.tensor([0, 0]),
        context_length=5,
        horizon=3,
    )
    assert batch.target.tolist() == [[3, 4, 5, 6, 7], [0, 1, 2, 3, 4]]
    ring[3] = 100.0
    assert slices(flat, torch.tensor([3]), 1).item() == 100.0
    assert batch.target[0, 0] == 3.0, "a batch is a copy: later events do not change it"
    assert len(batch.to("cpu")) == 2


def test_windows_outside_are_refused() -> None:
    panel = count_panel([5], context_length=4, horizon=2)
    row = torch.tensor([0])
    with pytest.raises(ValueError, match="margin 4: rebuild"):
        panel.cut(row, row + 5, context_length=5, horizon=2)
    with pytest.raises(ValueError, match="margin 4: rebuild"):
        panel.future(row, row + 5, 5)
    with pytest.raises(ValueError, match="contiguous"):
        slices(torch.zeros(10)[::2], row, 2)
    with pytest.raises(ValueError, match="contiguous"):
        slices(torch.zeros(1), row, 2)
    with pytest.raises(IndexError):
        slices(torch.zeros(10), torch.tensor([9]), 2)
    with pytest.raises(ValueError, match="calendar of at least"):
        cut(
            panel.target,
            panel.observed,
            row,
            row,
            calendar=torch.zeros((1, 2)),
            calendar_index=row,
            context_length=4,
            horizon=2,
        )


def test_histories_that_do_not_fit_are_refused() -> None:
    kind = {"series": np.array([0]), "context_length": 4, "horizon": 2}
    empty = np.empty((0, 0))
    with pytest.raises(ValueError, match="sum to the 3 values"):
        build_panel(np.zeros(3), np.array([2]), first_step=np.array([0]), calendar=empty, calendar_start=0, **kind)
    with pytest.raises(ValueError, match=r"must cover 1\.\.4"):
        build_panel(
            np.zeros(3),
            np.array([3]),
            first_step=np.array([0]),
            calendar=np.zeros((4, 1)),
            calendar_start=0,
            **kind,
        )
