"""What goes into the input topic, and what must come out of it: known before anything is measured.

Every load is S hourly series (an import: as many as the events allow) of R events each. The number of an event
(series i, round r) gives its value, so sums and means are known in closed form.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import numpy as np
from confluent_kafka import Producer

from pipeline.records import Floats
from pipeline.settings import Policy
from tests.servers import create_topic

HOUR = 3_600
START = int(datetime(2025, 3, 1, tzinfo=UTC).timestamp())  # seconds; step 0 of every load, after the stored history
Kind = Literal["same-hour", "late", "import", "due"]


@dataclass(frozen=True, slots=True)
class Feed:
    """One load. `history` steps of every series are in SQL before the worker starts (0 for an import).

    Without `keyed` messages have no key, and those of a series go to another partition in every round.
    """

    kind: Kind
    series: int
    rounds: int
    partitions: int
    history: int
    keyed: bool = True

    @property
    def events(self) -> int:
        return self.series * self.rounds

    @property
    def policy(self) -> Policy:
        return "mean" if self.kind == "same-hour" else "last"

    @property
    def on(self) -> Literal["latest", "every_step"]:
        return "every_step" if self.kind == "due" else "latest"

    @property
    def warm_rounds(self) -> int:
        """Rounds until the state is steady: claims, the rings' loading and the first forecasts are past."""
        return 1 if self.kind in ("import", "due") else 2

    @property
    def warm_offset(self) -> int:
        """The offset of every partition after which the warm rounds are past; of an import, its first series."""
        return self.rounds if self.kind == "import" else self.series // self.partitions * self.warm_rounds

    @property
    def rows(self) -> int:
        """Observations that come from the topic."""
        return self.series if self.kind == "same-hour" else self.events

    @property
    def forecasts(self) -> int | None:
        """Forecasts that must be stored and published; None where it depends on how polls fall."""
        return {"same-hour": self.series, "late": self.series, "due": self.events, "import": None}[self.kind]

    def step(self, r: int) -> int:
        """The step of round r, counted from START."""
        if self.kind == "same-hour":
            return 0
        if self.kind == "late":
            return self.rounds - 1 if r == 0 else r - 1
        return r

    def seconds(self, r: int) -> int:
        """The event time of round r."""
        if self.kind == "same-hour":
            return START + r * HOUR // self.rounds
        return START + self.step(r) * HOUR

    def values(self, r: int) -> Floats:
        """The values of round r, (S,): a daily curve and noise, four decimals."""
        noise = np.random.default_rng([7, r]).normal(size=self.series)
        curve = 20 + 5 * np.sin(2 * np.pi * (r / 24 + np.arange(self.series) / self.series))
        rounded: Floats = np.round(curve + noise, 4)
        return rounded

    def total(self) -> float:
        """The sum of `value` over the rows that come from the topic."""
        total = sum(float(self.values(r).sum()) for r in range(self.rounds))
        return total / self.rounds if self.kind == "same-hour" else total

    def messages(self) -> Iterator[tuple[int, bytes | None, bytes, int]]:
        """Yield (partition, key, value, event time in ms) in the order of arrival."""
        if self.kind == "import":
            table = np.stack([self.values(r) for r in range(self.rounds)], axis=1)  # (S, R)
            texts = [iso(self.seconds(r)) for r in range(self.rounds)]
            for i in range(self.series):
                for r, value in enumerate(table[i].tolist()):
                    yield i % self.partitions, key(i), body(i, texts[r], value), self.seconds(r) * 1000
            return
        for r in range(self.rounds):
            text, time = iso(self.seconds(r)), self.seconds(r) * 1000
            for i, value in enumerate(self.values(r).tolist()):
                if self.keyed:
                    yield i % self.partitions, key(i), body(i, text, value), time
                else:
                    yield (i + r) % self.partitions, None, body(i, text, value), time


def name(i: int) -> str:
    return f"meter-{i:05d}.active-power"


def key(i: int) -> bytes:
    return name(i).encode()


def body(i: int, time: str, value: float) -> bytes:
    return f'{{"series_id":"{name(i)}","timestamp":"{time}","value":{value!r}}}'.encode()


def iso(seconds: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def fill(bootstrap_servers: str, topic: str, feed: Feed) -> None:
    """Create the topic and send the feed: record batches of at most 1,000 messages, not compressed."""
    create_topic(bootstrap_servers, topic, feed.partitions, retention_ms="-1")
    outcomes: Counter[str] = Counter()

    def note(error: object, _message: object) -> None:
        outcomes[str(error or "sent")] += 1

    producer = Producer(
        {
            "bootstrap.servers": bootstrap_servers,
            "enable.idempotence": True,  # keeps the order
            "linger.ms": 20,
            "batch.num.messages": 1000,
            "queue.buffering.max.messages": 200_000,
            "log_level": 0,
        }
    )
    for number, (partition, message_key, value, time) in enumerate(feed.messages()):
        if number == feed.series * feed.warm_rounds:
            producer.flush(60)  # a record batch ends here, so that the warm rounds can be polled by themselves
        while True:
            try:
                producer.produce(topic, value, message_key, partition, timestamp=time, on_delivery=note)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    producer.flush(60)
    assert outcomes == {"sent": feed.events}, f"of {feed.events} messages: {outcomes}"
