"""Bytes <-> records for every topic. Decoding is total: every message becomes an event or a dead letter, or is skipped.

A poll's messages are decoded in one call as lines of JSON, if their text proves that this reads each by itself: see
`Reader._together`. Otherwise they are decoded one by one, and only the bad ones become dead letters.
"""

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, Literal

import msgspec
import numpy as np

from models.config import QUANTILE_LEVELS
from pipeline.errors import ConfigError
from pipeline.grid.frequency import Frequency
from pipeline.grid.times import OUTSIDE, number_reader, read_text, read_written
from pipeline.messages.decoder import Decoder
from pipeline.messages.fused import Lines, flat_decoder, nested_lines
from pipeline.messages.letters import make_letter
from pipeline.messages.mapped import MappedReader
from pipeline.messages.timely import find_untimely
from pipeline.messages.unreadable import (
    LARGEST,
    NAME_BYTES,
    Fault,
    Fields,
    explain,
    find_no_value,
    is_name,
    misnamed,
    outside,
)
from pipeline.records import DeadLetter, Events, Floats, Forecasts, Ints, Kind, Messages
from pipeline.settings import InputSettings
from pipeline.visible import shown

FITS = 1_000_000  # bytes of a message; brokers take 1,048,588 unless told otherwise
STUB_REASON = 1_000  # bytes of a reason in the stub of a letter
NUMBER = 26  # bytes of a quantile in JSON at most, with its comma and its share of the brackets
SKIPPED = Fault(Kind.NULL, "")  # in place of a fault: neither an event nor a dead letter


