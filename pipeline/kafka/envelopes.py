"""What a record has beside its key and value, read again from its batch's bytes when it is needed."""

from collections.abc import Sequence

from pipeline.messages.letters import REQUEUED
from pipeline.records import Envelope

LAST_MS = 253_402_300_799_999  # of year 9999, beyond which there is no time in SQL
_REQUEUED = REQUEUED.encode()
_Headers = tuple[tuple[str, bytes | None], ...]


def varint(buffer: bytes, at: int) -> tuple[int, int]:
    """Read a zigzag varint: its value and the place after it; one and two bytes are nearly all there are."""
    byte = buffer[at]
    if byte < 0x80:
        return (byte >> 1) ^ -(byte & 1), at + 1
    value, shift, at = byte & 0x7F, 7, at + 1
    while True:
        byte = buffer[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at
        shift += 7


def written_at(milliseconds: int | None) -> int | None:
    """Turn a record's time, epoch milliseconds, into microseconds; None if it has none, or one that is no time."""
    return milliseconds * 1000 if milliseconds is not None and 0 <= milliseconds <= LAST_MS else None


def says_requeued(buffer: bytes, at: int, end: int) -> bool:
    """Tell whether the headers from `at` to `end` have the one of a requeue."""
    if buffer.find(_REQUEUED, at, end) < 0:
        return False
    try:
        return has_requeued(read_headers(buffer, at, end))
    except (ValueError, IndexError):  # that they cannot be read is no reason to refuse the message
        return False


def has_requeued(headers: Sequence[tuple[str, bytes | None]]) -> bool:
    """Tell whether one of the headers is the one of a requeue."""
    return any(name == REQUEUED for name, _ in headers)


def read_headers(buffer: bytes, at: int, end: int) -> _Headers:
    """Read a record's headers; names that are not UTF-8 are escaped. ValueError or IndexError if they are none."""
    count, at = varint(buffer, at)
    headers: list[tuple[str, bytes | None]] = []
    for _ in range(count):
        size, at = varint(buffer, at)
        name = buffer[at : at + size].decode("utf-8", "backslashreplace")
        at += max(size, 0)
        size, at = varint(buffer, at)
        headers.append((name, None if size < 0 else buffer[at : at + size]))
        at += max(size, 0)
        if at > end:
            raise ValueError("a header is longer than its record")
    return tuple(headers)


class Envelopes:
    """The envelopes of the records of a batch with offsets of at least `start`, from their bytes [begin, end).

    `first` is the batch's first time; `fixed` the time of all its records where the broker gave it, otherwise None;
    both are epoch milliseconds.
    """

    __slots__ = ("_base", "_begin", "_buffer", "_end", "_first", "_fixed", "_places", "_start")

    def __init__(
        self, buffer: bytes, begin: int, end: int, base: int, start: int, first: int, fixed: int | None
    ) -> None:
        self._buffer, self._begin, self._end = buffer, begin, end
        self._base, self._start = base, start
        self._first, self._fixed = first, fixed
        self._places: list[tuple[int, int, int]] | None = None

    def __call__(self, i: int) -> Envelope:
        """Read the i-th one; what cannot be read is left empty."""
        if self._places is None:
            self._places = self._find()
        delta, at, end = self._places[i]
        try:
            headers = read_headers(self._buffer, at, end)
        except (ValueError, IndexError):
            headers = ()
        return Envelope(written_at(self._first + delta if self._fixed is None else self._fixed), headers)

    def _find(self) -> list[tuple[int, int, int]]:
        """Find each record's time after the first one's, and where its headers begin and end."""
        buffer, at = self._buffer, self._begin
        places = []
        while at < self._end:
            length, at = varint(buffer, at)
            end = at + length
            later, at = varint(buffer, at + 1)
            delta, at = varint(buffer, at)
            for _ in ("key", "value"):
                size, at = varint(buffer, at)
                at += max(size, 0)
            if self._base + delta >= self._start:
                places.append((later, at, end))
            at = end
        return places
