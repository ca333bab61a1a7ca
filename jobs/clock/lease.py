"""The scheduler's lease, requested by clocks that may be wrong: another machine's, or ours after it was set."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

LEASE = "scheduler"


class Leases(Protocol):
    """Who is the one scheduler, and what it is told."""

    def holding(self, name: str) -> tuple[str, int, int] | None:
        """Tell who holds or held it last: owner, epoch, expiry."""
        ...

    def acquire(
        self, name: str, owner: str, now: int, seconds: float, *, silent: tuple[str, int, int] | None = None
    ) -> int | None:
        """Take the lease if it is free, has expired or is still exactly `silent`, and return its epoch; None while
        somebody else holds it.
        """
        ...

    def renew(self, name: str, owner: str, epoch: int, now: int, seconds: float) -> bool:
        """Hold it for `seconds` more; False when it was lost."""
        ...

    def release(self, name: str, owner: str, epoch: int) -> None:
        """Give it back, if it is still ours."""
        ...

    def mark_lost(self, now: int, silent_seconds: float) -> int:
        """Turn runs that sent no heartbeat for so long to `lost`; return how many."""
        ...

    def requested(self) -> Sequence[str]:
        """List the jobs for which a request waits."""
        ...

    def held(self, job: str, due: int | None) -> bool:
        """Tell whether a job is paused, or still was when the run was due; None means this moment only."""
        ...


@dataclass(slots=True)
class Candidate:
    """One who waits for the lease of `seconds`, which its holder renews every third of that.

    Its expiry is by the holder's wall clock: one that was an hour ahead when it was killed would leave everybody
    waiting for an hour. So a lease is also taken once it has stayed the same for its length by our monotonic clock.
    """

    leases: Leases
    owner: str
    clock: Callable[[], int]
    seconds: float
    timer: Callable[[], float] = time.monotonic
    _seen: tuple[str, int, int] | None = None
    _since: float = 0.0

    def ask(self) -> int | None:
        """Take the lease if nobody holds it, and return its epoch; None otherwise. Raises Unavailable."""
        silent = self._seen if self._seen and self.timer() - self._since >= self.seconds else None
        epoch = self.leases.acquire(LEASE, self.owner, self.clock(), self.seconds, silent=silent)
        if epoch is None:
            holding = self.leases.holding(LEASE)
            if holding != self._seen:
                self._seen, self._since = holding, self.timer()
        else:
            self._seen = None
        return epoch
