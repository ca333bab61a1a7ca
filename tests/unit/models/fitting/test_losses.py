"""The loss, against the metrics and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.config import QUANTILE_LEVELS
from models.fitting.losses import Truth, weigh_error
from models.metrics import METRICS, Matured


def draw(seed: int) -> tuple[torch.Tensor, Truth]:
    generator = torch.Generator().manual_seed(seed)
    quantiles = torch.randn((5, 7, 13), generator=generator).sort(dim=-1).values
    target = torch.randn((5, 7), generator=generator)
    return quantiles, Truth(target, torch.ones(5, 7, dtype=torch.bool), torch.rand(5, generator=generator) + 0.5)


def test_without_the_relative_term_the_loss_is_the_scaled_quantile_loss() -> None:
    quantiles, truth = draw(0)
    matured = Matured(
        target=truth.target.double().numpy(),
        quantiles=quantiles.double().numpy(),
        scale=truth.scale.double().numpy(),
    )
    loss = weigh_error(quantiles, truth, QUANTILE_LEVELS, loss="pinball", relative=0.0)
    assert loss.item() == pytest.approx(METRICS["sql"](matured), rel=1e-5)


def test_steps_that_were_not_observed_do_not_count() -> None:
    quantiles, truth = draw(1)
    seen = torch.rand((5, 7), generator=torch.Generator().manual_seed(2)) > 0.4
    loss = weigh_error(quantiles, truth._replace(observed=seen), QUANTILE_LEVELS, loss="pinball", relative=0.3)
    poisoned = truth._replace(observed=seen, target=truth.target.where(seen, 1e9))
    assert torch.equal(weigh_error(quantiles, poisoned, QUANTILE_LEVELS, loss="pinball", relative=0.3), loss)
    nothing = truth._replace(observed=torch.zeros_like(seen))
    assert weigh_error(quantiles, nothing, QUANTILE_LEVELS, loss="pinball", relative=0.3) == 0.0


def test_the_relative_term_by_hand() -> None:
    quantiles = torch.full((1, 1, 3), 6.0)
    truth = Truth(torch.tensor([[2.0]]), torch.tensor([[True]]), torch.tensor([4.0]))
    plain = weigh_error(quantiles, truth, (0.1, 0.5, 0.9), loss="pinball", relative=0.0)
    both = weigh_error(quantiles, truth, (0.1, 0.5, 0.9), loss="pinball", relative=2.0)
    assert plain.item() == pytest.approx(2.0 * np.mean([0.9, 0.5, 0.1]) * 4.0 / 4.0)
    assert (both - plain).item() == pytest.approx(2.0 * 4.0 / (2.0 + 6.0 + 0.2))


@pytest.mark.parametrize(
    ("loss", "wanted"), [("mse", (4.0 + 0.0625) / 2), ("mae", (2.0 + 0.25) / 2), ("huber", (1.5 + 0.03125) / 2)]
)
def test_point_losses_by_hand_take_the_point_forecast_only(loss: str, wanted: float) -> None:
    quantiles = torch.tensor([[[-50.0, 6.0, 70.0], [-50.0, 1.0, 70.0], [0.0, 0.0, 0.0]]])
    truth = Truth(torch.tensor([[-2.0, 2.0, 1e9]]), torch.tensor([[True, True, False]]), torch.tensor([4.0]))
    assert weigh_error(quantiles, truth, (0.1, 0.5, 0.9), loss=loss, relative=5.0).item() == pytest.approx(wanted)
