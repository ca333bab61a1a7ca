"""What every test needs: one torch thread, a fixed seed, files in memory, and settings from nowhere but the test."""

import gc
import itertools
import os
import random
import shutil
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: threads that wait leave the cores to other tests

import numpy as np
import pytest
import structlog
import torch
from hypothesis import HealthCheck, settings

from tests import processes

gc.disable()  # until everything is collected, most of which stays: a seventh of that time went into looking at it
for profile, examples in (("tidecast", 30), ("thorough", 100)):  # the second in CI
    settings.register_profile(
        profile, max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
settings.load_profile("tidecast")
torch.set_num_threads(1)

UNIT = Path(__file__).parent / "unit"
MEMORY = Path("/dev/shm")
ROOM = 6 << 30  # bytes that must be free there; a whole run takes a third of it
SPARE = 12 << 30  # bytes of memory that must be free for that: six test processes and their servers take 10


def free_memory() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")), 0)


def keep_files_in_memory() -> None:
    """Let temporary files lie in memory where there is room: a commit of SQLite waits for no disk there.

    No test ends the machine, so none needs what only a disk keeps. TMPDIR says another place.
    """
    if "TMPDIR" in os.environ or not os.access(MEMORY, os.W_OK):
        return
    if shutil.disk_usage(MEMORY).free > ROOM and free_memory() > SPARE:
        os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)


keep_files_in_memory()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    processes.fork_test_processes()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Deal the tests to the processes of a run, each of which gets its share of the list in one piece.

    The files that mostly wait for servers go to all processes but one a core, which have the work for the cores
    meanwhile. Unit tests come last everywhere: they are short, and a process that is done takes some from another.
    """
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    waiting: dict[Path, list[pytest.Item]] = {}
    working: list[pytest.Item] = []
    for item in items:
        waits = UNIT not in item.path.parents
        (waiting.setdefault(item.path, []) if waits else working).append(item)
    hands: list[list[pytest.Item]] = [[] for _ in range(processes)]
    for number, file in enumerate(waiting.values()):
        hands[number % max(1, processes - (os.cpu_count() or 1))] += file
    left = iter(working)
    for number, hand in enumerate(hands):
        share = (len(items) * (number + 1)) // processes - (len(items) * number) // processes
        hand.extend(itertools.islice(left, max(0, share - len(hand))))
    items[:] = [*itertools.chain(*hands), *left]


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def same_start(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seed every source of randomness, hide the developer's own settings, forget a log that a test has set up.

    A service that a test starts has seasonal naive until the test says otherwise, and not the network of the wheel.
    """
    structlog.reset_defaults()
    torch.set_flush_denormal(False)  # a test of the process switches turns it on, and hypothesis then refuses floats
    random.seed(0)
    np.random.seed(0)
    torch.default_generator.manual_seed(0)  # torch.manual_seed keeps its caller's stack for the GPUs to come: 1 ms
    for name in list(os.environ):
        if name.startswith("TIDECAST_") and "__" in name:
            monkeypatch.delenv(name)
    if UNIT not in request.path.parents:
        monkeypatch.setenv("TIDECAST_MODEL__PRETRAINED", "false")