class Reader:
    """Reads input messages by the settings, on a grid; `topic` is the one that they are from.

    Flat and nested events are decoded right into their parts. What cannot be, or is none, is read by a MappedReader,
    and what is no JSON by its `decoder`.
    """

    def __init__(
        self, settings: InputSettings, frequency: Frequency, topic: str = "", decoder: Decoder | None = None
    ) -> None:
        self._settings = settings
        self._frequency = frequency
        self._rule = settings.time_rule()
        self._number = number_reader(self._rule)
        covariates = [f"covariate_{i}" for i in range(len(settings.covariates))]
        self._covariates_of = attrgetter(*covariates) if covariates else None
        self._one = flat_decoder(settings) if settings.may_be_flat else None
        nested = nested_lines(settings) if settings.may_be_flat else None
        self._decoders: list[Lines] = [self._one.decode_lines] if self._one else []
        self._decoders += [nested] if nested else []
        self._mapped = None if settings.flat else MappedReader(settings, frequency, topic, decoder)
        self._fields = Fields(settings.series_id, settings.timestamp, settings.value, settings.covariates)

    @property
    def many(self) -> bool:
        """Whether a message may have several readings."""
        return self._settings.many

    def read(self, messages: Messages, now: int) -> tuple[Events, tuple[DeadLetter, ...]]:
        """Decode messages; `now` (microseconds) bounds how far in the future an event may lie.

        Raises nothing but what a decoder's preparation raises: Unavailable and ConfigError.
        """
        if messages.unreadable:
            decoded: list[Any] | None = [Fault(Kind.BATCH, messages.unreadable)]
        else:
            decoded = self._together(messages.values) if self._decoders else None
        if decoded is None and self._mapped:
            return self._mapped.read(messages, self._latest(now))
        if decoded is None:
            decoded = [self._alone(value) for value in messages.values]
        count = len(decoded)
        faults: list[Fault | None] = [None] * count
        names: list[str] = [""] * count
        times = np.full(count, OUTSIDE, np.int64)
        values = np.zeros(count)
        observed = np.zeros(count, np.bool_)
        limit, number, text = NAME_BYTES, self._number, read_text
        for i, event in enumerate(decoded):
            if isinstance(event, Fault):
                faults[i] = event
                continue
            name, time, value = event.series, event.time, event.value
            if not 0 < len(name) <= limit or not (name.isascii() or is_name(name)) or "\0" in name:
                faults[i] = misnamed(shown(self._settings.series_id), name)
                continue
            names[i] = name
            times[i] = text(time) if type(time) is str else number(time)
            if value is not None:
                if not -LARGEST <= value <= LARGEST:
                    faults[i] = outside(shown(self._settings.value), value)
                values[i], observed[i] = value, True
        covariates = self._covariates(decoded, faults)
        self._check_times(decoded, times, self._latest(now), faults)
        good = np.flatnonzero([fault is None for fault in faults])
        events = Events(
            partition=np.full(len(good), messages.partition, np.int64),
            series=names if len(good) == count else [names[i] for i in good],
            event_time=times[good],
            value=values[good],
            observed=observed[good],
            offset=messages.offsets[good],
            covariates=covariates[good],
        )
        return events, tuple(
            make_letter(messages, i, fault.reason, fault.kind)
            for i, fault in enumerate(faults)
            if fault is not None and fault is not SKIPPED
        )

    def _together(self, values: Sequence[bytes | None]) -> list[Any] | None:
        """Decode all messages at once, or return None: what becomes of a message may not depend on its neighbours.

        Every line break stands between two messages and has } before it and { behind it. JSON allows that nowhere but
        between two whole values, a string least of all. So each message holds one value or more, and when there are as
        many values as messages, each holds exactly one.
        """
        limit = self._settings.max_message_bytes
        if None in values or max(map(len, values), default=0) > limit:  # type: ignore[arg-type]
            return None
        lines = b"\n".join(values)  # type: ignore[arg-type]
        if lines[:1] != b"{" or lines[-1:] != b"}":
            return None
        if not lines.count(b"}\n{") == lines.count(b"\n") == len(values) - 1:
            return None
        for decode in self._decoders:
            try:
                decoded = decode(lines)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                continue
            if decoded is not None and len(decoded) == len(values):
                return decoded
        return None

    def _alone(self, value: bytes | None) -> Any:
        if value is None and self._settings.tombstones == "skip":
            return SKIPPED
        fault = find_no_value(value, self._settings.max_message_bytes)
        if fault is not None or not value:
            return fault
        assert self._one is not None, "without it there is a mapping"
        try:
            return self._one.decode(value)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            return explain(value, self._fields, str(error))

    def _covariates(self, decoded: Sequence[Any], faults: list[Fault | None]) -> Floats:
        """Collect the covariates (N, P) of decoded events, NaN where missing."""
        names = self._settings.covariates
        if self._covariates_of is None:
            return np.empty((len(decoded), 0))
        missing = (None,) * len(names) if len(names) > 1 else None
        cells = [missing if isinstance(event, Fault) else self._covariates_of(event) for event in decoded]
        numbers = np.array(cells, np.float64).reshape(len(decoded), len(names)) + 0.0  # SQLite keeps no -0.0
        for i, column in np.argwhere(np.abs(numbers) > LARGEST).tolist():
            if faults[i] is None:
                faults[i] = outside(shown(names[column]), float(numbers[i, column]))
        return numbers

    def _check_times(self, decoded: Sequence[Any], times: Ints, latest: int, faults: list[Fault | None]) -> None:
        """Read numbers in quotes, and say what is wrong with what is no time on the grid."""
        rule = self._rule
        for i in np.flatnonzero(times == OUTSIDE).tolist():
            if faults[i] is None and isinstance(decoded[i].time, str):
                times[i] = read_written(decoded[i].time, rule)

        def sent(i: int) -> Any:
            return decoded[i].time if faults[i] is None else None

        field = shown(self._settings.timestamp)
        for i, fault in find_untimely(times, sent, field, self._frequency, rule, latest):
            faults[i] = fault

    def _latest(self, now: int) -> int:
        """Return the latest event time that is believed at a time, both in microseconds."""
        return now + int(self._settings.future_skew(self._frequency.seconds) * 1_000_000)


