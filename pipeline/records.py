"""The facts that move through tidecast, frozen, as columns.

Times are int64 microseconds since 1970 in UTC. "Observed" is a mask: where it is False the value is 0.0 and means
nothing, so a NaN never travels. Covariates are the exception: P columns side by side, NaN where missing, until they
are merged or become windows.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.config import QUANTILE_LEVELS
from pipeline.columns import take

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Quality = Literal["ok", "fallback", "degraded"]
NOTHING = np.iinfo(np.int64).min
DEAD_LETTER = "dead letter"
"""What a `Left` calls a dead letter."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a message has beside its key and value: when its record was written (microseconds), and its headers."""

    written_at: int | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()


def no_envelope(_: int) -> Envelope:
    """Know neither the time nor the headers of a message."""
    return Envelope()


@dataclass(frozen=True, slots=True)
class Messages:
    """A run of raw messages of one partition, in offset order.

    `next_offset` is what to commit once they are stored and published. `unreadable` is set when the broker's batch
    could not be read: then there is one message, which holds the batch's bytes. `requeued` are the offsets of those
    that `tidecast dead-letters requeue` sent. `envelope(i)` is read when it is needed, which few messages need.
    """

    partition: int
    offsets: Ints  # (N,)
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    next_offset: int
    unreadable: str | None = None
    requeued: frozenset[int] = frozenset()
    envelope: Callable[[int], Envelope] = no_envelope

    def cut(self, start: int, stop: int) -> "Messages":
        """Return the messages [start, stop), of which there are some."""
        whole = stop == len(self.offsets)
        return replace(
            self,
            offsets=self.offsets[start:stop],
            keys=self.keys[start:stop],
            values=self.values[start:stop],
            next_offset=self.next_offset if whole else int(self.offsets[stop - 1]) + 1,
            envelope=lambda i: self.envelope(start + i),
        )

    @property
    def tombstones(self) -> int:
        """Count the messages without a value, with which Kafka says that a key is deleted."""
        return 0 if self.unreadable else sum(value is None for value in self.values)


@dataclass(frozen=True, slots=True)
class Events:
    """Decoded events, not yet on the grid: of one partition in offset order, or of several, interleaved.

    Those of one message have its offset, in the order in which it has them.
    """

    partition: Ints  # (N,)
    series: Sequence[str]
    event_time: Ints  # (N,) microseconds
    value: Floats  # (N,) in the series' units
    observed: Mask  # (N,) False for an explicit null
    offset: Ints  # (N,)
    covariates: Floats  # (N, P) NaN where missing

    def __len__(self) -> int:
        """Count the events."""
        return len(self.offset)

    @property
    def messages(self) -> int:
        """Count the messages of one partition that the events are of."""
        return int(np.count_nonzero(np.diff(self.offset))) + bool(len(self))


