"""What a worker writes beside the group's offset of a partition: that it was a worker, and how often it re-forecast.

Offset and mark are committed together, so a Kafka transaction without an event of its own also says that it is done.
"""

from pipeline.records import Committed

MARK = "tidecast"
"""Metadata of the offsets that workers commit: what a tool resets has none."""


def write_mark(committed: Committed) -> str:
    """Write the metadata of an offset that a worker commits."""
    return MARK if committed.reforecasts is None else f"{MARK} {committed.reforecasts}"


def read_mark(offset: int, metadata: str | None) -> Committed:
    """Read an offset with its metadata; a release before this one wrote no count."""
    name, _, count = (metadata or "").partition(" ")
    if name != MARK or (count and not count.isdecimal()):
        return Committed(offset, marked=False)
    return Committed(offset, marked=True, reforecasts=int(count) if count else None)
