"""The public data sets that the zero-shot benchmark reads, and which part each of them belongs to, whole.

Choices are made on the choosing part, and a pretraining may learn from it. The reported part is only reported: nothing
of it is read before a network is ready. Two files of one origin are one source, so that no part knows the other.
"""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from pipeline.grid.frequency import Frequency
from pipeline.records import Floats, Ints

CHOOSING, REPORTED = "choosing", "reported"
PARTS = (CHOOSING, REPORTED)
ENOUGH = 2 / 3
"""Least share of a coarse step's finer steps that must be observed for its mean to count as observed."""


class Source(NamedTuple):
    """One data set: its part, its own frequency, and how a long frame (series, time, value) is read from the folder."""

    part: str
    frequency: str
    read: Callable[[Path], pd.DataFrame]


class Laid(NamedTuple):
    """Series on one grid, each from its first to its last observed step.

    values: one array a series, NaN where nothing was observed. times: for each, microseconds of its steps' beginnings,
    and of the end of its last step.
    """

    series: tuple[str, ...]
    values: tuple[Floats, ...]
    times: tuple[Ints, ...]


def read_columns(
    file: str, time: str, columns: dict[str, str], folder: Path, *, time_format: str = "ISO8601"
) -> pd.DataFrame:
    """Read columns {series: column} of a CSV file with a row a time."""
    table = pd.read_csv(folder / file, encoding="utf-8-sig")
    times = pd.to_datetime(table[time], format=time_format, utc=True)
    parts = [_rows(name, times, table[column]) for name, column in columns.items()]
    return pd.concat(parts, ignore_index=True)


def read_long(file: str, time: str, value: str, keys: tuple[str, ...], folder: Path) -> pd.DataFrame:
    """Read a CSV file with a row a series and time; a series is named by its key columns."""
    table = pd.read_csv(folder / file)
    first, *rest = keys
    names = table[first].str.cat([table[key] for key in rest], sep=" / ")
    return _rows(names, pd.to_datetime(table[time], format="ISO8601", utc=True), table[value])


def read_files(files: dict[str, str], folder: Path) -> pd.DataFrame:
    """Read {series: file} of the Numenta benchmark."""
    parts = [
        read_columns(f"public/NAB/{file}.csv", "timestamp", {name: "value"}, folder) for name, file in files.items()
    ]
    return pd.concat(parts, ignore_index=True)


def read_bikes(folder: Path) -> pd.DataFrame:
    """Read the rentals, and the intermittent series that was made of them."""
    parts = [
        read_columns(f"public/{file}.csv", "date_time", {name: "users"}, folder)
        for name, file in {"rentals": "bike_sharing_dataset_clean", "intermittent": "intermittent_demand"}.items()
    ]
    return pd.concat(parts, ignore_index=True)


def _columns(file: str, time: str, *columns: str, **names: str) -> Callable[[Path], pd.DataFrame]:
    return partial(read_columns, file, time, {column: column for column in columns} | names)


