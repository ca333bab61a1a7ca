"""Messages read by settings, as tests say and see them."""

import json
from typing import Any

import numpy as np

from pipeline.formats.opened import open_decoder
from pipeline.grid.frequency import Frequency
from pipeline.messages.codec import Reader
from pipeline.records import DeadLetter, Envelope, Events, Messages
from pipeline.settings import InputSettings

NOW = 1_800_000_000_000_000
AT = 1_700_000_000
SECOND = 1_000_000


def encoded(value: object) -> bytes | None:
    """Write a value as JSON, and leave bytes and a message without a value as they are."""
    return value if isinstance(value, bytes | None) else json.dumps(value).encode()


def read(
    settings: InputSettings,
    *values: object,
    key: bytes | None = None,
    headers: tuple[tuple[str, bytes | None], ...] = (),
    written_at: int | None = None,
) -> tuple[Events, tuple[DeadLetter, ...]]:
    """Read messages of partition 3 of the topic "plant" from offset 10 on, each with this key and these headers."""
    sent = [encoded(value) for value in values]
    messages = Messages(
        3,
        np.arange(10, 10 + len(sent)),
        [key] * len(sent),
        sent,
        10 + len(sent),
        envelope=lambda i: Envelope(written_at, headers),
    )
    return Reader(settings, Frequency("1s"), "plant", open_decoder(settings)).read(messages, NOW)


def readings(settings: InputSettings, *values: object, **record: Any) -> list[tuple[str, float, float | None]]:
    """Read messages that must all be good: the series, the seconds since 1970 and the value of each event."""
    events, letters = read(settings, *values, **record)
    assert letters == (), letters[0].reason
    return [
        (name, time / SECOND, value if seen else None)
        for name, time, value, seen in zip(
            events.series, events.event_time.tolist(), events.value.tolist(), events.observed.tolist(), strict=True
        )
    ]


def refused(settings: InputSettings, value: object, **record: Any) -> DeadLetter:
    """Read a message that must be bad."""
    events, letters = read(settings, value, **record)
    assert len(events) == 0
    assert len(letters) == 1, value
    return letters[0]
