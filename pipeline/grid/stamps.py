"""A column of times, whatever it is made of, to microseconds in UTC: numbers, texts, datetimes, dates and periods.

Each cell is read by the rule of pipeline.grid.times, so a file gives the times that its rows would give as messages.
Only a text or datetime without an offset is more than there: it is UTC, or local time of the rule's zone.

    2026-10-25T02:30 in Europe/Berlin   is there twice: a series' first row is the earlier one, its next the later one,
                                        the other way round if the rows begin with the newest
    2026-03-29T02:30 in Europe/Berlin   is never there: no time
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.grid.times import (
    EPOCH,
    FIRST_TIME,
    LAST_TIME,
    MICROSECOND,
    OUTSIDE,
    PER_SECOND,
    TimeRule,
    midnight,
    number_in,
    number_reader,
    read_numbers,
    read_text,
)
from pipeline.grid.untimely import explain_number, explain_text
from pipeline.visible import quoted, shown

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
ADVICE = "write ISO 8601, as 2026-01-31T12:00:00Z, or a number of s, ms, us or ns since 1970"
WORDS = ("now", "today")  # pandas reads them, and means the moment of reading
HOURS = (1_900_010_100, 2_189_123_124)  # YYYYMMDDHH
AS_NANOSECONDS = ((315_532, 6_942_672), (315_532_800, 6_942_672_000), (1_420_000_000_000, 2_052_000_000_000))
"""Microseconds: what numbers of s and ms become if they are taken for ns, and those of us, of 2015 to 2035."""
BEYOND = 10**300
TAIL = 6  # characters of the longest offset
_TAIL = re.compile(r".*?([zZ]|[+-][0-9]{2}(?::?[0-9]{2})?)")
_OFFSET = re.compile(r".*[0-9][T ].*[0-9]\s*([zZ]|[+-][0-9]{2}(?::?[0-9]{2})?)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Stamps:
    """The times of a column (N,), microseconds in UTC, OUTSIDE where a cell is no time.

    zone: the one that all were written in, None when they have none; notes: what a reader may not expect, in words;
    reasons: of cells that are no time for what is beside them, by row.
    """

    times: Ints
    zone: tzinfo | None
    notes: tuple[str, ...] = ()
    reasons: dict[int, str] | None = None


@dataclass(slots=True)
class _Cells:
    """Cells as they were read: `times` of those without an offset (`naive`) are their own clock's."""

    times: Ints
    naive: Mask
    zones: set[tzinfo]


def read_stamps(column: "pd.Series[Any]", rule: TimeRule, series: Ints | None = None) -> Stamps:
    """Read a column; nothing raises. `series` (N,) tells the series of rows apart where an hour is there twice."""
    cells, zone = _read_cells(column, rule), rule.zone
    times, notes, reasons = cells.times, [], {}
    known = times != OUTSIDE
    local = cells.naive & known
    if zone is not None and local.any():
        rows = np.flatnonzero(local)
        own = np.zeros(len(rows), np.int64) if series is None else series[rows]
        times[rows], twice = _localize(times[rows], zone, own)
        reasons = dict.fromkeys(rows[times[rows] == OUTSIDE].tolist(), f"is skipped by the clock of {zone}")
        if twice:
            notes.append(
                f"{twice:,} times are of an hour that {zone} has twice, where its clock goes back: rows of a series at "
                "one time are told apart by their order, and one alone is taken for the earlier"
            )
    elif local.any() and cells.zones:
        notes.append(f"{int(local.sum()):,} times have no offset, though others do: they are read as UTC")
    outside = (times < rule.first_text) | (times >= LAST_TIME)
    times = np.where(outside, OUTSIDE, times)
    if zone is None and cells.zones:
        zone = next(iter(cells.zones)) if len(cells.zones) == 1 and not local.any() else UTC
        if len(cells.zones) > 1:
            names = ", ".join(sorted(map(str, cells.zones))[:4])
            notes.append(
                f"the times have more than one offset ({names}): they come back in UTC, unless a zone is given"
            )
    return Stamps(times, zone, tuple(notes), reasons)


