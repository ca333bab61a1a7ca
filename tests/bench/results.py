"""Figures as JSON lines: what was measured, how, and on what machine."""

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "results"
PACKAGES = ("kafka-python", "confluent-kafka", "msgspec", "numpy", "torch", "sqlalchemy", "psycopg", "quixstreams")


@dataclass(frozen=True, slots=True)
class Figure:
    """The median of `runs`. `limit` is what bounds it, measured in the same run; `wanted` is our own target.

    `ratio` is value / the best peer's value, None where no peer does this work; `ratios` has every peer.
    """

    bench: str
    impl: str
    value: float
    unit: str
    protocol: str
    runs: Sequence[float]
    limit: float | None = None
    limit_is: str | None = None
    wanted: float | None = None
    ratio: float | None = None
    ratios: Mapping[str, float] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)


def median(runs: Sequence[float]) -> float:
    return float(statistics.median(runs))


def medians(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median of each key over mappings that may lack some."""
    keys = dict.fromkeys(key for run in runs for key in run)
    return {key: round(median([run[key] for run in runs if key in run]), 4) for key in keys}


def ratios(
    value: float, peers: Mapping[str, float], *, lower_is_better: bool = False
) -> tuple[float | None, dict[str, float]]:
    """Value / the best peer, and value / each."""
    each = {name: round(value / other, 3) for name, other in peers.items()}
    best = max if lower_is_better else min
    return (best(each.values()) if each else None), each


def machine(versions: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Describe this machine and its load now; `versions` are of what runs outside this environment."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "versions": found | dict(versions or {}),
        "commit": _commit(),
        "load": [round(load, 2) for load in os.getloadavg()],
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


class Report:
    """Writes figures to one file per run and to stdout. `before` is the machine when the run began."""

    def __init__(self, name: str, folder: Path = FOLDER) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.jsonl"
        self._before = machine()

    def write(self, figure: Figure, versions: Mapping[str, str] | None = None) -> None:
        self._write(asdict(figure), versions)

    def write_failure(self, bench: str, impl: str, reason: str) -> None:
        """Say why there is no figure."""
        self._write({"bench": bench, "impl": impl, "failed": reason}, None)

    def _write(self, figure: Mapping[str, Any], versions: Mapping[str, str] | None) -> None:
        facts = machine(versions) | {f"{name}_before": self._before[name] for name in ("load", "commit", "at")}
        line = json.dumps({key: _short(value) for key, value in figure.items()} | {"machine": facts})
        with self.path.open("a") as file:
            file.write(line + "\n")
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def say(text: str) -> None:
    """Tell a person what is going on, on stderr: stdout holds JSON lines only."""
    sys.stderr.write(f"bench: {text}\n")
    sys.stderr.flush()


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {key: _short(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_short(each) for each in value]
    return value


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _commit() -> str:
    here = Path(__file__).parent
    done = subprocess.run(
        ["git", "-C", str(here), "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"
