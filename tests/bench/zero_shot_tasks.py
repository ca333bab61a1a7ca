"""Tasks of the zero-shot benchmark: series on a grid, and the origins from which their horizon is forecast.

A window is a series at an origin. A forecaster gets histories, which end at their origins, and never what came after.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from models.metrics import seasonal_scale
from pipeline.records import Floats
from tests.bench.accuracy import read_split
from tests.bench.zero_shot_sources import CHOOSING, M4, PART, SOURCES, Laid, grid_of, lay_out

FOLDER = Path(__file__).parents[3] / "shared" / "data"
NEVER = np.iinfo(np.int64).max
LEAST = 8
"""Observed points that a history needs: before, nothing is forecast."""


class Plan(NamedTuple):
    """What a task forecasts: `origins` origins, `stride` steps apart (0: one horizon), the last one a horizon before
    the end. Without `series`, all of its source."""

    source: str
    frequency: str
    horizon: int
    origins: int
    stride: int = 0
    series: tuple[str, ...] = ()


PLANS: dict[str, Plan] = {
    # The choosing part.
    "electricity": Plan("vic-electricity", "30min", 48, 20),
    "electricity-daily": Plan("vic-electricity", "1D", 14, 12),
    "electricity-weekly": Plan("vic-electricity", "W-MON", 8, 6, 4),
    "buildings": Plan("bdg2", "1h", 48, 20),
    "buildings-daily": Plan("bdg2", "1D", 14, 6),
    "bikes": Plan("bike-sharing", "1h", 48, 20, series=("rentals",)),
    "bikes-intermittent": Plan("bike-sharing", "1h", 48, 20, series=("intermittent",)),
    "bikes-daily": Plan("bike-sharing", "1D", 30, 6, series=("rentals",)),
    "bikes-weekly": Plan("bike-sharing", "W-MON", 8, 4, 4, series=("rentals",)),
    "tweets": Plan("tweets", "5min", 96, 20),
    "tweets-quarter-hourly": Plan("tweets", "15min", 96, 10),
    "transport": Plan("madrid-transport", "1D", 14, 12),
    "transport-weekly": Plan("madrid-transport", "W-MON", 8, 4, 4),
    "flights": Plan("uk-flights", "1D", 30, 8),
    "flights-weekly": Plan("uk-flights", "W-MON", 8, 6, 4),
    "page-views": Plan("wikipedia", "1D", 30, 12),
    "page-views-weekly": Plan("wikipedia", "W-MON", 13, 8, 8),
    "page-views-monthly": Plan("wikipedia", "MS", 12, 4, 6),
    "spending": Plan("spending", "MS", 18, 8, 12),
    "spending-quarterly": Plan("spending", "QS", 8, 6, 4),
    "tourism": Plan("tourism", "QS", 8, 4, 4),
    # The reported part.
    "m4-hourly": Plan(M4, "1h", 48, 1),
    "etth1": Plan("ETTh1", "1h", 48, 20),
    "etth1-daily": Plan("ETTh1", "1D", 14, 8),
    "etth1-weekly": Plan("ETTh1", "W-MON", 8, 3, 4),
    "traffic": Plan("road-traffic", "1h", 48, 20),
    "traffic-daily": Plan("road-traffic", "1D", 30, 8),
    "traffic-weekly": Plan("road-traffic", "W-MON", 8, 6, 4),
    "parking": Plan("parking", "30min", 48, 10),
    "parking-daily": Plan("parking", "1D", 14, 3, 7),
    "rides": Plan("bicimad", "1D", 30, 10),
    "rides-weekly": Plan("bicimad", "W-MON", 13, 8, 8),
    "rides-monthly": Plan("bicimad", "MS", 12, 4, 6),
    "clicks": Plan("ad-exchange", "1h", 48, 12, series=("clicks",)),
    "views": Plan("ad-exchange", "1h", 48, 12, series=("views",)),
    "requests": Plan("cloud-metrics", "5min", 96, 20, series=("requests",)),
    "requests-half-hourly": Plan("cloud-metrics", "30min", 48, 6, series=("requests",)),
    "servers": Plan("cloud-metrics", "5min", 60, 20, series=("ec2-cpu", "ec2-network", "rds-cpu")),
    "steroids": Plan("corticosteroids", "MS", 12, 6, 6),
    "steroids-quarterly": Plan("corticosteroids", "QS", 8, 4, 4),
    "fuels": Plan("fuels", "MS", 18, 10, 12),
    "fuels-quarterly": Plan("fuels", "QS", 8, 8, 4),
}
KINDS = {"5min": "5-minute", "15min": "15-minute", "30min": "half-hourly", "1h": "hourly"} | {
    "1D": "daily",
    "W-MON": "weekly",
    "MS": "monthly",
    "QS": "quarterly",
}


@dataclass(frozen=True, slots=True)
class Task:
    """S series and the N windows of them, the origins of a series one after the other.

    values: one array a series, NaN where nothing was observed. windows: (row of the series, steps of it that the
    history has); a horizon fits behind each. left_out: windows with fewer than LEAST observed points before the origin,
    or none after it.
    """

    name: str
    source: str
    part: str
    frequency: str
    season: int
    horizon: int
    origins: int
    values: tuple[Floats, ...]
    windows: tuple[tuple[int, int], ...]
    left_out: int

    @property
    def group(self) -> str:
        """Frequency, and whether it is one series or a panel."""
        return f"{KINDS[self.frequency]} {'panel' if len(self.values) > 1 else 'single'}"

    def histories(self) -> list[Floats]:
        """What a forecast may use: N arrays from the first observed step to the origin, which own their memory."""
        return [self.values[row][:end].copy() for row, end in self.windows]

    def targets(self) -> Floats:
        """What came after the origins (N, H), NaN where not observed."""
        return np.stack([self.values[row][end : end + self.horizon] for row, end in self.windows])

    def scales(self) -> Floats:
        """The scale of MASE of every window (N,), of its whole history; 0 or NaN where it has none."""
        return np.array([seasonal_scale(history[None], self.season)[0] for history in self.histories()])


@cache
def load_tasks(folder: Path) -> dict[str, Task]:
    """Read every task, once."""
    return {name: _task(name, plan, folder) for name, plan in PLANS.items()}


def training_series(
    part: str = CHOOSING, *, folder: Path = FOLDER, held_back: bool = True
) -> list[tuple[str, str, int, Floats]]:
    """Real series to pretrain on: (name, frequency, season, values with NaN) of every task of the choosing part.

    held_back: without all that any task of the same source forecasts, so that choices can still be made on those
    tasks. ValueError for the reported part.
    """
    if part != CHOOSING:
        raise ValueError(f"part {part!r} is only reported, never trained on: use part {CHOOSING!r}")
    plans = [plan for plan in PLANS.values() if PART[plan.source] == part]
    stops: dict[str, int] = {}
    for plan in plans:
        stops[plan.source] = min(_first_target(plan, folder), stops.get(plan.source, NEVER))
    found = {}
    for plan in plans:
        laid = _laid(plan, folder)
        for name, values, times in zip(laid.series, laid.values, laid.times, strict=True):
            ended = int(np.searchsorted(times[1:], stops[plan.source], side="right"))
            found[f"{plan.source}/{name}", plan.frequency] = values[: ended if held_back else None]
    return [(name, frequency, grid_of(frequency).season, values) for (name, frequency), values in found.items()]


def write_training_series(file: Path, *, folder: Path = FOLDER) -> int:
    """Write them as `models.pretraining --real` reads them, arrays named season/name@frequency; return how many."""
    found = training_series(folder=folder)
    arrays = {f"{season}/{name}@{frequency}": values.astype(np.float32) for name, frequency, season, values in found}
    np.savez_compressed(file, allow_pickle=False, **arrays)
    return len(arrays)


def _first_target(plan: Plan, folder: Path) -> int:
    """When the first step that the plan forecasts begins, in microseconds."""
    return min(int(times[-1 - _backs(plan)[0]]) for times in _laid(plan, folder).times if len(times) > _backs(plan)[0])


def _backs(plan: Plan) -> tuple[int, ...]:
    """How many steps before its end a series is forecast."""
    stride = plan.stride or plan.horizon
    return tuple(plan.horizon + stride * number for number in reversed(range(plan.origins)))


def _task(name: str, plan: Plan, folder: Path) -> Task:
    if plan.source == M4:
        values = tuple(np.concatenate(each) for each in zip(*read_split(folder / "M4"), strict=True))
    else:
        values = _laid(plan, folder).values
    asked = [(row, len(each) - back) for row, each in enumerate(values) for back in _backs(plan)]
    windows = [(row, end) for row, end in asked if _fits(values[row], end, plan.horizon)]
    return Task(
        name=name,
        source=plan.source,
        part=PART[plan.source],
        frequency=plan.frequency,
        season=grid_of(plan.frequency).season,
        horizon=plan.horizon,
        origins=plan.origins,
        values=values,
        windows=tuple(windows),
        left_out=len(asked) - len(windows),
    )


def _fits(values: Floats, end: int, horizon: int) -> bool:
    known = np.isfinite(values)
    return end > 0 and int(known[:end].sum()) >= LEAST and bool(known[end : end + horizon].any())


@cache
def _laid(plan: Plan, folder: Path) -> Laid:
    return lay_out(_rows(plan.source, folder), SOURCES[plan.source], plan.frequency, plan.series)


@cache
def _rows(source: str, folder: Path) -> pd.DataFrame:
    return SOURCES[source].read(folder)
