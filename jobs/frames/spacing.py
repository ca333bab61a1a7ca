"""The frequency that the rows of a frame show: the grid on which nearly every row is one step after the last.

Candidates below a day are distances that occur between the rows of a series; from a day on they are calendars
(jobs.calendars). Each is judged by two shares, in which every series of a sample has a say:

on     rows that are on the grid, each in a step of its own
next   rows that come one step after the row before: 1 without gaps, 0 on a grid that is twice as fine as the rows

The best product wins. Gaps, duplicates, disorder, days of 23 hours and a few strays do not change it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import tzinfo

import numpy as np

from jobs.frames.calendars import calendars
from jobs.frames.sample import Candidate, Sample, commonest, draw, pick
from pipeline.errors import ConfigError
from pipeline.grid.frequency import DAY, SECOND
from pipeline.records import Ints

LEAST_ON, LEAST_NEXT = 0.8, 0.25
NEAR = 0.1
"""A distance is k steps when it is off by no more than this part of a step: clocks tremble."""
MOSTLY, TREMBLES, ODD = 0.5, 0.95, 0.9
"""The worth of a length that most distances are not exactly, so that an exact one wins, then a round one."""
SMALL, HOURS = (1, 2, 5, 10, 15, 20, 30), (1, 2, 3, 4, 6, 8, 12)
ROUND = tuple(SECOND * n for n in (*SMALL, *(60 * n for n in SMALL), *(3600 * n for n in HOURS)))
GIVE = "give one: frequency='1h', or --frequency 1h"


@dataclass(frozen=True, slots=True)
class Spacing:
    """A frequency that was found, as pandas writes it, and the shares that speak for it."""

    text: str
    on: float
    next: float


def find_frequency(names: Sequence[str], row: Ints, times: Ints, zone: tzinfo | None = None) -> Spacing:
    """Find the frequency of rows at `times` (N,), microseconds in UTC, of the series `row` (N,) of `names`.

    Days and longer are days of `zone`, UTC if it is None. ConfigError says why there is none, and what to give.
    """
    sample = draw(row, times, zone)
    if sample is None:
        raise ConfigError(f"the frequency cannot be found, as no series has rows at two times: {GIVE}")
    found = search(sample)
    if found is not None:
        return found
    apart = np.sort(np.diff(sample.times)[sample.within])
    if apart[len(apart) // 2] < SECOND:
        raise ConfigError(
            "the rows are less than a second apart, and the finest frequency is one second: give frequency='1s' and "
            "how the rows of a step are merged, duplicates='mean' (last, first, sum, max)"
        )
    kinds = _kinds(names, row, times, zone)
    if len(kinds) > 1:
        words = " and ".join(f"{text} in {', '.join(some[:3])}{', ...' * (len(some) > 3)}" for text, some in kinds)
        raise ConfigError(f"the series have different frequencies, {words}: fit each kind alone, or {GIVE}")
    low, middle, high = (say_length(int(apart[place])) for place in (0, len(apart) // 2, -1))
    raise ConfigError(
        f"the frequency cannot be found, as the rows are irregular: {low} to {high} apart, half of them no more than "
        f"{middle}; {GIVE}, and how the rows of a step are merged: duplicates='mean' (last, first, sum, max)"
    )


def search(sample: Sample) -> Spacing | None:
    """Find the grid that speaks best for a sample; None when none is good enough."""
    best, most = None, 0.0
    for each in (*calendars(sample), *_ticks(sample)):
        merit = each.on * each.next * each.worth
        if each.on >= LEAST_ON and each.next >= LEAST_NEXT and merit > most:
            best, most = Spacing(each.text, each.on, each.next), merit
    return best


def say_length(length: int) -> str:
    """Write a length (microseconds) in its largest whole unit, or to two digits in one that is near."""
    for unit, name in ((DAY, "D"), (DAY // 24, "h"), (60 * SECOND, "min"), (SECOND, "s")):
        if length >= unit:
            return f"{length // unit}{name}" if length % unit == 0 else f"{length / unit:.3g}{name}"
    return f"{length / SECOND:.3g}s"


def _ticks(sample: Sample) -> list[Candidate]:
    """Judge fixed lengths in UTC; whole days are calendars."""
    apart, share = np.diff(sample.times)[sample.within], sample.share_of_steps
    lengths = commonest(apart, share)
    middle = float(np.median(apart)) / SECOND
    lengths += [SECOND * round(middle), 60 * SECOND * round(middle / 60)]
    lengths += [min(ROUND, key=lambda length: abs(np.log(length / max(middle * SECOND, 1.0))))]
    found = []
    for length in dict.fromkeys(lengths):
        days = length / DAY
        if length < SECOND or length % SECOND or (days > 0.5 and abs(days - round(days)) <= NEAR):
            continue
        steps = np.rint(apart / length)
        off = np.abs(apart - steps * length)
        near = off <= NEAR * length if days <= 0.5 else off == 0
        exact, on, ahead = (float((share * mask).sum()) for mask in (off == 0, near & (steps >= 1), steps == 1))
        worth = 1.0 if exact >= MOSTLY else TREMBLES if length in ROUND else ODD
        found.append(Candidate(_name(length), on, ahead, worth))
    return found


def _name(length: int) -> str:
    """Name a length of whole seconds as pandas does."""
    seconds = length // SECOND
    unit, name = next((unit, name) for unit, name in ((3600, "h"), (60, "min"), (1, "s")) if seconds % unit == 0)
    return f"{seconds // unit}{name}"


def _kinds(names: Sequence[str], row: Ints, times: Ints, zone: tzinfo | None) -> list[tuple[str, list[str]]]:
    """Find the frequency of each series of a sample alone: texts with the names of their series, most series first."""
    kinds: dict[str, list[str]] = {}
    for series in pick(row, times).tolist():
        mine = row == series
        alone = draw(row[mine], times[mine], zone)
        found = alone and search(alone)
        if found:
            kinds.setdefault(found.text, []).append(names[series])
    return sorted(kinds.items(), key=lambda kind: -len(kind[1]))
