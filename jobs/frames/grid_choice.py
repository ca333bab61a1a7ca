"""The grid of a frame: what was wished for, completed by what its rows show.

frequency   given, or found from the distances of the rows (jobs.spacing)
zone        given, or that of the times, unless more rows are on the grid in UTC
phase       given, or what nearly all rows have (pipeline.grid.phase)

A frequency whose steps the rows do not have gives way to one of the same length that they do have, which is said:
days at the end of each month under MS are ME.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import tzinfo

import numpy as np

from jobs.frames.sample import Sample, draw
from jobs.frames.spacing import find_frequency, search
from pipeline.errors import ConfigError
from pipeline.grid.frequency import Frequency
from pipeline.grid.phase import AGREEING, find_phase
from pipeline.grid.zones import UTC, find_zone
from pipeline.records import Ints
from pipeline.settings.values import parse_phase

SAME_LENGTH = 0.1
"""Steps differ in length by no more than this share: months of first days, of last days, of business days."""
CLOCKS = (
    *("Europe/Berlin", "Europe/London", "Europe/Athens", "America/New_York", "America/Chicago", "America/Denver"),
    *("America/Los_Angeles", "America/Halifax", "America/St_Johns", "America/Santiago", "Australia/Sydney"),
    *("Australia/Adelaide", "Pacific/Auckland", "Asia/Jerusalem", "Asia/Beirut", "Africa/Cairo"),
)
"""Zones that set their clocks, each for those that set them alike."""
FEW = 0.05
"""A share of rows between two steps that needs no words."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants of a grid: pandas' frequency, an IANA zone, seconds; None for what the rows show."""

    frequency: str | None = None
    timezone: str | None = None
    phase: float | None = None


def wish_for(frequency: object, timezone: object, phase: object) -> Wish:
    """Read the arguments of a forecaster; ConfigError for what cannot be a part of a grid."""
    if not isinstance(timezone, str | None):
        raise ConfigError(f"Forecaster: timezone {timezone!r} is not the name of a time zone, such as 'Europe/Berlin'")
    try:
        wish = Wish(None if frequency is None else str(frequency), timezone, parse_phase(phase))
    except ValueError as error:
        raise ConfigError(f"Forecaster: phase {error}") from error
    if wish.frequency is not None:
        Frequency(wish.frequency, wish.timezone or UTC, wish.phase or 0)
    elif wish.timezone is not None:
        find_zone(wish.timezone)
    return wish


def choose_grid(
    wish: Wish, names: Sequence[str], row: Ints, times: Ints, zone: tzinfo | None
) -> tuple[Frequency, list[str]]:
    """Choose the grid of rows at `times` (N,) of series `row` (N,), written in `zone`, and say what is not obvious."""
    text = wish.frequency or find_frequency(names, row, times, zone).text
    sample = draw(row, times, zone)
    if sample is None:  # no series has two rows
        return Frequency(text, wish.timezone or UTC, wish.phase or 0), []
    named = name_zone(zone)
    zones = [wish.timezone] if wish.timezone else list(dict.fromkeys([named or UTC, UTC]))
    grid, share = _best(_lay(text, each, wish.phase, sample) for each in zones)
    if share < AGREEING and wish.frequency is not None:
        other = search(sample)
        if other and abs(Frequency(other.text).seconds / grid.seconds - 1) <= SAME_LENGTH:
            better, fits = _best(_lay(other.text, each, wish.phase, sample) for each in zones)
            if fits >= AGREEING:
                return better, [f"rows are not on {text}, but on {better.words}: that is the grid"]
    return grid, [] if share >= AGREEING or wish.timezone else _suggest_zone(text, wish.phase, sample)


def say_off_grid(grid: Frequency, times: Ints) -> list[str]:
    """Say how many rows are between two steps, if they are not few."""
    off = int(np.count_nonzero(~grid.on_grid(times)))
    if off <= FEW * len(times):
        return []
    return [f"{off:,} of {len(times):,} rows are between two steps of {grid.words}, and count for the one before"]


def name_zone(zone: tzinfo | None) -> str | None:
    """Return the IANA name of a zone, whatever library it is of; None for a fixed offset."""
    name = getattr(zone, "key", None) or getattr(zone, "zone", None) or (zone and zone.tzname(None))
    try:
        return None if name is None else find_zone(str(name)).name
    except ConfigError:
        return None


def _suggest_zone(text: str, phase: float | None, sample: Sample) -> list[str]:
    """Name a zone whose steps the rows have: local midnights that were written in UTC or with their offsets."""
    fitting = [grid for grid, share in (_lay(text, zone, phase, sample) for zone in CLOCKS) if share >= AGREEING]
    if not fitting:
        return []
    grid = min(fitting, key=lambda one: one.phase > 0)
    return [f"rows are steps of {grid.words}, or of another zone with the same clocks: give timezone={grid.timezone!r}"]


def _best(laid: Iterable[tuple[Frequency, float]]) -> tuple[Frequency, float]:
    """Take the first grid that nearly all rows are on, else the one that most are on."""
    found = []
    for grid, share in laid:
        if share >= AGREEING:
            return grid, share
        found.append((grid, share))
    return max(found, key=lambda one: one[1])


def _lay(text: str, zone: str, phase: float | None, sample: Sample) -> tuple[Frequency, float]:
    """Make a grid, and tell which share of the rows it has."""
    grid = Frequency(text, zone)
    held = grid.holds(sample.times)
    seconds = (find_phase(sample.times[held], sample.row[held], grid) or 0) if phase is None and held.any() else phase
    grid = Frequency(text, zone, seconds or 0)
    held = grid.holds(sample.times)
    return grid, float(grid.on_grid(sample.times[held]).sum() / len(sample.times))
