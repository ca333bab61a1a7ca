"""Every kind of table as a pandas frame with its index in columns: pandas, polars, Arrow, or what gives itself as such.

index                         becomes
times, named or not           the column of times, if the frame has none
series and times, two levels  the columns of series and times
anything else with a name     a column of that name
"""

import warnings
from typing import Any, NamedTuple

import pandas as pd
from pandas.tseries.frequencies import to_offset

from jobs.frames.calendars import MONTHS, WEEKDAYS
from pipeline.errors import ConfigError

TABLES = "a pandas DataFrame is needed, or a Series with times as its index, a polars DataFrame or an Arrow table"
ARROW = "reading polars and Arrow needs pyarrow: pip install 'tidecast[parquet]'"


class Table(NamedTuple):
    """Numbered rows; time, series: the columns that were an index of times, and the levels beside it."""

    frame: pd.DataFrame
    time: str | None = None
    series: tuple[str, ...] = ()


def open_table(table: object, *, value: str | None = None) -> Table:
    """Read any kind of table; `value` names the numbers of a Series. ConfigError for what is none."""
    frame = _to_pandas(table, value or "value")
    if isinstance(frame.columns, pd.MultiIndex):
        raise ConfigError(
            f"the frame's columns have {frame.columns.nlevels} levels: make one of them, as frame.columns = "
            "['_'.join(map(str, name)) for name in frame.columns]"
        )
    frame = frame.set_axis([str(name) for name in frame.columns], axis=1)
    found: dict[str, pd.Index] = {}
    for level, given in enumerate(frame.index.names):
        values = frame.index.get_level_values(level)
        if given is None and frame.index.nlevels == 1 and not _is_time(values):
            continue
        name = ("time" if _is_time(values) else f"level_{level}") if given is None else str(given)
        if name in frame.columns and given is None:
            raise ConfigError(f"the index and column {name} are both times: name the index, or reset_index(drop=True)")
        if name not in frame.columns:
            found[name] = values
    frame = frame.reset_index(drop=True)
    for place, (name, values) in enumerate(found.items()):
        frame.insert(place, name, values)
    times = [name for name, values in found.items() if _is_time(values)]
    if len(times) != 1:
        return Table(frame)
    return Table(frame, times[0], tuple(name for name in found if name not in times))


def read_periods(column: "pd.Series[Any]") -> tuple["pd.Series[Any]", str | None]:
    """Take the first moment of each period, with the periods' frequency as pandas writes it; None: they are none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of periods of business days
        first = column.first_valid_index() if column.dtype == object else None
        if first is not None and isinstance(column[first], pd.Period):
            try:
                column = pd.Series(pd.PeriodIndex(column), name=column.name)
            except (TypeError, ValueError) as error:
                raise ConfigError(f"column {column.name} holds what are not periods of one length: {error}") from error
        if not isinstance(column.dtype, pd.PeriodDtype):
            return column, None
        return column.dt.start_time, column.array.freqstr


def to_periods(stamps: pd.DatetimeIndex, freq: str) -> pd.PeriodIndex:
    """Name the periods that begin at stamps."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return stamps.to_period(freq)


def name_periods(freq: str) -> str:
    """Name the frequency of the first moments of periods, which pandas names by their last: M is MS, W-SUN is W-MON."""
    offset = to_offset(freq, is_period=True)
    many = offset.n if offset.n > 1 else ""
    if isinstance(offset, pd.offsets.MonthEnd):
        return f"{many}MS"
    if isinstance(offset, pd.offsets.QuarterEnd):
        return f"{many}QS-{MONTHS[offset.startingMonth % 3]}"
    if isinstance(offset, pd.offsets.YearEnd):
        return f"{many}YS-{MONTHS[offset.month % 12]}"
    if isinstance(offset, pd.offsets.Week):
        return f"{many}W-{WEEKDAYS[(offset.weekday + 1) % 7]}"
    return freq if freq[0].isdigit() or freq == "B" else f"1{freq}"


def _is_time(values: pd.Index) -> bool:
    return isinstance(values, pd.DatetimeIndex | pd.PeriodIndex)


def _to_pandas(table: object, value: str) -> pd.DataFrame:
    if isinstance(table, pd.DataFrame):
        return table
    if isinstance(table, pd.Series):
        levels = [table.index.get_level_values(level) for level in range(table.index.nlevels)]
        if not any(map(_is_time, levels)):
            raise ConfigError("a Series needs times as its index: series.index = pd.to_datetime(series.index)")
        return table.to_frame(value)
    if not hasattr(table, "__arrow_c_stream__"):  # polars' LazyFrame, Dask, Spark
        lazy = next((name for name in ("toPandas", "compute", "collect") if hasattr(table, name)), None)
        if lazy is not None:
            raise ConfigError(f"{type(table).__name__} is not computed yet: give its .{lazy}()")
    try:
        if hasattr(table, "__arrow_c_stream__") or hasattr(table, "__arrow_c_array__"):
            return pd.DataFrame.from_arrow(table)
        if hasattr(table, "to_pandas"):
            found = table.to_pandas()
            if isinstance(found, pd.DataFrame | pd.Series):
                return _to_pandas(found, value)
    except ImportError as error:
        raise ConfigError(ARROW) from error
    except (TypeError, ValueError) as error:
        why = str(error).partition("\n")[0]
        raise ConfigError(f"{TABLES}: {type(table).__name__} cannot be read as one, {why}") from error
    raise ConfigError(f"{TABLES}, not {type(table).__name__}")
