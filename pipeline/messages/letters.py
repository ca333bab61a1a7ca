"""Dead letters: how one is made of a message, and what of a large one is kept.

A message may be as large as its topic allows, and much larger when its batch was compressed. Neither memory nor a
column of SQL may be what limits it, so of a very large one only the beginning is kept, with its size and hash.
"""

import hashlib

from pipeline.records import DeadLetter, Kind, Messages

REQUEUED = "tidecast-requeued-from"
"""Header of a message that `tidecast dead-letters requeue` sent: the place of its dead letter."""

WRITTEN = "tidecast-written-at"
"""Header of a message that was sent again although its record's time counts: that time, in epoch milliseconds."""

TIME_DIGITS = 15
"""Of that time, at most."""

MOST_BYTES = 8 << 20
"""Of a key or a value that is kept whole."""

KEPT_BYTES = 1 << 16
"""Of a larger one; headers that are larger than this together are not kept at all."""

_BATCH = "the record batch"
_CUT = " bytes are kept (of "
_LEFT = "; the headers are not kept ("


def make_letter(messages: Messages, i: int, reason: str, kind: Kind = Kind.OTHER) -> DeadLetter:
    """Make the dead letter of the i-th message; its reason says what of it was too large to be kept."""
    key, cut_key = keep("key", messages.keys[i])
    value, cut_value = keep("value", messages.values[i])
    envelope = messages.envelope(i)
    headers, left = envelope.headers, ""
    size = sum(len(name) + len(content or b"") for name, content in headers)
    if size > KEPT_BYTES:
        headers, left = (), f"{_LEFT}{size:,} bytes)"
    return DeadLetter(
        messages.partition,
        int(messages.offsets[i]),
        reason + cut_key + cut_value + left,
        key,
        value,
        headers=headers,
        written_at=envelope.written_at,
        kind=kind,
    )


def keep(name: str, content: bytes | None) -> tuple[bytes | None, str]:
    """Return a key or value, or its beginning if it is very large, and then what to add to the reason."""
    if content is None or len(content) <= MOST_BYTES:
        return content, ""
    digest = hashlib.sha256(content).hexdigest()
    return content[:KEPT_BYTES], f"; of the {name} {KEPT_BYTES:,}{_CUT}{len(content):,}, SHA-256 {digest})"


def is_whole(letter: DeadLetter) -> bool:
    """Tell whether a letter is one message as it arrived: not a batch that could not be read, and nothing cut off."""
    return not (letter.reason.startswith(_BATCH) or _CUT in letter.reason or _LEFT in letter.reason)
