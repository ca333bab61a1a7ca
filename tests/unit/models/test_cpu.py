"""The switches, in a process of their own: this one must stay as it is."""

from __future__ import annotations

import subprocess
import sys


def test_the_switches_take_in_a_fresh_process() -> None:
    code = "from models.cpu import tune_cpu; print(tune_cpu(2))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "threads=2" in done.stdout
    if sys.platform == "linux":
        assert "flush_denormal=True" in done.stdout
