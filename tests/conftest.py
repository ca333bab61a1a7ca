"""What every test needs: one torch thread, a fixed seed, and settings from nowhere but the test."""

import os
import random

import numpy as np
import pytest
import structlog
import torch
from hypothesis import HealthCheck, settings

settings.register_profile("tidecast", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tidecast")
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def same_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seed every source of randomness, hide the developer's own settings, forget a log that a test has set up."""
    structlog.reset_defaults()
    torch.set_flush_denormal(False)  # a test of the process switches turns it on, and hypothesis then refuses floats
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    for name in list(os.environ):
        if name.startswith("TIDECAST_") and "__" in name:
            monkeypatch.delenv(name)
