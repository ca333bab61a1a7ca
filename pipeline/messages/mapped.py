"""Messages that are not one flat event each, as columns: decode, map, and judge the times.

Slower than the decoding of flat events, about a microsecond a field, and the same rules.
"""

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import numpy as np

from pipeline.grid.frequency import Frequency
from pipeline.grid.times import EPOCH, LAST_TIME
from pipeline.messages.decoder import Decoder, JsonDecoder
from pipeline.messages.letters import make_letter
from pipeline.messages.lookup import Moment, Record
from pipeline.messages.mapping import Mapping, Row
from pipeline.messages.timely import find_untimely
from pipeline.messages.unreadable import Fault, find_no_value
from pipeline.records import DeadLetter, Events, Kind, Messages
from pipeline.settings import InputSettings
from pipeline.visible import shown


class MappedReader:
    """Reads messages by the mapping of the settings, on a grid; `topic` is where they are from.

    Without a decoder they are JSON.
    """

    def __init__(
        self, settings: InputSettings, frequency: Frequency, topic: str, decoder: Decoder | None = None
    ) -> None:
        self._settings, self._frequency, self._topic = settings, frequency, topic
        self._mapping = Mapping(settings)
        self._decoder = decoder or JsonDecoder(lenient=settings.lenient)
        self._rule = settings.time_rule()

    def read(self, messages: Messages, latest: int) -> tuple[Events, tuple[DeadLetter, ...]]:
        """Read messages that have bytes; an event after `latest` (microseconds) is too far in the future.

        Raises what the decoder's preparation raises, and nothing else.
        """
        self._decoder.prepare(messages)
        rows: list[Row] = []
        faults: dict[int, Fault] = {}
        with without_collection():
            for i, value in enumerate(messages.values):
                fault = self._read_one(messages, i, value, rows)
                if fault is not None:
                    faults[i] = fault
        owners, series, read, said, values, covariates, scopes = zip(*rows, strict=True) if rows else ((),) * 7
        times = np.array(read, np.int64)
        field = shown(self._settings.timestamp)

        def sent(row: int) -> Any:
            return None if owners[row] in faults else _as_sent(said[row], read[row])

        for row, fault in find_untimely(times, sent, field, self._frequency, self._rule, latest):
            faults[owners[row]] = self._mapping.locate(scopes[row], fault)
        owner = np.array(owners, np.int64)
        good = ~np.isin(owner, list(faults)) if faults else np.ones(len(rows), np.bool_)
        kept = np.flatnonzero(good)
        observed = np.array([value is not None for value in values], np.bool_)
        events = Events(
            partition=np.full(len(kept), messages.partition, np.int64),
            series=list(series) if len(kept) == len(rows) else [series[i] for i in kept.tolist()],
            event_time=times[good],
            value=np.array([0.0 if value is None else value for value in values], np.float64)[good],
            observed=observed[good],
            offset=messages.offsets[owner[good]],
            covariates=_numbers(covariates, len(self._settings.covariates))[good],
        )
        letters = (make_letter(messages, i, fault.reason, fault.kind) for i, fault in sorted(faults.items()))
        return events, tuple(letters)

    def _read_one(self, messages: Messages, i: int, value: bytes | None, rows: list[Row]) -> Fault | None:
        if value is None and self._settings.tombstones == "skip":
            return None
        fault = find_no_value(value, self._settings.max_message_bytes)
        if fault is not None or not value:
            return fault
        record = Record(messages, i, self._topic, wrapped=self._settings.envelope != "none")
        found = self._decoder.decode(value, record)
        if isinstance(found, Fault):
            return found
        try:
            return self._mapping.read(found, record, i, rows)
        except RecursionError:
            return Fault(Kind.EVENT, "not an event: nested too deeply")


@contextmanager
def without_collection() -> Iterator[None]:
    """Keep the garbage collector from running: what is made here refers to nothing in circles.

    It would go over all objects of the process again and again, as soon as so many more have been made.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _numbers(cells: Sequence[tuple[float | None, ...]], width: int) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """Make columns (N, P) of numbers, NaN where one is missing; SQLite keeps no -0.0."""
    return np.array(cells, np.float64).reshape(len(cells), width) + 0.0


def _as_sent(sent: Any, time: int) -> Any:
    """Return a time as a reason shows it: what was computed or has no unit in ISO 8601."""
    if sent is not None and type(sent) is not Moment:
        return sent
    known = time if sent is None else int(sent)
    return f"{EPOCH + timedelta(microseconds=known):%Y-%m-%dT%H:%M:%SZ}" if 0 <= known < LAST_TIME else known
