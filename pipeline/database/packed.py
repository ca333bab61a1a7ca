"""A forecast as the row that it is in SQL, in both directions; pipeline.quantiles packs its numbers."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Table, func, select

from models.config import QUANTILE_LEVELS
from pipeline.database.schema.instants import LAST
from pipeline.database.schema.pipelines import MAIN
from pipeline.database.schema.tables import BASELINE, END_BYTES, horizon_steps, models, pipelines
from pipeline.errors import Corrupt
from pipeline.quantiles import pack, pack_integers, unpack, unpack_integers
from pipeline.records import Floats, Forecasts, Ints

SECOND = 1_000_000
_NUMBERS = ("steps", "step_seconds", "step_ends", "base", "scale", "width", "quantiles")


@dataclass(frozen=True, slots=True)
class PackedForecasts:
    """Forecasts that differ in nothing that makes a row longer or shorter."""

    forecasts: Forecasts  # (N,)
    base: Ints  # (N,)
    scale: Floats  # (N,)
    width: int
    quantiles: NDArray[np.uint8]  # (N, H * Q * width)
    step_seconds: Ints | None  # (N,) where all steps are of one length, else
    step_ends: NDArray[np.uint8] | None  # (N, H * END_BYTES)


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps of forecasts of one horizon, which were at `places` among the rows that were read."""

    places: Ints  # (N,)
    target_times: Ints  # (N, H)
    quantiles: Floats  # (N, H, Q)


def pack_forecasts(new: Forecasts) -> Iterator[PackedForecasts]:
    """Pack forecasts, group by group; Corrupt for a target time that is not whole seconds after the origin."""
    ends, parts = np.divmod(new.target_times - new.origin[:, None], SECOND)  # (N, H)
    if parts.any() or (ends < 0).any() or (ends >= 100**END_BYTES).any():
        raise Corrupt("a target time that is not whole seconds after its origin reached the store")
    length = ends[:, 0] if new.horizon else np.zeros(len(new), np.int64)  # (N,)
    even = (ends == length[:, None] * np.arange(1, new.horizon + 1)).all(axis=1)  # (N,)
    for packed in pack(new.quantiles):
        for alike in (True, False):
            chosen = np.flatnonzero(even[packed.rows] == alike)
            if len(chosen):
                rows = packed.rows[chosen]
                uneven = None if alike else pack_integers(ends[rows], END_BYTES).reshape(len(rows), -1)
                yield PackedForecasts(
                    new.take(rows),
                    packed.base[chosen],
                    packed.scale[chosen],
                    packed.width,
                    packed.digits[chosen],
                    length[rows] if alike else None,
                    uneven,
                )


def packed_columns_of(table: Table) -> list[Any]:
    """List the columns that `unpack_steps` needs, beside the origin."""
    return [table.c[name] for name in _NUMBERS]


def unpack_steps(origin: Ints, rows: Sequence[Any]) -> Iterator[Steps]:
    """Return the steps of forecasts, those of one layout together; `rows` have the columns of `packed_columns_of`.

    `origin` (N,) in microseconds UTC.
    """
    alike: dict[tuple[int, int, bool], list[int]] = {}
    for place, row in enumerate(rows):
        alike.setdefault((row.steps, row.width, row.step_seconds is None), []).append(place)
    for (horizon, width, uneven), chosen in alike.items():
        some = [rows[place] for place in chosen]
        base = np.array([row.base for row in some], np.int64)
        scale = np.array([row.scale for row in some], np.float64)
        shape = len(some), horizon, len(QUANTILE_LEVELS)
        quantiles = unpack(b"".join(row.quantiles for row in some), shape, width, base, scale)
        if uneven:
            ends = unpack_integers(b"".join(row.step_ends for row in some), END_BYTES).reshape(len(some), horizon)
        else:
            length = np.array([row.step_seconds for row in some], np.int64)
            ends = length[:, None] * np.arange(1, horizon + 1)
        places = np.array(chosen, np.int64)
        yield Steps(places, origin[places, None] + ends * SECOND, quantiles)


def longest_reach(connection: Connection) -> int:
    """Return how far after its origin a forecast's last target may lie, in microseconds, rather too much.

    It is the longest horizon that was ever stored, in steps of the grid. Some of those are longer than others: months,
    weekends, days of 25 hours; those of a fixed number of seconds are not.
    """
    steps = select(func.max(horizon_steps.c.step)).scalar_subquery()
    grid = select(pipelines.c.frequency).where(pipelines.c.name == MAIN).scalar_subquery()
    query = select(steps, models.c.step_seconds, grid).where(models.c.version == BASELINE)
    longest, seconds, frequency = connection.execute(query).one()
    if not longest:
        return 0
    if fixed := re.fullmatch(r"(\d+)s", frequency or ""):  # as Frequency.canonical spells it
        return int(longest) * int(fixed[1]) * SECOND
    return LAST if seconds is None else round((1.1 * longest * seconds + 10 * 86_400) * SECOND)


def last_target(row: Any) -> int:
    """Return the time of a forecast's last step; `row` has origin, steps, step_seconds and step_ends."""
    if row.step_seconds is not None:
        return int(row.origin + row.steps * row.step_seconds * SECOND)
    return int(row.origin + unpack_integers(row.step_ends[-END_BYTES:], END_BYTES)[0] * SECOND)
