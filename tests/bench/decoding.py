"""Readings per second from the bytes of messages to columns, by the shape of the messages, beside another commit."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.bench.decoded import BARE, SHAPES
from tests.bench.results import Figure, Report, median, ratios, say

ROOT = Path(__file__).parents[2]
CHILD = Path(__file__).with_name("decoded.py")
PROTOCOL = (
    "messages of {readings} readings each as JSON, about {messages} readings a call, to columns of names, times and "
    "values; the least CPU of 25 calls in a process of its own, one thread; median of {rounds} rounds, each with every "
    "implementation once"
)


def run(rounds: int, beside: Path | None) -> Path:
    """Measure, and return the file of figures; `beside` is the root of another commit, which reads flat events only."""
    report = Report("decoding")
    for shape, (_, readings) in SHAPES.items():
        trees = {"tidecast": ROOT} | ({"the commit beside": beside} if beside and shape == "flat" else {})
        found: dict[str, list[float]] = {name: [] for name in (*trees, BARE)}
        for number in range(rounds):
            for name, root in trees.items():
                once = _measured(root, shape)
                found[name].append(1e6 / once["us"])
                if root is ROOT:
                    found[BARE].append(1e6 / once[BARE])
            say(f"round {number + 1}/{rounds} decoding {shape}: {found['tidecast'][-1]:,.0f} readings/s")
        peers = {name: median(runs) for name, runs in found.items() if name not in ("tidecast", BARE)}
        ratio, each = ratios(median(found["tidecast"]), peers)
        report.write(
            Figure(
                bench=f"decoding/{shape}",
                impl="tidecast",
                value=median(found["tidecast"]),
                unit="readings/s",
                protocol=PROTOCOL.format(readings=readings, messages=10_000, rounds=rounds),
                runs=found["tidecast"],
                limit=median(found[BARE]),
                limit_is="the same JSON decoded to plain values by msgspec, and nothing read from them",
                ratio=ratio,
                ratios=each,
            )
        )
    return report.path


def _measured(root: Path, shape: str) -> dict[str, float]:
    environment = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-P", str(CHILD), shape], env=environment, cwd=root, capture_output=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found