def write_forecasts(
    forecasts: Forecasts, topic: str, frequency: str, timezone: str = "UTC"
) -> list[tuple[int, bytes, bytes, list[Any]]]:
    """Encode one message per forecast: (input partition, key, value, headers). The same forecast, the same bytes."""
    encode = msgspec.json.Encoder().encode
    origins, issued = iso(forecasts.origin, "s"), iso(forecasts.issued_at, "us")
    zone = {} if timezone == "UTC" else {"timezone": timezone}
    messages = []
    for i, name in enumerate(forecasts.series):
        partition, offset = int(forecasts.partition[i]), int(forecasts.offset[i])
        version = int(forecasts.model_version[i])
        value = encode(
            {
                "series_id": name,
                "origin": origins[i],
                "frequency": frequency,
                **zone,
                "steps": forecasts.horizon,
                "quantile_levels": QUANTILE_LEVELS,
                "quantiles": forecasts.quantiles[i].tolist(),
                "model_version": version,
                "issued_at": issued[i],
                "quality": forecasts.quality[i],
                "calibration": int(forecasts.calibration[i]),
            }
        )
        headers = [
            ("forecast_id", f"{name}@{origins[i]}#{version}".encode()),
            ("source", f"{topic}/{partition}/{offset}".encode()),
        ]
        messages.append((partition, name.encode(), value, headers))
    return messages


def forecast_id(forecasts: Forecasts, i: int) -> str:
    """Return what names the i-th forecast, everywhere and for ever."""
    origin = iso(forecasts.origin[i : i + 1], "s")[0]
    return f"{forecasts.series[i]}@{origin}#{int(forecasts.model_version[i])}"


def check_horizon(horizon: int, fits: int = FITS) -> None:
    """Refuse, as a ConfigError, a horizon whose message could be larger than the `fits` bytes that a topic takes."""
    most = max(0, (fits - 2_000) // (len(QUANTILE_LEVELS) * NUMBER))
    if horizon > most:
        advice = "" if fits >= FITS else "; or give the output topic a larger max.message.bytes"
        raise ConfigError(f"series.horizon {horizon} does not fit into one message; at most {most} steps do{advice}")


def write_dead_letter(
    letter: DeadLetter, topic: str, fits: int = FITS, *, keyed: bool = False
) -> tuple[int, bytes | None, bytes | None, list[Any]]:
    """Encode a dead letter: the raw key and value, with the reason and the source as headers.

    A compressed batch can bring a message that is larger than the `fits` bytes that the topic takes. Its value is then
    left to SQL, and the header `left-in-sql` gives its size in bytes; likewise when its topic has refused it, which
    `left-because` says. With `keyed`, one without a key gets its source as key. Neither key nor value: the value is
    empty, and the header `null-value` says so, since no client sends nothing at all.
    """
    source = f"{topic}/{letter.partition}/{letter.offset}".encode()
    reason = letter.reason.encode(errors="replace")
    key, value = source if keyed and letter.key is None else letter.key, letter.value
    headers = [("reason", reason), ("source", source)]
    size = len(letter.key or b"") + len(value or b"")
    left = [("reason", reason[:STUB_REASON]), ("source", source), ("left-in-sql", str(size).encode())]
    if letter.left_because is not None:
        why = letter.left_because.encode(errors="replace")[:STUB_REASON]
        return letter.partition, source, b"", [*left, ("left-because", why)]
    if len(key or b"") + len(value or b"") + sum(len(text) for _, text in headers) > fits:
        return letter.partition, source if keyed else None, b"", left
    if key is None and value is None:
        return letter.partition, None, b"", [*headers, ("null-value", b"true")]
    return letter.partition, key, value, headers


def iso(times: Ints, unit: Literal["s", "us"]) -> list[str]:
    """Write times as ISO 8601 in UTC, to the second or the microsecond."""
    return [str(text) for text in np.datetime_as_string(times.astype("datetime64[us]"), unit=unit, timezone="UTC")]
