"""One line per fault test: what was done, and what came of it."""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.faults.scale import scale
from tests.faults.verify import Findings

RESULTS = "TIDECAST_FAULT_RESULTS"  # a file; each run adds a line of JSON


@dataclass(frozen=True)
class Summary:
    """The result of a fault test."""

    fault: str
    place: str
    events: int
    faults: int
    lost: int
    doubled: int
    mismatched: int
    seconds_to_lag_0: float | None
    test: str
    scale: float
    more: Mapping[str, float]


def report(
    fault: str,
    place: str,
    *,
    events: int,
    faults: int,
    findings: Findings,
    seconds: float | None = None,
    more: Mapping[str, float] | None = None,
) -> None:
    """Print the summary (pytest -s shows it) and add it to the file that TIDECAST_FAULT_RESULTS names.

    `faults` is how many there were (kills, freezes, cuts), `seconds` how long after the last one the lag was 0;
    `more` is what else was measured, for the file only.
    """
    counts = (len(findings.lost), len(findings.doubled), len(findings.mismatched))
    took = None if seconds is None else round(seconds, 1)
    test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" (")[0]
    summary = Summary(fault, place, events, faults, *counts, took, test, scale(), more or {})
    fields = asdict(summary)
    sys.stdout.write("\n" + ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in fields.items()) + "\n")
    if path := os.environ.get(RESULTS):
        with Path(path).open("a") as file:
            file.write(json.dumps(fields) + "\n")
