"""From SQL to a Fan: a series' forecast, its past, and what came."""

import numpy as np

from models.config import QUANTILE_LEVELS
from pipeline.charts import Fan
from pipeline.database import Reader
from pipeline.grid.times import read_text

PAST = 2  # horizons of history
MOST_STEPS = 10_000
COLUMNS = tuple("q" + f"{level:.3f}"[2:].removesuffix("0") for level in QUANTILE_LEVELS)


def read_fan(reader: Reader, series: str, at: int | None) -> Fan | None:
    """Read the forecast that was newest at `at` (microseconds; now if None), or None when there is none."""
    rows = reader.forecasts_latest(series, MOST_STEPS) if at is None else reader.forecasts_as_of(at, series)
    if not rows:
        return None
    targets = [read_time(row["target_time"]) for row in rows]
    origin = read_time(rows[0]["origin"])
    since = origin - PAST * (targets[-1] - origin)
    known = {
        read_time(row["observed_at"]): np.nan if row["value"] is None else float(row["value"])
        for row in reader.observations(series, since, targets[-1] + 1)
    }
    past = [time for time in known if time <= origin]
    return Fan(
        series=series,
        history_times=np.array(past, np.int64),
        history=np.array([known[time] for time in past]),
        target_times=np.array(targets, np.int64),
        quantiles=np.array([[row[name] for name in COLUMNS] for row in rows]),
        actual=np.array([known.get(time, np.nan) for time in targets]),
    )


def read_time(text: str) -> int:
    """Turn a time of the reader's rows, which is UTC, into microseconds."""
    return read_text(f"{text}+00:00")
