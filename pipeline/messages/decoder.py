"""What turns the bytes of a message into a value that the mapping reads. `pipeline.formats` has the others."""

import json
from typing import Any, Protocol

import msgspec

from pipeline.messages.lookup import Record
from pipeline.messages.unreadable import explain
from pipeline.records import Messages

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Decoder(Protocol):
    """Reads one format.

    A value is what JSON has: None, bool, int, float, str, list, and dict with texts as names. A time is a Moment.
    """

    def prepare(self, messages: Messages) -> None:
        """Look up what decoding these messages needs. Raises Unavailable, or ConfigError."""
        ...

    def decode(self, value: bytes, record: Record) -> Any:
        """Return what a message's bytes, at least one, say, or a Fault. Never raises."""
        ...


class JsonDecoder:
    """JSON; a `lenient` one also with a byte order mark, NaN and Infinity."""

    def __init__(self, *, lenient: bool) -> None:
        self._decode = msgspec.json.Decoder().decode
        self._lenient = lenient

    def prepare(self, messages: Messages) -> None:
        """Need nothing."""

    def decode(self, value: bytes, record: Record) -> Any:
        """Return what a message says in JSON, or a Fault."""
        body = value.removeprefix(BYTE_ORDER_MARK) if self._lenient else value
        try:
            return self._decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            found = _decode_with_words(body) if self._lenient else None
            return explain(value, None, str(error)) if found is None else found


def _decode_with_words(value: bytes) -> Any:
    """Decode JSON with NaN and Infinity in it, which become texts; None if it is none."""
    try:
        return json.loads(value.decode(), parse_constant=str)
    except (ValueError, RecursionError):
        return None
