"""Scales by hand, and what the level of a window has to do with its scale: nothing."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.network.scaling import SPARSE, SeriesSpread, find_coarse, find_scale, last_observed

SEEN = torch.tensor([[True, True, False, True], [False] * 4, [True] * 4])
TARGET = torch.tensor([[2.0, 4.0, 99.0, 6.0], [1.0, 2.0, 3.0, 4.0], [8.0, 8.0, 8.0, 8.0]], dtype=torch.float64)
LEVELS = (0.0, 1e3, 1e6, 1e9, 1e12)

windows = st.lists(st.none() | st.integers(-1000, 1000), min_size=1, max_size=30)


def window(values: list[int | None]) -> tuple[torch.Tensor, torch.Tensor]:
    observed = torch.tensor([[value is not None for value in values]])
    return torch.tensor([[float(value or 0) for value in values]], dtype=torch.float64), observed


@pytest.mark.parametrize(("location", "first"), [("mean", 4.0), ("last", 6.0)])
def test_location_and_spread_come_from_observed_steps(location: str, first: float) -> None:
    scale = find_scale(TARGET, SEEN, location)
    assert scale.location[:, 0].tolist() == pytest.approx([first, 0.0, 8.0])
    assert scale.spread[:, 0].tolist() == pytest.approx([(8.0 / 3.0) ** 0.5, 0.0, 0.0])


@pytest.mark.parametrize("location", ["mean", "last"])
@given(values=windows, level=st.sampled_from(LEVELS), sign=st.sampled_from([-1.0, 1.0]))
def test_the_level_moves_the_location_and_nothing_else(
    location: str, values: list[int | None], level: float, sign: float
) -> None:
    target, observed = window(values)
    level = sign * level * 1000.0
    plain = find_scale(target, observed, location)
    raised = find_scale(target + level, observed, location)
    assert torch.equal(raised.apply(target + level), plain.apply(target)), "the network sees the same window"
    assert torch.equal(raised.spread, plain.spread)
    assert torch.equal(raised.offset, plain.offset)
    if bool(observed.any()):
        assert torch.equal(raised.reference, plain.reference + level)


@given(values=windows, power=st.integers(-40, 40))
def test_the_unit_changes_nothing_that_the_network_sees(values: list[int | None], power: int) -> None:
    target, observed = window(values)
    unit = 2.0**power  # about 1e-12 to 1e12
    plain, other = (find_scale(each, observed, "mean") for each in (target, unit * target))
    assert torch.equal(other.apply(unit * target), plain.apply(target))
    assert torch.equal(other.spread, unit * plain.spread)


@pytest.mark.parametrize("level", [0.0, 20.0, 1e9])
def test_one_tick_in_a_constant_window_is_no_loud_signal(level: float) -> None:
    target = torch.full((1, 336), level, dtype=torch.float64)
    observed = torch.ones_like(target, dtype=torch.bool)
    assert find_scale(target, observed, "mean").spread.item() == 0.0
    tick = 2.0**-6
    target[0, 100] += tick
    scale = find_scale(target, observed, "last")
    assert scale.spread.item() == SPARSE * tick, "its deviation is a fifth of that"
    assert scale.apply(target).abs().max().item() == 1.0 / SPARSE
    step = target.clone()
    step[0, 200:] += tick
    assert find_scale(step, observed, "last").spread.item() >= SPARSE * tick


def test_what_float64_rounds_is_no_signal() -> None:
    noisy = torch.tensor([[0.1 + 0.2, 0.3, 0.3, 0.1 + 0.2, 0.3]], dtype=torch.float64)
    seen = torch.ones_like(noisy, dtype=torch.bool)
    scale = find_scale(noisy, seen, "mean")
    assert scale.spread.item() == 0.0
    assert not scale.apply(1e12 * noisy).any(), "a spread of 0 maps all to 0"
    assert not find_coarse(noisy, seen).any()


@pytest.mark.parametrize(
    ("level", "amplitude", "coarse"),
    [
        (52.1234567, 1e-6, False),
        (50.0, 1e-3, False),
        (5e12, 1e6, False),
        (1e9, 1e-3, False),
        (1.0, 3e-13, False),
        (1.0, 3e-14, True),
        (1e9, 1e-6, True),
        (1e15, 1.0, True),
        (1e9, 0.0, False),
        (0.0, 0.0, False),
    ],
)
def test_a_window_that_float64_cannot_hold_is_known(level: float, amplitude: float, coarse: bool) -> None:
    steps = torch.arange(48, dtype=torch.float64)
    target = level + amplitude * torch.sin(2.0 * math.pi * steps / 24)
    seen = torch.ones(48, dtype=torch.bool)
    found = find_coarse(torch.stack((target, torch.zeros(48, dtype=torch.float64))), torch.stack((seen, ~seen)))
    assert found.tolist() == [coarse, False], "nor is one in which nothing was observed"


def test_a_known_series_has_the_spread_it_was_trained_with_and_others_their_windows() -> None:
    spreads = SeriesSpread(series=3)
    spreads.learn(torch.tensor([1, 3]), torch.tensor([5.0, 7.0]))
    scale = find_scale(TARGET, SEEN, "mean")
    own = scale.spread[:, 0].tolist()
    assert spreads(scale, torch.tensor([1, 1, 3]), SEEN).spread[:, 0].tolist() == [5.0, 0.0, 7.0], (
        "nothing seen, nothing said"
    )
    assert spreads(scale, torch.tensor([0, 0, 2]), SEEN).spread[:, 0].tolist() == own
    assert torch.equal(spreads(scale, torch.tensor([1, 1, 3]), SEEN).location, scale.location)


def test_scaling_is_undone_and_clipped() -> None:
    scale = find_scale(TARGET, SEEN, "mean")
    back = scale.invert(scale.apply(TARGET)[:, :, None])[:, :, 0]
    assert back.dtype == torch.float64
    torch.testing.assert_close(back[0, :2], TARGET[0, :2], rtol=1e-6, atol=0.0)
    assert scale.apply(TARGET)[0, 2] == 10.0
    assert back[1].tolist() == [0.0] * 4


def test_the_last_observed_value() -> None:
    assert last_observed(TARGET, SEEN).tolist() == [6.0, 0.0, 8.0]
    assert last_observed(TARGET, SEEN.flip(1)).tolist() == [6.0, 0.0, 8.0]
    assert last_observed(TARGET[:1], torch.tensor([[True, True, False, False]])).tolist() == [4.0]
