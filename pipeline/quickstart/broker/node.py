"""The broker's whole state, and the two things that cross its parts: ending a transaction, and passing time."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from pipeline.quickstart.broker.groups import Group
from pipeline.quickstart.broker.topics import Topics
from pipeline.quickstart.broker.transactions import Transaction, Transactions


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request: the client's own name, its address, and the version of the request."""

    client: str
    host: str
    version: int


@dataclass
class Node:
    """Topics, groups and transactions; `now` is monotonic seconds, `now_ms` wall-clock epoch milliseconds."""

    host: str = "127.0.0.1"
    port: int = 0
    now: Callable[[], float] = time.monotonic
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    topics: Topics = field(default_factory=Topics)
    groups: dict[str, Group] = field(default_factory=dict)
    transactions: Transactions = field(init=False)

    def __post_init__(self) -> None:
        self.transactions = Transactions(self._finish)

    def tick(self) -> None:
        """Let deadlines act: sessions, rebalances, transactions."""
        now = self.now()
        for group in self.groups.values():
            group.expire(now)
        self.transactions.expire(now)

    def _finish(self, ended: Transaction, commit: bool) -> None:
        for topic, partition in ended.partitions:
            log = self.topics.log(topic, partition)
            if log is not None:
                log.end_transaction(ended.producer, ended.epoch, commit=commit, now_ms=self.now_ms())
        for name in ended.groups:
            if name in self.groups:
                self.groups[name].offsets.end_transaction(ended.producer, commit=commit)
