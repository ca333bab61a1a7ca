"""Transactions: one state per transactional id; whoever initialises last owns it, everyone else is fenced."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from itertools import count

from pipeline.quickstart.broker.codes import Code
from pipeline.quickstart.broker.offsets import Partition

LAST_EPOCH = 32766
MAX_TIMEOUT_MS = 900_000


class Phase(Enum):
    """Where a transactional id stands."""

    EMPTY = "Empty"
    ONGOING = "Ongoing"
    COMMITTED = "CompleteCommit"
    ABORTED = "CompleteAbort"


@dataclass(slots=True)
class Transaction:
    """The current transaction of one transactional id; `ends` is when it is aborted if nobody ends it."""

    producer: int
    epoch: int
    timeout: float
    phase: Phase = Phase.EMPTY
    ends: float = 0.0
    partitions: set[Partition] = field(default_factory=set)
    groups: set[str] = field(default_factory=set)


class Transactions:
    """The transaction coordinator; `finish` writes the markers and settles the groups' pending offsets."""

    def __init__(self, finish: Callable[[Transaction, bool], None]) -> None:
        self._finish = finish
        self._ids = count(1000)
        self._by_name: dict[str, Transaction] = {}
        self._by_producer: dict[int, Transaction] = {}

    def init(self, name: str | None, timeout_ms: int, producer: int, epoch: int) -> tuple[Code, int, int]:
        """Give out (producer id, epoch); an open transaction of an earlier owner is aborted, with its markers."""
        if name is None:
            return Code.NONE, next(self._ids), 0
        if not 0 < timeout_ms <= MAX_TIMEOUT_MS:
            return Code.INVALID_TRANSACTION_TIMEOUT, -1, -1
        known = self._by_name.get(name)
        if known is None:
            return self._create(name, timeout_ms)
        if producer >= 0 and (producer, epoch) != (known.producer, known.epoch):
            return Code.PRODUCER_FENCED, -1, -1
        known.epoch += 1  # first, so that the abort markers carry the epoch that fences the earlier owner
        if known.phase is Phase.ONGOING:
            self._complete(known, commit=False)
        if known.epoch > LAST_EPOCH:
            return self._create(name, timeout_ms)
        known.timeout, known.phase = timeout_ms / 1000, Phase.EMPTY
        return Code.NONE, known.producer, known.epoch

    def check(self, name: str, producer: int, epoch: int) -> Code:
        """Say why a request of this producer is refused."""
        known = self._by_name.get(name)
        if known is None or known.producer != producer:
            return Code.INVALID_PRODUCER_ID_MAPPING
        return Code.PRODUCER_FENCED if known.epoch != epoch else Code.NONE

    def add(self, name: str, partitions: set[Partition], groups: set[str], now: float) -> None:
        """Enlist partitions and groups in the transaction, which begins here if none is open."""
        known = self._by_name[name]
        if known.phase is not Phase.ONGOING:
            known.phase, known.ends = Phase.ONGOING, now + known.timeout
        known.partitions |= partitions
        known.groups |= groups

    def check_write(self, producer: int, epoch: int, partition: Partition) -> Code:
        """Say why a transactional batch is refused: its partition must be in the open transaction."""
        known = self._by_producer.get(producer)
        if known is None:
            return Code.INVALID_PRODUCER_ID_MAPPING
        if known.epoch != epoch:
            return Code.INVALID_PRODUCER_EPOCH
        enlisted = known.phase is Phase.ONGOING and partition in known.partitions
        return Code.NONE if enlisted else Code.INVALID_TXN_STATE

    def check_offsets(self, name: str, producer: int, epoch: int, group: str) -> Code:
        """Say why offsets cannot join the transaction: the group must be in it."""
        refused = self.check(name, producer, epoch)
        known = self._by_name.get(name)
        enlisted = known is not None and known.phase is Phase.ONGOING and group in known.groups
        return refused or (Code.NONE if enlisted else Code.INVALID_TXN_STATE)

    def end(self, name: str, producer: int, epoch: int, *, commit: bool) -> Code:
        """Commit or abort; asking the same again after a lost answer is fine."""
        refused = self.check(name, producer, epoch)
        if refused:
            return refused
        known = self._by_name[name]
        if known.phase is Phase.ONGOING:
            self._complete(known, commit=commit)
            return Code.NONE
        repeated = known.phase is (Phase.COMMITTED if commit else Phase.ABORTED)
        return Code.NONE if repeated else Code.INVALID_TXN_STATE

    def expire(self, now: float) -> None:
        """Abort what has been open for longer than its timeout, and fence its owner."""
        for known in self._by_name.values():
            if known.phase is Phase.ONGOING and known.ends <= now:
                known.epoch += 1
                self._complete(known, commit=False)

    def _create(self, name: str, timeout_ms: int) -> tuple[Code, int, int]:
        new = Transaction(next(self._ids), 0, timeout_ms / 1000)
        self._by_name[name] = self._by_producer[new.producer] = new
        return Code.NONE, new.producer, new.epoch

    def _complete(self, known: Transaction, *, commit: bool) -> None:
        self._finish(known, commit)
        known.phase = Phase.COMMITTED if commit else Phase.ABORTED
        known.partitions, known.groups = set(), set()
