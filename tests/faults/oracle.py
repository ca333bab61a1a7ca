"""What must come of an input, whatever happened meanwhile: read from the input topic alone, with code of its own.

    observations   the readings of each (series, step) merged by the policy, in the order of arrival
    forecast       seasonal naive over what was stored when it was made: S at that time bounds it from below, the
                   times of the messages from above, and between the two every prefix of a partition is possible
    dead letters   what cannot be read, once each; a message without a value is nowhere

Nothing of pipeline is used. Times are microseconds since 1970, steps are hours since the panel's start.
"""

import json
import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import product
from statistics import NormalDist

from tests.faults.panel import LEVELS, START, STEP
from tests.faults.shapes import Reading

MOST_WAYS = 64
"""Combinations of prefixes that are looked at for one step; beyond them the step is not judged."""
Value = float | None


@dataclass(frozen=True)
class Arrived:
    """A message of the input topic as a client reads it; `life` counts the topics of this name, the first is 0."""

    life: int
    partition: int
    offset: int
    at: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()

    @property
    def place(self) -> tuple[int, int, int]:
        return self.life, self.partition, self.offset


class RefusedError(Exception):
    """The message is no reading."""


def decode(value: bytes, limit: int, now: datetime) -> Reading:
    """Read a message of at most `limit` bytes by the words of docs/messages.md; raises RefusedError."""
    if not value or len(value) > limit:
        raise RefusedError(f"{len(value)} bytes")
    try:
        fields = json.loads(value.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise RefusedError(str(error)) from error
    if not isinstance(fields, dict):
        raise RefusedError("no object")
    name, stamp, number = (fields.get(key, RefusedError) for key in ("series_id", "timestamp", "value"))
    if not isinstance(name, str) or not 0 < len(name.encode(errors="replace")) <= 256 or "\0" in name:
        raise RefusedError("series_id")
    if number is not None and (isinstance(number, bool) or not isinstance(number, int | float) or abs(number) > 1e18):
        raise RefusedError("value")
    moment = _moment(stamp)
    if not datetime(1900, 1, 1, tzinfo=START.tzinfo) <= moment <= now + timedelta(hours=1):
        raise RefusedError("timestamp out of range")
    return Reading(name, (moment - START) // STEP, None if number is None else float(number))


def _no_constant(text: str) -> float:
    raise ValueError(text)


def _moment(stamp: object) -> datetime:
    try:
        if isinstance(stamp, str):
            moment = datetime.fromisoformat(stamp)
            if moment.tzinfo is None:
                raise RefusedError("timestamp without an offset")
            return moment.astimezone(START.tzinfo)
        if isinstance(stamp, int | float) and not isinstance(stamp, bool):
            readings = [stamp / unit for unit in (1, 10**3, 10**6, 10**9)]  # s, ms, us, ns: one is of 1980 to 2190
            return datetime(1970, 1, 1, tzinfo=START.tzinfo) + timedelta(
                seconds=next(at for at in readings if 315_532_800 <= at < 6_942_585_600)
            )
    except (ValueError, OverflowError, StopIteration) as error:
        raise RefusedError("timestamp") from error
    raise RefusedError("timestamp")


@dataclass(frozen=True)
class Stored:
    """A reading and its place in the order of arrival."""

    order: tuple[int, int, int, int]  # life, how often all had been stored before, partition, offset
    at: int
    reading: Reading

    @property
    def place(self) -> tuple[int, int, int]:
        return self.order[0], self.order[2], self.order[3]


@dataclass
class Sorted:
    """An input, sorted into what is stored, what is refused, and what is counted only."""

    readings: list[Stored] = field(default_factory=list)
    refused: dict[tuple[int, int, int], Arrived] = field(default_factory=dict)
    tombstones: list[Arrived] = field(default_factory=list)

    @property
    def slots(self) -> dict[str, dict[int, list[Stored]]]:
        """The readings by series and step, in the order of arrival."""
        found: dict[str, dict[int, list[Stored]]] = defaultdict(lambda: defaultdict(list))
        for each in sorted(self.readings, key=lambda stored: stored.order):
            found[each.reading.series][each.reading.t].append(each)
        return found


@dataclass(frozen=True)
class Barrier:
    """A moment at which all was stored: the end of each partition, and the limit (bytes) from then on."""

    life: int
    ends: Mapping[int, int]
    limit: int


def sort_out(arrived: Sequence[Arrived], barriers: Sequence[Barrier], now: datetime) -> Sorted:
    """Read every message under the limit that held when it was stored."""
    found = Sorted()
    for message in arrived:
        before = [
            barrier
            for barrier in barriers
            if barrier.life < message.life
            or (barrier.life == message.life and message.offset >= barrier.ends.get(message.partition, 0))
        ]
        if message.value is None:
            found.tombstones.append(message)
            continue
        try:
            reading = decode(message.value, before[-1].limit, now)
        except RefusedError:
            found.refused[message.place] = message
            continue
        order = (message.life, len(before), message.partition, message.offset)
        found.readings.append(Stored(order, message.at, reading))
    return found


def merge(policy: str, values: Sequence[Value]) -> Value:
    """Merge the values of one step by a duplicates policy; a null counts under "last" only."""
    seen = [value for value in values if value is not None]
    if policy == "last":
        return values[-1] if values else None
    if not seen:
        return None
    return {"max": max, "sum": math.fsum, "mean": lambda all_: math.fsum(all_) / len(all_)}[policy](seen)


@dataclass(frozen=True)
class Known:
    """What SQL held at a moment: S of each partition of a life."""

    at: int
    life: int
    stored: Mapping[int, int]


@dataclass
class Oracle:
    """Says what a window can have held. `known` are samples of S in the order of time."""

    readings: dict[str, dict[int, list[Stored]]]
    policy: str
    known: Sequence[Known]
    context: int
    season: int
    horizon: int

    def __post_init__(self) -> None:
        self._times = [sample.at for sample in self.known]

    def window(self, series: str, origin: int, source: tuple[int, int, int], issued_at: int) -> "Window":
        """Return the values that each step of a window can have had; `source` is what made the forecast due."""
        life, partition, offset = source
        index = bisect_right(self._times, issued_at) - 1
        sample = self.known[index] if index >= 0 else Known(0, 0, {})
        floor = dict(sample.stored) if sample.life == life else {}
        floor[partition] = max(floor.get(partition, 0), offset + 1)
        slots = self.readings[series]
        cells = [
            self._possible(slots.get(t, ()), life, floor, issued_at)
            for t in range(origin - self.context + 1, origin + 1)
        ]
        return Window(cells, self.season, self.horizon)

    def _possible(
        self, stored: Sequence[Stored], life: int, floor: Mapping[int, int], issued_at: int
    ) -> frozenset[Value] | None:
        """Return what a step can have been; None where there are too many ways."""
        sure: list[Stored] = []
        perhaps: dict[int, list[Stored]] = defaultdict(list)
        for each in stored:
            its_life, partition, offset = each.place
            if its_life < life or (its_life == life and offset < floor.get(partition, 0)):
                sure.append(each)
            elif its_life == life and each.at <= issued_at:
                perhaps[partition].append(each)
        if math.prod(len(some) + 1 for some in perhaps.values()) > MOST_WAYS:
            return None
        values = set()
        for lengths in product(*(range(len(some) + 1) for some in perhaps.values())):
            chosen = [each for some, length in zip(perhaps.values(), lengths, strict=True) for each in some[:length]]
            ordered = sorted(sure + chosen, key=lambda one: one.order)
            values.add(merge(self.policy, [one.reading.value for one in ordered]))
        return frozenset(values)


@dataclass(frozen=True)
class Window:
    """The values that each of T steps can have had, oldest first; None among them is "not observed"."""

    cells: Sequence[frozenset[Value] | None]
    season: int
    horizon: int

    @property
    def certain(self) -> bool:
        return all(cell is not None and len(cell) == 1 for cell in self.cells)

    def medians(self, h: int) -> frozenset[float] | None:
        """Return what the median of step `h`, 1 or more, can be; None if it cannot be judged."""
        found: set[float] = set()
        for index in (*self._phase(h), *range(len(self.cells) - 1, -1, -1)):
            cell = self.cells[index]
            if cell is None:
                return None
            found |= {value for value in cell if value is not None}
            if None not in cell:
                return frozenset(found)
        return frozenset(found | {0.0})

    def quantiles(self) -> list[list[float]]:
        """Return the forecast (H, Q) of a window that is certain."""
        values = [next(iter(cell)) for cell in self.cells if cell is not None]
        seasonal = self._changes(values, self.season)
        changes = seasonal or self._changes(values, 1)
        deviation = math.sqrt(math.pi / 2) * math.fsum(changes) / len(changes) if changes else 0.0
        seen = [value for value in values if value is not None]
        ends = seen.count(0.0) >= 2 or all(value == round(value) for value in seen)
        floor = 0.0 if ends and min(seen, default=0.0) >= 0.0 else -math.inf
        rows = []
        for h in range(1, self.horizon + 1):
            first = (h - 1) // self.season + 1
            back = [(walked, values[index]) for walked, index in enumerate(self._phase(h), start=first)]
            never = (first + math.ceil(len(values) / self.season), self._last(values))
            walked, median = next(((k, value) for k, value in back if value is not None), never)
            spread = deviation * math.sqrt(walked)
            rows.append([max(floor, (median or 0.0) + spread * NormalDist().inv_cdf(level)) for level in LEVELS])
        return rows

    def _phase(self, h: int) -> Iterator[int]:
        """Yield the steps of the window in the phase of step `h`, newest first."""
        first = (h - 1) // self.season + 1
        index = len(self.cells) - 1 + h - self.season * first
        while index >= 0:
            yield index
            index -= self.season

    @staticmethod
    def _changes(values: Sequence[Value], lag: int) -> list[float]:
        pairs = zip(values[lag:], values, strict=False)
        return [abs(after - before) for after, before in pairs if after is not None and before is not None]

    @staticmethod
    def _last(values: Sequence[Value]) -> Value:
        return next((value for value in reversed(values) if value is not None), None)
