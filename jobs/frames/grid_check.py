"""Whether a grid fits the rows that were laid on it: what would make scores flatter is refused, the rest is said.

too coarse   hourly rows on days: most are merged away, and the few that are left are easy to forecast
too fine     daily rows on hours: most steps are empty, and those that hold a value repeat themselves
"""

from collections.abc import Sequence
from datetime import tzinfo

import numpy as np

from jobs.frames.sample import draw
from jobs.frames.spacing import search
from pipeline.errors import ConfigError
from pipeline.grid.frequency import Frequency
from pipeline.records import Floats, Ints

MOST_MERGED = 0.05
"""The largest share of rows that may give way to another of their step without a policy that was chosen for it."""
MOST_IRREGULAR = 0.5
"""The same where the rows have no frequency of their own."""
FEW_AHEAD = 0.1
"""A series is sparse when fewer of its values than this come one step after the value before."""
MOST_SPARSE = 0.1
"""The largest share of series that may be sparse because they are of another frequency."""
LEAST_AHEAD = 3
"""Steps from value to value that tell a series' own distance."""
COARSER = 1.5
MERGE = "duplicates='mean' (last, first, sum, max), or --set series.duplicates=mean"


def check_merged(
    names: Sequence[str],
    row: Ints,
    times: Ints,
    value: Floats,
    *,
    frequency: Frequency,
    zone: tzinfo | None,
    is_one: bool,
) -> list[str]:
    """Look at rows (N,), in order of time, that share a step although no policy was chosen.

    Rows without a value, NaN, do not count, and the same row twice is harmless. `is_one`: the frame has no column of
    series. ConfigError when too many rows with something of their own to say share a step; a note for fewer.
    """
    seen = np.isfinite(value)
    row, times, value = row[seen], times[seen], value[seen]
    count, order = len(row), np.argsort(row, kind="stable")
    row, times, value = row[order], times[order], value[order]
    step = frequency.step_of(times)
    near = (row[1:] == row[:-1]) & (step[1:] == step[:-1])
    several = np.r_[near, False] | np.r_[False, near]  # rows (N,) that are not alone in their step
    everything = row, times
    row, times, value, step = row[several], times[several], value[several], step[several]
    order = np.lexsort((value, times, row))
    row, times, value, step = row[order], times[order], value[order], step[order]
    same_time = (row[1:] == row[:-1]) & (times[1:] == times[:-1])
    again = same_time & (value[1:] == value[:-1])
    shared = (row[1:] == row[:-1]) & (step[1:] == step[:-1]) & ~again
    lost, count = int(shared.sum()), count - int(again.sum())
    if not lost:
        return []
    words = f"{lost:,} of {count:,} rows share a step of {frequency.text} with another"
    if lost <= MOST_MERGED * count:
        return [f"{words}, first in series {names[row[1:][shared][0]]}: the last one counts"]
    if 2 * int((shared & same_time).sum()) > lost:
        at = int(np.flatnonzero(shared & same_time)[0])
        when = times[at].astype("datetime64[us]").astype("datetime64[s]")
        whose = (
            "as there is no column of series, this is one: if it is several, name their column, "
            "columns={'series_id': ...} or --series-id;"
            if is_one
            else "if they are other series, give each a name of its own;"
        )
        raise ConfigError(
            f"{lost:,} of {count:,} rows have the time of another one of their series, and another value (first: "
            f"series {names[row[at]]}, {when}): {whose} otherwise say how they are merged: {MERGE}"
        )
    owners = np.unique(row[1:][shared])
    mine = np.isin(everything[0], owners)
    found = _find(everything[0][mine], everything[1][mine], zone)
    if found is not None and found.seconds * COARSER < frequency.seconds:
        raise ConfigError(
            f"{words} and would be lost, as rows are {found.text} apart in series {names[owners[0]]}: give "
            f"frequency='{found.text}', or --frequency {found.text}, or say how the rows of a step are merged: {MERGE}"
        )
    if lost <= MOST_IRREGULAR * count:
        return [f"{words}: the last one counts; {MERGE} merges them"]
    raise ConfigError(
        f"{words} and would be lost: give a frequency that they fit, or say how the rows of a step are merged: {MERGE}"
    )


def check_empty(names: Sequence[str], row: Ints, step: Ints, *, frequency: Frequency, zone: tzinfo | None) -> list[str]:
    """Look at the steps that hold a value (N,), sorted by series and step, for series in which few follow each other.

    ConfigError when values of more than a few series come at regular distances that are a coarser frequency; a note
    when they do in a few, or when they are few and far between without one.
    """
    within = row[1:] == row[:-1]
    owner, ahead = row[1:][within], np.diff(step)[within]
    known = np.bincount(owner, minlength=len(names))
    nexts = np.bincount(owner[ahead == 1], minlength=len(names))
    judged = known >= LEAST_AHEAD
    sparse = judged & (nexts < FEW_AHEAD * known)
    if not sparse.any():
        return []
    mine = sparse[row]
    found = _find(row[mine], frequency.time_of(step[mine]), zone)
    count = int(sparse.sum())
    some = [names[series] for series in np.flatnonzero(sparse)[:3].tolist()]
    who = f"series {', '.join(some)}{', ...' if count > len(some) else ''}"
    if found is None or found.seconds < COARSER * frequency.seconds:
        return [f"most steps of {frequency.text} hold no value: {count:,} series have few, as {who}"]
    if count <= MOST_SPARSE * judged.sum():
        return [f"{who}: values are {found.text} apart, so that most steps of {frequency.text} are empty"]
    if count == judged.sum():
        where, advice = "", f"give frequency='{found.text}', or --frequency {found.text}"
    else:
        where = f" in {count:,} of {int(judged.sum()):,} series"
        advice = "fit a forecaster for each frequency"
    raise ConfigError(
        f"values are {found.text} apart{where}, as {who}, so that most steps of {frequency.text} are empty and scores "
        f"would flatter: {advice}"
    )


def _find(row: Ints, times: Ints, zone: tzinfo | None) -> Frequency | None:
    sample = draw(row, times, zone)
    found = sample and search(sample)
    return Frequency(found.text) if found else None
