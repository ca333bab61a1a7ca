from collections.abc import Callable
from typing import Any

import pytest
import torch

from pipeline.settings import Settings

TINY: dict[str, dict[str, Any]] = {
    "series": {"frequency": "1h", "season": 4, "context": 12, "horizon": 4},
    "model": {"hidden": 8, "layers": 1, "segment": 4, "series_dim": 2, "dropout": 0.0, "pretrained": False},
    "training": {"steps": 30, "batch": 32, "device": "cpu", "learning_rate": 0.02},
    "jobs": {"gate_origins": 3, "gate_coverage": (0.0, 1.0)},
}


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def tiny() -> Callable[..., Settings]:
    """Make settings of a tiny network, with sections overridden."""

    def make(**sections: dict[str, Any]) -> Settings:
        return Settings(**{name: TINY.get(name, {}) | sections.get(name, {}) for name in TINY | sections})

    return make