def as_written(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Make a column of CSV text again if it is years or YYYYMMDD, which reading the file has made numbers."""
    numbers = column.dropna() if pd.api.types.is_float_dtype(column) else column
    if not len(numbers) or not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        return column
    least, most = numbers.min(), numbers.max()
    dates = any(first <= least and most < first * 10 for first in (1_000, 10_000_000)) and (numbers % 1 == 0).all()
    return column.astype("Int64").astype(object).map(str, na_action="ignore") if dates else column


def read_floats(column: "pd.Series[Any]") -> NDArray[np.float64]:
    """Read a column of numbers (N,), NaN where a cell is none; an integer of hundreds of digits is infinite."""
    try:
        numbers = pd.to_numeric(column, errors="coerce")
    except OverflowError:
        numbers = pd.to_numeric(column.map(_bounded), errors="coerce")
    found: NDArray[np.float64] = numbers.to_numpy(dtype=np.float64, na_value=np.nan)
    return found


def _bounded(cell: Any) -> Any:
    number = number_in(cell.strip()) if isinstance(cell, str) else cell
    return float("inf") if isinstance(number, int | float) and not -BEYOND < number < BEYOND else cell


def explain_cell(column: "pd.Series[Any]", stamps: Stamps, row: int, rule: TimeRule, keys: str) -> str:
    """Say why a row's cell is no time: the cell, what it looks like, and what to write; `keys` as in explain_number."""
    if stamps.reasons and row in stamps.reasons:
        return f"{show_cell(column.iloc[row])} {stamps.reasons[row]}: write it with an offset"
    return f"{_explain(column.iloc[row], rule, keys)}; {ADVICE}"


def show_cell(cell: Any) -> str:
    """Show a cell as a person would write it: no np.float64(...), nothing long, one line."""
    plain = cell.item() if isinstance(cell, np.generic) and not isinstance(cell, np.datetime64) else cell
    return quoted(plain) if isinstance(plain, str) else shown(str(plain))


def _explain(cell: Any, rule: TimeRule, keys: str) -> str:
    if pd.api.types.is_scalar(cell) and pd.isna(cell):
        return "is missing"
    number = number_in(cell.strip()) if isinstance(cell, str) else _number(cell)
    if number is not None:
        taken = number_reader(rule)(number) != OUTSIDE
        return explain_number(number, rule, keys) + (f": set {keys}time_unit to s if it is seconds" if taken else "")
    time = _instant(cell)
    if time is None:
        return explain_text(cell, rule, keys) if isinstance(cell, str) else f"{show_cell(cell)} is no time"
    if not isinstance(cell, str) and any(first <= time[0] < last for first, last in AS_NANOSECONDS):
        return f"{show_cell(cell)} was a number of s, ms or us that was taken for ns: give pandas.to_datetime its unit"
    if rule.oldest is not None and FIRST_TIME <= time[0] < rule.oldest:
        return f"{show_cell(cell)} is before {keys}oldest_time"
    return f"{show_cell(cell)} is outside 1900 to 2190"


def _read_cells(column: "pd.Series[Any]", rule: TimeRule) -> _Cells:
    kinds = pd.api.types
    if isinstance(column.dtype, pd.CategoricalDtype | pd.ArrowDtype):
        column = column.astype(object).infer_objects()
    if isinstance(column.dtype, pd.PeriodDtype):
        column = column.dt.to_timestamp()
    if kinds.is_datetime64_any_dtype(column):
        return _but_for_numbers(_read_datetimes(column))
    none = np.zeros(len(column), np.bool_)
    if kinds.is_numeric_dtype(column) and not (kinds.is_bool_dtype(column) or kinds.is_complex_dtype(column)):
        whole = kinds.is_integer_dtype(column) and not column.hasnans
        numbers = column.to_numpy() if whole else column.to_numpy(np.float64, na_value=np.nan)
        hours = _are_hours(numbers, rule)
        times = np.full(len(numbers), OUTSIDE, np.int64) if hours else read_numbers(numbers, rule)
        return _Cells(times, none, set())
    kind = kinds.infer_dtype(column, skipna=True)
    if kind in ("string", "date", "datetime"):
        try:
            read = _read_datetimes(pd.to_datetime(column, format="ISO8601" if kind == "string" else None))
        except ValueError:  # mixed offsets, numbers, or no times
            if kind == "string":
                return _read_digits(column, rule) or _read_texts(column, rule)
        else:
            wrong = column.isin(WORDS).to_numpy()
            return _Cells(np.where(wrong, OUTSIDE, read.times), read.naive, read.zones)
    return _read_objects(column.tolist(), rule)


def _read_datetimes(column: "pd.Series[Any]") -> _Cells:
    zone = column.dt.tz
    plain = (column if zone is None else column.dt.tz_convert("UTC").dt.tz_localize(None)).to_numpy()
    scale = PER_SECOND[np.datetime_data(plain.dtype)[0]]
    raw = plain.astype(np.int64)
    inside = (raw >= FIRST_TIME // 1_000_000 * scale) & (raw < LAST_TIME // 1_000_000 * scale)
    within = np.where(inside, raw, 0)
    times = within // (scale // 1_000_000) if scale > 1_000_000 else within * (1_000_000 // scale)
    naive = np.full(len(times), zone is None)
    return _Cells(np.where(inside, times, OUTSIDE), naive, set() if zone is None else {_plain(zone)})


def _but_for_numbers(cells: _Cells) -> _Cells:
    """Refuse a column that is nowhere but where numbers of another unit get as ns, in January 1970."""
    times = cells.times
    wrong = any(len(times) and first <= times.min() and times.max() < last for first, last in AS_NANOSECONDS)
    return _Cells(np.full(len(times), OUTSIDE, np.int64), cells.naive, cells.zones) if wrong else cells


def _are_hours(numbers: NDArray[Any], rule: TimeRule) -> bool:
    """Tell whether all numbers are YYYYMMDDHH, which are seconds of 2030 to 2039, too; then none is believed."""
    if rule.unit != "auto" or not len(numbers) or not ((numbers >= HOURS[0]) & (numbers < HOURS[1])).all():
        return False
    whole = numbers.astype(np.int64)
    month, day, hour = whole // 10_000 % 100, whole // 100 % 100, whole % 100
    return bool(((month >= 1) & (month <= 12) & (day >= 1) & (day <= 31) & (hour < 24) & (whole == numbers)).all())


def _read_digits(column: "pd.Series[str]", rule: TimeRule) -> _Cells | None:
    """Read a column that is numbers and nothing else, all of them times; None if it is not so."""
    if not len(column) or number_in(str(column.iloc[0]).strip()) is None:
        return None
    read = pd.to_numeric(column, errors="coerce")
    whole = pd.api.types.is_integer_dtype(read) and not read.hasnans
    numbers = read.to_numpy() if whole else read.to_numpy(dtype=np.float64, na_value=np.nan)
    times = read_numbers(numbers, rule)
    wrong = (times == OUTSIDE).any() or _are_hours(numbers, rule)
    return None if wrong else _Cells(times, np.zeros(len(times), np.bool_), set())


def _read_texts(column: "pd.Series[str]", rule: TimeRule) -> _Cells:
    """Read texts (N,), those that are numbers as numbers."""
    moments = pd.to_datetime(column, utc=True, errors="coerce", format="ISO8601")
    none = moments.isna().to_numpy()
    times = np.where(column.isin(WORDS).to_numpy(), OUTSIDE, _read_datetimes(moments).times)
    bare = column.str.strip()
    code, tails = pd.factorize(bare.str[-TAIL:])
    offsets = [_offset_of(tail) for tail in tails]
    naive = ~none & np.array([*(offset is None for offset in offsets), True])[code]
    unsure = ~none & np.array([*(offset == "" for offset in offsets), False])[code]
    used = np.unique(code[~none & ~naive & ~unsure]).tolist()
    zones: set[tzinfo] = {_fixed(offsets[place] or "Z") for place in used}
    for row in np.flatnonzero(unsure).tolist():
        found = _OFFSET.fullmatch(bare.iloc[row])
        naive[row] = found is None
        zones |= set() if found is None else {_fixed(found[1])}
    read_number, numbers = number_reader(rule), {}
    for row in np.flatnonzero(none & column.notna().to_numpy()).tolist():
        number = number_in(bare.iloc[row])
        if number is not None:
            times[row], numbers[row] = read_number(number), number
        elif (time := read_text(bare.iloc[row])) != OUTSIDE:  # a leap second
            times[row] = time
            zones.add(UTC)
    if _are_hours(np.array([_bounded(number) for number in numbers.values()], np.float64), rule):
        times[list(numbers)] = OUTSIDE
    return _Cells(times, naive, zones)


def _offset_of(tail: str) -> str | None:
    """Return the offset at the end of a time, None if there is none, and "" where the day of a date looks like one."""
    found = _TAIL.fullmatch(tail)
    if found is None:
        return None
    return "" if len(found[1]) == 3 and found[1][0] == "-" else found[1]


def _read_objects(cells: Sequence[Any], rule: TimeRule) -> _Cells:
    """Read cells of any kinds, each by its own."""
    times, naive = np.full(len(cells), OUTSIDE, np.int64), np.zeros(len(cells), np.bool_)
    texts = {text: place for place, text in enumerate(dict.fromkeys(cell for cell in cells if isinstance(cell, str)))}
    found = _read_texts(pd.Series(list(texts), dtype=object), rule) if texts else _Cells(times[:0], naive[:0], set())
    zones, read_number, numbers = found.zones, number_reader(rule), {}
    for row, cell in enumerate(cells):
        if isinstance(cell, str):
            times[row], naive[row] = found.times[texts[cell]], found.naive[texts[cell]]
        elif (number := _number(cell)) is not None:
            times[row], numbers[row] = read_number(number), number
        elif (time := _instant(cell)) is not None:
            times[row], zone = time
            naive[row] = zone is None
            zones |= set() if zone is None else {_plain(zone)}
    if _are_hours(np.array([_bounded(number) for number in numbers.values()], np.float64), rule):
        times[list(numbers)] = OUTSIDE
    return _Cells(times, naive, zones)


def _number(cell: Any) -> float | None:
    if isinstance(cell, bool | np.bool_ | np.datetime64 | np.timedelta64 | complex):
        return None
    plain = cell.item() if isinstance(cell, np.generic) else cell
    if isinstance(plain, Decimal):
        plain = float(plain) if not plain.is_finite() or plain != plain.to_integral_value() else int(plain)
    return plain if isinstance(plain, int | float) and not isinstance(plain, bool) else None


def _instant(cell: Any) -> tuple[int, tzinfo | None] | None:
    """Read a datetime, date, text, numpy or pandas time: microseconds of its own clock, or in UTC with its zone."""
    if cell is pd.NaT:
        return None
    if isinstance(cell, str):
        cell = pd.NaT if cell in WORDS else pd.to_datetime(cell, errors="coerce", format="ISO8601")
        return None if cell is pd.NaT else _instant(cell)
    try:
        if isinstance(cell, pd.Period):
            cell = cell.to_timestamp()
        if isinstance(cell, np.datetime64):
            cell = pd.Timestamp(cell)
            if cell is pd.NaT:
                return None
        if isinstance(cell, datetime):
            moment = cell.to_pydatetime(warn=False) if isinstance(cell, pd.Timestamp) else cell
            zone = moment.tzinfo if moment.utcoffset() is not None else None
            return (moment.replace(tzinfo=zone or UTC) - EPOCH) // MICROSECOND, zone
        return (midnight(cell), None) if isinstance(cell, date) else None
    except (ValueError, OverflowError):
        return OUTSIDE, None


def _localize(times: Ints, zone: tzinfo, series: Ints) -> tuple[Ints, int]:
    """Turn local times (N,) into UTC, OUTSIDE where the zone's clock skips them; count those that are there twice."""
    local = pd.DatetimeIndex(times.astype("datetime64[us]"))
    rows = pd.DataFrame({"series": series, "time": times})
    change = rows.groupby("series")["time"].diff()
    newest_first = bool((change < 0).sum() > (change > 0).sum())
    first = rows.groupby(["series", "time"]).cumcount(ascending=not newest_first).to_numpy() == 0
    early, late = (
        local.tz_localize(zone, ambiguous=np.full(len(times), flag), nonexistent="NaT") for flag in (True, False)
    )
    chosen = early.where(first, late).tz_convert("UTC").tz_localize(None)
    utc = np.where(chosen.isna(), OUTSIDE, chosen.to_numpy().astype("datetime64[us]").astype(np.int64))
    return utc, int((early != late)[~early.isna()].sum())


def _fixed(offset: str) -> tzinfo:
    if offset in ("Z", "z"):
        return UTC
    minutes = int(offset[1:3]) * 60 + int(offset[-2:] if len(offset) > 3 else 0)
    return _plain(timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes)))


def _plain(zone: tzinfo) -> tzinfo:
    """Return one object for UTC, however it was written."""
    return UTC if str(zone) in ("UTC", "UTC+00:00", "tzutc()") else zone
