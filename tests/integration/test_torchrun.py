"""Fits by two real processes on this machine."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import processes
from tests.integration.fit_together import TIMEOUT
from tests.servers import free_port

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 150.0
SCRIPT = "tests.integration.fit_together"


def start(rank: int, port: int, file: Path, ending: str, members: int = 1) -> "subprocess.Popen[str]":
    """Start one of two processes as torchrun does, but so that nobody but the other one can notice how it ends.

    test_jobs has torchrun itself.
    """
    place = {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, "-m", SCRIPT, str(file), str(members), ending]
    return processes.Popen(
        command, cwd=ROOT, env=os.environ | place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.mark.parametrize("members", [1, 2])
def test_two_processes_fit_what_one_does_on_the_same_global_batch(tmp_path: Path, members: int) -> None:
    port, file = free_port(), tmp_path / "two"
    with start(0, port, file, "well", members) as first, start(1, port, file, "well", members) as second:
        said = [each.communicate(timeout=PATIENCE)[0] for each in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), said
    processes.run(
        [sys.executable, "-m", SCRIPT, str(tmp_path / "one"), str(members), "well"],
        cwd=ROOT,
        check=True,
        timeout=PATIENCE,
    )
    one, two = (json.loads((tmp_path / name).read_text()) for name in ("one", "two"))
    assert (one["processes"], two["processes"]) == (1, 2)
    assert len(one["history"]) == 6 * members
    close(two["history"], one["history"])
    for name, weight in one["weights"].items():
        # Softmax ignores a constant, so the gradient of the keys' bias is rounding alone, which Adam scales to a step.
        keys = len(weight) // 2 if name.endswith("key_value.bias") else 0
        close(two["weights"][name][keys:], weight[keys:])


def close(found: Any, wanted: Any) -> None:
    torch.testing.assert_close(torch.tensor(found), torch.tensor(wanted), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("ending", ["dies", "hangs"])
def test_a_process_that_dies_or_hangs_ends_the_other_with_a_reason(tmp_path: Path, ending: str) -> None:
    port, file = free_port(), tmp_path / "out"
    with start(0, port, file, ending) as first, start(1, port, file, ending) as second:
        try:
            output, _ = first.communicate(timeout=PATIENCE)
            ended = time.monotonic()
            assert first.returncode == 3, output
            assert "another process of this training ended or is silent" in json.loads(file.read_text())["lost"]
            if ending == "dies":
                assert second.wait(PATIENCE) == 9
            assert time.monotonic() - ended < 10 * TIMEOUT
        finally:
            first.kill()
            second.kill()
