"""What the 80 % interval of one series holds: `Forecaster.backtest` at its defaults over the last quarter of each file.

TUNED are the series on which the rules of the widths were chosen, REPORTED those that nobody looked at before.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jobs.forecaster.forecaster import Forecaster
from models.fitting.cpu import tune_cpu
from tests.bench.results import Figure, Report, say

FOLDER = Path(__file__).parents[3] / "shared" / "data"
NEWEST = 12_000  # rows of a long file
PROTOCOL = (
    "backtest at the defaults of {frequency} and horizon {horizon} on the newest {rows:,} rows of {file}, {steps} "
    "training steps, {origins} origins over the last quarter, one thread, one seed"
)


class Task(NamedTuple):
    """One series: its file, its columns of time and value, and what is forecast of it."""

    file: str
    time: str
    value: str
    frequency: str
    horizon: int
    day_first: bool = False


TUNED = {
    "spending": Task("public/expenditures_australia.csv", "date", "turnover", "MS", 12),
    "flights": Task("public/uk_daily_flights.csv", "Date", "Number of flights", "1D", 28, day_first=True),
    "page views": Task("public/wikipedia_visits.csv", "date", "y", "1D", 28),
    "metro": Task("public/public-transport-madrid.csv", "date", "metro", "1D", 14),
}
REPORTED = {
    "road traffic": Task("sensors/hourly_traffic_volume.csv", "date_time", "traffic_volume", "1h", 48),
    "electricity": Task("sensors/vic_electricity.csv", "Time", "Demand", "30min", 48),
    "requests": Task("public/NAB/elb_request_count_8c0756.csv", "timestamp", "value", "5min", 48),
    "tweets": Task("public/NAB/Twitter_volume_GOOG.csv", "timestamp", "value", "5min", 48),
    "bus": Task("public/public-transport-madrid.csv", "date", "bus", "1D", 14),
}
TASKS = TUNED | REPORTED


def run(folder: Path, *, only: Sequence[str], steps: int) -> Path:
    """Judge each task and write a line for it; return the file of results."""
    report = Report("intervals")
    tune_cpu(1)
    for name in only or TASKS:
        task = TASKS[name]
        scored, protocol = judge(read(folder, task), task, steps)
        held = float(scored["coverage_80"])
        more = {metric: float(scored[metric]) for metric in ("coverage_95", "wql", "mase")} | {"tuned": name in TUNED}
        report.write(
            Figure("intervals", name, held, "share in the 80 % interval", protocol, [held], wanted=0.8, more=more)
        )
        say(f"{name}: 80 % interval held {scored['coverage_80']:.1%}, WQL {scored['wql']:.4f}")
    return report.path


def read(folder: Path, task: Task) -> pd.DataFrame:
    """Read the series of a task."""
    table = pd.read_csv(folder / task.file, encoding="utf-8-sig")
    times = pd.to_datetime(table[task.time], dayfirst=task.day_first, format="mixed")
    return pd.DataFrame({"time": times, "value": table[task.value].astype(np.float64)}).tail(NEWEST)


def judge(frame: pd.DataFrame, task: Task, steps: int) -> tuple["pd.Series[Any]", str]:
    """Backtest over the last quarter, at most twelve horizons, and return the network's scores and the protocol."""
    held = min(len(frame) // 4, 12 * task.horizon)
    stride = max(1, (held - task.horizon) // 60)
    origins = max(1, 1 + (held - task.horizon) // stride)
    forecaster = Forecaster(task.frequency, task.horizon, training={"steps": steps, "threads": 1}, duplicates="last")
    result = forecaster.backtest(frame, origins, stride=stride)
    protocol = PROTOCOL.format(
        **{name: getattr(task, name) for name in ("frequency", "horizon", "file")},
        rows=len(frame),
        steps=steps,
        origins=origins,
    )
    return result.scores.iloc[0], protocol
