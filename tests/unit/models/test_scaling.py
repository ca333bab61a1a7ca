"""Scales by hand."""

from __future__ import annotations

import pytest
import torch

from models.scaling import FLOOR, SeriesSpread, find_scale, last_observed

SEEN = torch.tensor([[True, True, False, True], [False] * 4, [True] * 4])
TARGET = torch.tensor([[2.0, 4.0, 99.0, 6.0], [1.0, 2.0, 3.0, 4.0], [8.0, 8.0, 8.0, 8.0]])


@pytest.mark.parametrize(("location", "first"), [("mean", 4.0), ("last", 6.0)])
def test_location_and_spread_come_from_observed_steps(location: str, first: float) -> None:
    scale = find_scale(TARGET, SEEN, location)
    torch.testing.assert_close(scale.location[:, 0], torch.tensor([first, 0.0, 8.0]))
    torch.testing.assert_close(scale.spread[:, 0], torch.tensor([(8.0 / 3.0) ** 0.5, 0.0, 8.0 * FLOOR]))


def test_a_known_series_has_the_spread_it_was_trained_with_and_others_their_windows() -> None:
    spreads = SeriesSpread(series=3)
    spreads.learn(torch.tensor([1, 3]), torch.tensor([5.0, 7.0]))
    scale = find_scale(TARGET, SEEN, "mean")
    own = scale.spread[:, 0].tolist()
    assert spreads(scale, torch.tensor([1, 1, 3])).spread[:, 0].tolist() == [5.0, 0.0, 7.0], (
        "nothing seen, nothing said"
    )
    assert spreads(scale, torch.tensor([0, 0, 2])).spread[:, 0].tolist() == own
    assert torch.equal(spreads(scale, torch.tensor([1, 1, 3])).location, scale.location)


def test_scaling_is_undone_and_clipped() -> None:
    scale = find_scale(TARGET, SEEN, "mean")
    back = scale.invert(scale.apply(TARGET)[:, :, None])[:, :, 0]
    torch.testing.assert_close(back[0, :2], TARGET[0, :2])
    assert scale.apply(TARGET)[0, 2] == 10.0
    assert back[1].tolist() == [0.0] * 4


def test_the_last_observed_value() -> None:
    assert last_observed(TARGET, SEEN).tolist() == [6.0, 0.0, 8.0]
    assert last_observed(TARGET, SEEN.flip(1)).tolist() == [6.0, 0.0, 8.0]
    assert last_observed(TARGET[:1], torch.tensor([[True, True, False, False]])).tolist() == [4.0]
