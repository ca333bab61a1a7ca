"""What a job says while it runs and when it ends; both are plain values that travel from a child process as JSON."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from pipeline.job_facts import Ending


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a job is: `done` of `total` steps (0 of 0 when it cannot tell), and what there is to say about it."""

    name: str
    done: int = 0
    total: int = 0
    words: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended: `reason` is one line for a person, `facts` are plain values for JSON.

    `failed` is for what somebody must look at; a retraining that keeps the champion is `ok`.
    """

    ending: Ending
    reason: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


OnStage = Callable[[Stage], None]


def write_line(what: Stage | Outcome) -> str:
    """Encode one line of a child's report."""
    return json.dumps({"stage" if isinstance(what, Stage) else "outcome": what.to_dict()}, allow_nan=False)


def read_line(line: str) -> Stage | Outcome | None:
    """Decode a line of a child's report; None for anything else that was written there."""
    try:
        report = json.loads(line)
    except ValueError:
        return None
    match report:
        case {"stage": dict(fields)}:
            return Stage(**fields)
        case {"outcome": dict(fields)}:
            return Outcome(**fields)
        case _:
            return None


def spell_minute(instant: int) -> str:
    """Write a time (microseconds UTC) as the words of an outcome do: '2026-01-31 23:59'."""
    return f"{datetime.fromtimestamp(instant // 1_000_000, UTC):%Y-%m-%d %H:%M}"