class Kind(StrEnum):
    """What is wrong with a message, in a few classes: what a metric may have as a label, whatever messages hold."""

    BATCH = "batch"  # the broker's batch cannot be read
    EMPTY = "empty"  # a value of no bytes
    NULL = "null"  # no value
    ENCODING = "encoding"  # not plain text in UTF-8: compressed, Avro, UTF-16
    EVENT = "event"  # not a JSON object
    FIELD = "field"  # a field is missing, or of another type
    SIZE = "size"
    NAME = "name"
    NUMBER = "number"  # not finite, or not within +-1e18
    NEW_SERIES = "new series"
    FUTURE = "future"
    TIME = "time"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An input message that could not become an observation, with the reason and its raw bytes.

    `kind` is set where the letter arises; SQL does not keep it. `written_at` is the record's time in microseconds; it
    and the headers are empty where they are not known. `left_because` is why its topic refused it, after which only a
    stub of it is published.
    """

    partition: int
    offset: int
    reason: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    written_at: int | None = None
    left_because: str | None = None
    kind: Kind = field(default=Kind.OTHER, compare=False)


@dataclass(frozen=True, slots=True)
class Left:
    """A message that its topic or the client library refused, so that it is in SQL only.

    `message` is "dead letter" or the forecast_id, `index` its place among the dead letters or forecasts that were to
    be published. `stub`: what was refused was already the stub of a letter.
    """

    partition: int
    offset: int
    message: str
    topic: str
    index: int
    reason: str = ""
    stub: bool = False


@dataclass(frozen=True, slots=True)
class Observations:
    """What one turn changes in the observations table; at most one row per key (series_id, observed_at).

    `value`, `observed` and `events` are the turn's own events merged by the duplicates policy; the store combines
    them with the row that is already there by the same policy, and each covariate likewise. `fresh` marks rows known
    to be new in the table.
    """

    series_id: Ints  # (N,)
    observed_at: Ints  # (N,) grid time, microseconds
    value: Floats  # (N,)
    observed: Mask  # (N,)
    events: Ints  # (N,) events with a value that were merged into the row
    partition: Ints  # (N,)
    offset: Ints  # (N,) of the newest event in the row
    fresh: Mask  # (N,)
    covariates: Floats  # (N, P) NaN where missing
    covariate_events: Ints  # (N, P) events with this covariate that were merged into the row

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.series_id)


@dataclass(frozen=True, slots=True)
class Forecasts:
    """Forecasts of one frequency and horizon; key (series_id, origin, model_version).

    `quantiles` (N, H, Q) are in the target's units at QUANTILE_LEVELS, rounded by `quantiles.shorten`, so the table,
    the message and a message published again from the table hold the same numbers.
    """

    series: Sequence[str]  # (N,)
    series_id: Ints  # (N,)
    origin: Ints  # (N,) event time of the last observation used
    target_times: Ints  # (N, H)
    quantiles: Floats  # (N, H, Q)
    model_version: Ints  # (N,)
    calibration: Ints  # (N,) version of the correction in the quantiles, 0 for none
    quality: Sequence[Quality]  # (N,)
    issued_at: Ints  # (N,) processing time
    partition: Ints  # (N,) of the event that made the forecast due
    offset: Ints  # (N,) likewise; -n where no event did: of the partition's n-th re-forecast

    def __len__(self) -> int:
        """Count the forecasts (not their steps)."""
        return len(self.series_id)

    @property
    def horizon(self) -> int:
        """H, the number of steps of each forecast."""
        return int(self.target_times.shape[1])

    def take(self, rows: NDArray[np.int64] | Mask) -> "Forecasts":
        """Select forecasts by index or mask, in the order given."""
        return take(self, rows)


@dataclass(frozen=True, slots=True)
class Claim:
    """A partition that this worker owns: its fencing epoch and the next offset to store.

    `turn_start` is where the newest turn that is stored began: below it everything is published. `met` says that a
    worker of a release that marks its commits has claimed the partition before. `reforecasts` counts the turns stored
    here that no event made due; their rows have its negative as offset.
    """

    partition: int
    epoch: int
    next_offset: int
    reforecasts: int = 0
    turn_start: int = field(default=0, compare=False)
    met: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Committed:
    """The group's next offset of a partition; `marked` if a worker committed it, and not some other tool.

    `reforecasts` is how many of the partition's re-forecasts were published by then; None where nothing says so.
    """

    offset: int
    marked: bool = True
    reforecasts: int | None = None


@dataclass(frozen=True, slots=True)
class Advance:
    """One partition's move in a turn: [start, next_offset) becomes stored, if `epoch` still holds.

    `off_grid` of its events lie between two steps of the grid. `reforecasts` is the partition's new count of
    re-forecasts, None where it stays.
    """

    partition: int
    epoch: int
    start: int
    next_offset: int
    off_grid: int = 0
    reforecasts: int | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """What every worker of an input topic must know before a turn.

    `stored` is the next offset of each partition. `spreads` grows when a series is found in several partitions, and
    `repairs` when somebody changes readings by hand.
    """

    stored: Mapping[int, int]
    spreads: int = 0
    repairs: int = 0


@dataclass(frozen=True, slots=True)
class Turn:
    """Everything that one turn stores in one SQL transaction and publishes in one Kafka transaction.

    `shadow` holds the forecasts of the shadow, if there is one: they are stored and never published. `standing` is what
    the turn knew when it began, and `own` are the series whose windows it took to be of one partition alone: it may not
    be stored if that has changed since.
    """

    advances: tuple[Advance, ...]
    observations: Observations
    forecasts: Forecasts
    dead_letters: tuple[DeadLetter, ...]
    shadow: Forecasts | None = None
    standing: Standing | None = None
    own: Ints = field(default_factory=lambda: np.empty(0, np.int64))


@dataclass(frozen=True, slots=True)
class History:
    """The newest observations of some series, series by series, oldest first.

    Row r's observations are the slice bounds[r]:bounds[r + 1] of the columns.
    """

    series_id: Ints  # (S,)
    bounds: Ints  # (S + 1,)
    observed_at: Ints  # (N,)
    value: Floats  # (N,)
    observed: Mask  # (N,)
    events: Ints  # (N,)
    covariates: Floats  # (N, P), NaN where missing


@dataclass(frozen=True, slots=True)
class RecentHistory(History):
    """A History that a ring can go on from: it also knows the events behind each covariate.

    `beyond` are the first and the newest time that SQL holds of a series after the time that the history was read up
    to; NOTHING for none.
    """

    covariate_events: Ints  # (N, P)
    beyond: Ints  # (S, 2)


def no_observations(covariates: int = 0) -> Observations:
    """Make an empty Observations with P covariates."""
    none = np.empty(0, np.int64)
    empty = np.empty(0, np.bool_)
    return Observations(
        series_id=none,
        observed_at=none,
        value=np.empty(0),
        observed=empty,
        events=none,
        partition=none,
        offset=none,
        fresh=empty,
        covariates=np.empty((0, covariates)),
        covariate_events=np.empty((0, covariates), np.int64),
    )


def no_forecasts(horizon: int) -> Forecasts:
    """Make an empty Forecasts of a horizon."""
    none = np.empty(0, np.int64)
    return Forecasts(
        series=[],
        series_id=none,
        origin=none,
        target_times=np.empty((0, horizon), np.int64),
        quantiles=np.empty((0, horizon, len(QUANTILE_LEVELS))),
        model_version=none,
        calibration=none,
        quality=[],
        issued_at=none,
        partition=none,
        offset=none,
    )


@dataclass(frozen=True, slots=True)
class Outdated:
    """Series whose newest origin the model in use has not forecast, of a stretch of all series that was looked at.

    `partition` is that of the origin's forecast. `spread` series have readings in several partitions. `reached` is the
    id up to which all series were looked at, None when there are no more.
    """

    partition: Ints  # (N,)
    series: Sequence[str]
    series_id: Ints  # (N,) ascending
    origin: Ints  # (N,) microseconds
    spread: Mask  # (N,)
    reached: int | None

    def __len__(self) -> int:
        """Count the series."""
        return len(self.series_id)


@dataclass(frozen=True, slots=True)
class Due:
    """Series that are due for a forecast, with their windows as they were at that moment.

    `target` (N, T) float64 is 0 where `observed` (N, T) is False, and the covariates `past` likewise; `origin` is a
    step; `partition` and `offset` are of the event that made the forecast due. `partial` marks windows with holes that
    messages may fill which are not read yet.
    """

    partition: Ints  # (N,)
    series: Sequence[str]
    series_id: Ints  # (N,)
    origin: Ints  # (N,)
    offset: Ints  # (N,)
    target: Floats  # (N, T)
    observed: Mask  # (N, T)
    past: Floats  # (N, T, P), 0 where not observed
    past_observed: Mask  # (N, T, P)
    partial: Mask  # (N,)

    def __len__(self) -> int:
        """Count the windows."""
        return len(self.series_id)