ETT = ("HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT")
FUELS = ("GLPs", "Gasolinas", "Querosenos", "Gasoleos", "Fueloleos")
TWEETS = {"GOOG": "Twitter_volume_GOOG", "AAPL": "Twitter_volume_AAPL"}
ADS = {"clicks": "exchange-2_cpc_results", "views": "exchange-4_cpm_results"}
CLOUD = {
    "requests": "elb_request_count_8c0756",
    "ec2-cpu": "ec2_cpu_utilization_5f5533",
    "ec2-network": "ec2_network_in_257a54",
    "rds-cpu": "rds_cpu_utilization_e47b3b",
}
M4 = "M4-Hourly"
SOURCES: dict[str, Source] = {
    "vic-electricity": Source(CHOOSING, "30min", _columns("sensors/vic_electricity.csv", "Time", demand="Demand")),
    # The daily file is the sum of the hourly one, but for a last day of one hour: days are made of hours here.
    "bdg2": Source(CHOOSING, "1h", _columns("public/bdg2_hourly_sample.csv", "timestamp", "building_1", "building_2")),
    "bike-sharing": Source(CHOOSING, "1h", read_bikes),
    "tweets": Source(CHOOSING, "5min", partial(read_files, TWEETS)),
    "madrid-transport": Source(
        CHOOSING,
        "1D",
        _columns("public/public-transport-madrid.csv", "date", "metro", "bus", "road", "train", "total"),
    ),
    "uk-flights": Source(
        CHOOSING,
        "1D",
        partial(
            read_columns,
            "public/uk_daily_flights.csv",
            "Date",
            {"flights": "Number of flights"},
            time_format="%d/%m/%Y",
        ),
    ),
    "wikipedia": Source(CHOOSING, "1D", _columns("public/wikipedia_visits.csv", "date", visits="y")),
    "spending": Source(CHOOSING, "MS", _columns("public/expenditures_australia.csv", "date", "turnover")),
    "tourism": Source(
        CHOOSING,
        "QS",
        partial(read_long, "public/australia_tourism.csv", "date_time", "Trips", ("Region", "State", "Purpose")),
    ),
    "ETTh1": Source(REPORTED, "1h", _columns("ETT/ETTh1.csv", "date", *ETT)),
    "road-traffic": Source(
        REPORTED, "1h", _columns("sensors/hourly_traffic_volume.csv", "date_time", vehicles="traffic_volume")
    ),
    "parking": Source(
        REPORTED,
        "30min",
        partial(read_long, "sensors/hourly_parking.csv", "LastUpdated", "Occupancy", ("SystemCodeNumber",)),
    ),
    "bicimad": Source(REPORTED, "1D", _columns("public/bicimad_users.csv", "date", "users")),
    "ad-exchange": Source(REPORTED, "1h", partial(read_files, ADS)),
    "cloud-metrics": Source(REPORTED, "5min", partial(read_files, CLOUD)),
    "corticosteroids": Source(REPORTED, "MS", _columns("public/h2o.csv", "fecha", spending="x")),
    "fuels": Source(REPORTED, "MS", _columns("public/consumos-combustibles-mensual.csv", "Fecha", *FUELS)),
}
PART = {name: source.part for name, source in SOURCES.items()} | {M4: REPORTED}
"""The part of every source. M4-Hourly has no times, so it is laid out elsewhere."""


@cache
def grid_of(frequency: str) -> Frequency:
    """Make the grid of a frequency, once."""
    return Frequency(frequency)


def lay_out(frame: pd.DataFrame, source: Source, frequency: str, series: tuple[str, ...] = ()) -> Laid:
    """Put a source's rows on a grid: the last row of each of its own steps, and means of those on a coarser one."""
    names = series or tuple(dict.fromkeys(frame["series"]))
    times = frame["time"].to_numpy("datetime64[us]").astype(np.int64)
    own, wanted = grid_of(source.frequency), grid_of(frequency)
    begin, values = _fill(frame["series"], own.step_of(times), frame["value"].to_numpy(np.float64), names)
    if frequency != source.frequency:
        fine = own.time_of(np.arange(begin, begin + values.shape[1]))
        begin, values = _coarsen(values, wanted.step_of(fine))
    beginnings = wanted.time_of(np.arange(begin, begin + values.shape[1] + 1))
    spans = [np.flatnonzero(np.isfinite(row))[[0, -1]] for row in values]
    return Laid(
        names,
        tuple(row[first : last + 1] for row, (first, last) in zip(values, spans, strict=True)),
        tuple(beginnings[first : last + 2] for first, last in spans),
    )


def _fill(series: "pd.Series[str]", steps: Ints, values: Floats, names: tuple[str, ...]) -> tuple[int, Floats]:
    """Values (S, T) from the first step on, and that step. Of two rows of a step, the last one counts."""
    row = pd.Index(names).get_indexer(pd.Index(series))
    row, steps, values = (column[row >= 0] for column in (row, steps, values))
    begin = int(steps.min())
    table = np.full((len(names), int(steps.max()) - begin + 1), np.nan)
    table[row, steps - begin] = values  # NumPy keeps the last of equal indices
    return begin, table


def _coarsen(values: Floats, steps: Ints) -> tuple[int, Floats]:
    """Means (S, coarse T) of the values (S, T) whose coarse steps are `steps` (T,), NaN with too few of them."""
    begin, coarse = int(steps[0]), int(steps[-1] - steps[0]) + 1
    known = np.isfinite(values)
    total, count = np.zeros((len(values), coarse)), np.zeros((len(values), coarse))
    for row in range(len(values)):
        np.add.at(total[row], steps - begin, np.where(known[row], values[row], 0.0))
        np.add.at(count[row], steps - begin, known[row])
    enough = count >= ENOUGH * count.max(axis=1, keepdims=True)
    return begin, np.divide(total, count, out=np.full_like(total, np.nan), where=enough & (count > 0))


def _rows(series: "str | pd.Series[str]", times: "pd.Series[pd.Timestamp]", values: "pd.Series[float]") -> pd.DataFrame:
    return pd.DataFrame({"series": series, "time": times.dt.tz_localize(None), "value": values.astype(np.float64)})
