"""Rows of dead_letters: a letter as its columns, and columns as a letter."""

import base64
from collections.abc import Sequence
from typing import Any

from pipeline.database.schema.tables import dead_letters
from pipeline.records import DeadLetter, Left

_own = dead_letters.c
COLUMNS = (
    _own.source_partition,
    _own.source_offset,
    _own.reason,
    _own.key,
    _own.value,
    _own.headers,
    _own.written_at,
)
"""What a DeadLetter is made of, in the order of `letter_of`."""


def row_of(letter: DeadLetter, topic: str, now: int) -> dict[str, Any]:
    """Return the row of a letter of an input topic. Text that SQL cannot hold is escaped."""
    return {
        "topic": topic,
        "source_partition": letter.partition,
        "source_offset": letter.offset,
        "reason": _storable(letter.reason),
        "key": letter.key,
        "value": letter.value,
        "recorded_at": now,
        "headers": [
            [_storable(name), None if content is None else base64.b64encode(content).decode()]
            for name, content in letter.headers
        ],
        "written_at": letter.written_at,
    }


def left_row(left: Left, topic: str, now: int) -> dict[str, Any]:
    """Return the row of left_in_sql for a message that was made of one of an input topic."""
    return {
        "source_topic": topic,
        "source_partition": left.partition,
        "source_offset": left.offset,
        "message": _storable(left.message),
        "topic": left.topic,
        "reason": _storable(left.reason),
        "noted_at": now,
    }


def letter_of(row: Sequence[Any]) -> DeadLetter:
    """Return the letter of a row of COLUMNS."""
    partition, offset, reason, key, value, headers, written_at = row
    return DeadLetter(
        partition,
        offset,
        reason,
        key,
        value,
        headers=tuple(
            (name, None if content is None else base64.b64decode(content)) for name, content in headers or ()
        ),
        written_at=written_at,
    )


def _storable(text: str) -> str:
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()
