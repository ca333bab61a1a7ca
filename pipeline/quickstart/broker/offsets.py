"""A group's committed offsets, and those that wait for the end of a transaction."""

from dataclasses import dataclass, field
from typing import NamedTuple

Partition = tuple[str, int]


class Committed(NamedTuple):
    """A committed next offset."""

    offset: int
    leader_epoch: int
    metadata: str | None


@dataclass(slots=True)
class Offsets:
    """Next offsets by (topic, partition); pending ones by producer id as well."""

    committed: dict[Partition, Committed] = field(default_factory=dict)
    pending: dict[int, dict[Partition, Committed]] = field(default_factory=dict)

    def stage(self, producer: int, partition: Partition, value: Committed) -> None:
        """Keep an offset until the producer's transaction ends."""
        self.pending.setdefault(producer, {})[partition] = value

    def end_transaction(self, producer: int, *, commit: bool) -> None:
        """Publish or drop what the producer staged."""
        staged = self.pending.pop(producer, {})
        if commit:
            self.committed |= staged

    def unstable(self, partition: Partition) -> bool:
        """Tell whether an open transaction has an offset for the partition."""
        return any(partition in staged for staged in self.pending.values())
