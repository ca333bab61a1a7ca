"""The scheduler's lease, asked for by clocks that may be wrong: another machine's, or ours after it was set."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from jobs.ports import Leases

LEASE = "scheduler"


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
