"""How much of a poll is one turn, where a message may have many readings: so many bytes, at least one message.

How many readings a message has shows only when it is decoded, and then they are in memory already.
"""

from collections.abc import Iterator, Sequence

from pipeline.records import Messages

READING_BYTES = 40
"""Of a reading in a message, about, with its share of the names around it."""


def portions(polled: Sequence[Messages], most: int) -> Iterator[list[Messages]]:
    """Cut runs into portions of about `most` readings, in order; a message is never cut."""
    portion: list[Messages] = []
    left = most * READING_BYTES
    for run in polled:
        start = 0
        for stop, value in enumerate(run.values, 1):
            left -= len(value or b"")
            if left > 0 and stop < len(run.values):
                continue
            portion.append(run.cut(start, stop))
            start = stop
            if left <= 0:
                yield portion
                portion, left = [], most * READING_BYTES
    if portion:
        yield portion


def messages_in(polled: Sequence[Messages], most: int) -> int:
    """Return how many messages like these have about `most` readings together, one at least."""
    messages = sum(len(run.values) for run in polled)
    size = sum(len(value or b"") for run in polled for value in run.values)
    return max(1, most * READING_BYTES * messages // max(1, size))
