"""Forty real sensors as one stream of events: car parks, a power grid, transformers and a motorway, autumn of 2016.

Thirty car parks of Birmingham report about every half hour while they are open, so their nights are gaps; the others
report each hour or half hour. The power grid's years end in 2014: it is moved by 104 weeks, so that weekdays stay true.
Nothing is cleaned: duplicates, negative occupancies and gaps are as they came.
"""

from pathlib import Path

import numpy as np
import pandas as pd

FOLDER = Path(__file__).parents[3] / "shared" / "data"
FIRST = pd.Timestamp("2016-10-04", tz="UTC")
START = pd.Timestamp("2016-11-21", tz="UTC")  # a Monday; four weeks follow
CHANGE = START + pd.Timedelta(weeks=2)
END = START + pd.Timedelta(weeks=4)
MOVED = pd.Timedelta(weeks=104)
DELAY = pd.Timedelta(hours=6)
FACTOR = 1.5


def read_sensors(folder: Path) -> pd.DataFrame:
    """Read series_id, timestamp (UTC), value from FIRST to END, by time; `folder` has sensors/ and ETT/."""
    parking = pd.read_csv(folder / "sensors" / "hourly_parking.csv")
    grid = pd.read_csv(folder / "sensors" / "vic_electricity.csv")
    traffic = pd.read_csv(folder / "sensors" / "hourly_traffic_volume.csv")
    transformer = pd.read_csv(folder / "ETT" / "ETTh1.csv")
    moved = pd.to_datetime(grid["Time"], utc=True) + MOVED
    parts = [
        _rows(
            "park-" + parking["SystemCodeNumber"].str.replace(" ", "-"), parking["LastUpdated"], parking["Occupancy"]
        ),
        _rows("grid-demand", moved, grid["Demand"]),
        _rows("grid-temperature", moved, grid["Temperature"]),
        _rows("motorway-vehicles", traffic["date_time"], traffic["traffic_volume"]),
        *(_rows(f"transformer-{name}", transformer["date"], transformer[name]) for name in transformer.columns[1:]),
    ]
    table = pd.concat(parts, ignore_index=True)
    inside = (table["timestamp"] >= FIRST) & (table["timestamp"] < END)
    return _ordered(table[inside])


def inject_change(table: pd.DataFrame) -> pd.DataFrame:
    """Change the regime of every second sensor at CHANGE: half as much again, and its day begins six hours later."""
    changed = sorted(table["series_id"].unique())[::2]
    hit = table["series_id"].isin(changed) & (table["timestamp"] >= CHANGE)
    late = table[hit].assign(timestamp=table["timestamp"] + DELAY, value=table["value"] * FACTOR)
    return _ordered(pd.concat([table[~hit], late[late["timestamp"] < END]], ignore_index=True))


def _rows(name: "str | pd.Series[str]", times: "pd.Series[str]", values: "pd.Series[float]") -> pd.DataFrame:
    stamps = pd.to_datetime(times, utc=True)
    return pd.DataFrame({"series_id": name, "timestamp": stamps, "value": values.astype(np.float64)})


def _ordered(table: pd.DataFrame) -> pd.DataFrame:
    return table.sort_values(["timestamp", "series_id"], kind="stable", ignore_index=True)
