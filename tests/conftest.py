"""What every test needs: one torch thread, a fixed seed, files in memory, and settings from nowhere but the test."""

import os
import random
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import structlog
import torch
from hypothesis import HealthCheck, settings

settings.register_profile("tidecast", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tidecast")
torch.set_num_threads(1)

MEMORY = Path("/dev/shm")
ROOM = 6 << 30  # bytes that must be free there; a whole run takes a third of it


def keep_files_in_memory() -> None:
    """Let temporary files lie in memory where there is room: a commit of SQLite waits for no disk there.

    No test ends the machine, so none needs what only a disk keeps. TMPDIR says another place.
    """
    if "TMPDIR" not in os.environ and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM:
        os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)


keep_files_in_memory()


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
