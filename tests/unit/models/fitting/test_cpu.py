"""The switches, in a process of their own: this one must stay as it is."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
TRAINING = (
    "jobs/__main__.py",
    "pipeline/commands/jobs.py",
    "pipeline/commands/backtest.py",
    "pipeline/commands/demo.py",
    "tests/bench/accuracy.py",
    "tests/bench/etth1.py",
    "tests/bench/own_forecaster.py",
)
"""Modules that a process which trains begins with."""


def test_the_switches_take_in_a_fresh_process() -> None:
    code = "from models.fitting.cpu import tune_cpu; print(tune_cpu(2))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "threads=2" in done.stdout
    if sys.platform == "linux":
        assert "flush_denormal=True" in done.stdout


def calls(path: Path) -> list[str]:
    """Names of the functions that a module calls, in the order of its lines."""
    found = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    names = [(node.lineno, getattr(node.func, "attr", getattr(node.func, "id", ""))) for node in found]
    return [name for _, name in sorted(names)]


@pytest.mark.parametrize("module", TRAINING)
def test_every_entry_point_that_trains_sets_them_before_it_does(module: str) -> None:
    names = calls(ROOT / module)
    works = [names.index(name) for name in ("find_work", "fit_settings", "read_table", "leading") if name in names]
    assert names.index("tune_cpu") < min(works)


def test_no_other_entry_point_trains() -> None:
    paths = [*(ROOT / "pipeline").rglob("*.py"), *(ROOT / "jobs").rglob("*.py")]
    starts = {
        path.relative_to(ROOT).as_posix() for path in paths if {"find_work", "make_forecaster"} & set(calls(path))
    }
    assert starts == {module for module in TRAINING if not module.startswith("tests/")}
