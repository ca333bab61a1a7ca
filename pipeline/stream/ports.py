"""What the services need from the outside, in their own words; each docstring is the contract its adapters keep.

Every method may raise Unavailable. After that nothing may be assumed: the caller drops its claims and claims again.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from pipeline.records import (
    Claim,
    Committed,
    DeadLetter,
    Forecasts,
    Left,
    Messages,
    Outdated,
    RecentHistory,
    Standing,
    Turn,
)


class Store(Protocol):
    """The database as the stream worker sees it, bound to one input topic and the names of P covariates."""

    def claim(self, partition: int, owner: str) -> Claim:
        """Take the partition: raise its epoch by one, note the owner, and return where to go on (0 if new)."""
        ...

    def recent(self, names: Sequence[str], depth: int, until: int | None = None) -> RecentHistory:
        """Return each series' newest `depth` observations, in the order of `names`; unknown names get an id.

        With `until` (microseconds) none is newer. A covariate is NaN where it is missing, and everywhere before it was
        first stored.
        """
        ...

    def place(self, names: Sequence[str], partition: int) -> set[str]:
        """Note that these series have readings in this partition, and return those that have some in others, too.

        Unknown names get an id.
        """
        ...

    def standing(self) -> Standing:
        """Return how far each partition is stored, and whether series were spread or repaired meanwhile."""
        ...

    def spread_after(self, number: int) -> set[str]:
        """Return the series that were found in several partitions after `Standing.spreads` was `number`."""
        ...

    def outdated(self, partitions: Sequence[int], version: int, after: int, most: int) -> Outdated:
        """Look at series, by id and after the id `after`, for those whose newest origin `version` has not forecast.

        At most `most` are found, of series whose newest forecast an event of one of `partitions` made due; one call
        looks at a bounded number of series.
        """
        ...

    def known(self, names: Sequence[str]) -> set[str]:
        """Return those of `names` that have an id already."""
        ...

    def count_series(self) -> int:
        """Count the names that have an id."""
        ...

    def commit(self, turn: Turn) -> Forecasts:
        """Store a turn in one transaction and return the forecasts that are now rows.

        Raises Fenced, with nothing stored, unless every advance's (epoch, start) is still the partition's state, and
        when a series of `turn.own` was spread, or any repaired, since `turn.standing`. A forecast whose key is already
        stored is left as it was and is not returned. Of the shadow's forecasts those are stored, apart, whose series
        and origin are among the forecasts returned.
        """
        ...

    def identify(self, partition: int, incarnation: str) -> str:
        """Return Kafka's id of the topic that a claimed partition's offsets are of; noted as this one if none was."""
        ...

    def retire(self, incarnation: str, reason: str) -> str:
        """Give what is stored of a former topic of this name another one, and return it; every claim of it is fenced.

        What is stored of the new topic then begins at 0. A second call for the same incarnation changes nothing.
        """
        ...

    def unpublished(self, partition: int, start: int, stop: int) -> tuple[Forecasts, tuple[DeadLetter, ...]]:
        """Return what the turns over offsets [start, stop) stored, in offset order.

        The n-th re-forecast of a partition is at the offset -n.
        """
        ...

    def leave(self, left: Sequence[Left]) -> None:
        """Note messages that their topic refuses; one that is noted already gets the newest reason."""
        ...

    def rewind(self, claim: Claim, next_offset: int, reason: str) -> Claim:
        """Move the partition's next offset without storing events, and keep a record of the jump and its reason.

        Raises Fenced when the claim's (epoch, next_offset) is no longer the partition's state.
        """
        ...


class Source(Protocol):
    """The consuming side of Kafka, in one consumer group, on the caller's thread."""

    def poll(self, most: int) -> list[Messages]:
        """Wait for messages for at most the poll timeout, about `most` of them; drives joins, so call it often."""
        ...

    def changes(self) -> list[tuple[int, bool]]:
        """Return the assignment's changes since the last call, oldest first: (partition, whether it is ours now).

        A partition that has become ours is paused and must be claimed.
        """
        ...

    def joined(self) -> bool:
        """Tell whether this worker is a settled member of the group now, so that what it is assigned is its own."""
        ...

    def published(self, partition: int) -> Committed | None:
        """Return the group's next offset, waiting for a dead owner's pending transaction; None if never set."""
        ...

    def bounds(self, partition: int) -> tuple[int, int]:
        """Return the oldest offset that the broker still has, and the one after the newest."""
        ...

    def ends(self) -> dict[int, int]:
        """Return the offset after the newest of each partition that is delivered, as far as the broker has told it.

        Never waits. Offsets that hold no message, at which a transaction ended, do not count once poll is past them.
        """
        ...

    def look(self, partitions: Sequence[int]) -> dict[int, int]:
        """Ask the broker for the offset after the newest of partitions that are held, for two seconds at most.

        Partitions that no broker leads are left out.
        """
        ...

    def answered_at(self) -> float | None:
        """Return the monotonic second at which the group's coordinator last answered; None for never."""
        ...

    def ask(self) -> None:
        """Ask the broker which of the deployment's topics are there, without waiting for the answer."""
        ...

    def incarnations(self) -> Mapping[str, str]:
        """Wait for the answer to `ask`: the topics that exist, and Kafka's id of each; "" where it gives none.

        The answer is of a moment after `ask`. A topic that is deleted and made anew has another id.
        """
        ...

    def orphans(self) -> set[int]:
        """Return the partitions that no member of the group has; empty while the group is not settled."""
        ...

    def rejoin(self) -> None:
        """Let the group share its partitions out anew, by the polls that follow."""
        ...

    def start(self, partition: int, offset: int) -> None:
        """Deliver the partition from `offset` on."""
        ...

    def hold(self, partitions: Sequence[int]) -> None:
        """Stop delivering these partitions until `start`; what was fetched beyond the last poll is dropped."""
        ...


class Publisher(Protocol):
    """The producing side: one Kafka transaction per call."""

    def prepare(self) -> None:
        """End the transaction that a predecessor of this name may have left open, so that a claim need not wait."""
        ...

    def publish(
        self, forecasts: Forecasts, dead_letters: Sequence[DeadLetter], commits: Mapping[int, Committed]
    ) -> None:
        """Send the messages and what the group has read of each partition in one transaction.

        Raises Fenced when a newer member of the group owns the partitions, and Refused when a topic, or the client
        library, will never take some of the messages; after either nothing was published. A letter with a
        `left_because` is sent as a stub.
        """
        ...
