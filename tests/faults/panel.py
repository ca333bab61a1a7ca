"""The input of the fault tests: series on straight lines, so that every row and every forecast has a closed form.

y(t) = slope * t + base, with whole numbers that a float32 holds exactly. Without a champion the worker serves the
seasonal naive, whose median for step h is y(t + h - season * k), the newest such value in the window.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from statistics import NormalDist
from typing import Any

START = datetime(2024, 1, 1, tzinfo=UTC)
STEP = timedelta(hours=1)
LEVELS = (0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.975)
POISON = b"poison"  # how the key of every message that must become a dead letter begins


@dataclass(frozen=True)
class Message:
    """A message to produce, with its partition."""

    partition: int
    key: bytes | None
    value: bytes | None


@dataclass(frozen=True)
class Panel:
    """`series` lines of `steps` steps, keyed into `partitions`, and the windows that are cut from them."""

    series: int
    steps: int
    partitions: int = 6
    context: int = 24
    season: int = 6
    horizon: int = 3
    padding: int = 0  # bytes that every message carries for nothing, so that a backlog is large
    resumes: int = 0  # the step after a gap of at least `context` steps: no window holds both of its sides

    @property
    def settings(self) -> tuple[str, ...]:
        """What makes the worker forecast every step of this panel with the seasonal naive."""
        shape = {"context": self.context, "season": self.season, "horizon": self.horizon}
        return (
            "series.frequency=1h",
            "series.on=every_step",
            "input.tombstones=refuse",  # so that these, too, can be counted on the way
            *(f"series.{key}={value}" for key, value in shape.items()),
        )

    @property
    def names(self) -> list[str]:
        return [f"series-{i:03d}" for i in range(self.series)]

    def value(self, name: str, t: int) -> float:
        i = int(name.rpartition("-")[2])
        return float((1 + i % 5) * t + 1000 * i)

    def partition(self, name: str) -> int:
        return int(name.rpartition("-")[2]) % self.partitions

    def event(self, name: str, t: int) -> Message:
        fields = {"series_id": name, "timestamp": time_of(t).isoformat(), "value": self.value(name, t)}
        if self.padding:
            fields["padding"] = "x" * self.padding
        return Message(self.partition(name), name.encode(), json.dumps(fields).encode())

    def messages(self, *, twice: float = 0.0, poison: int = 0, seed: int = 0) -> Iterator[Message]:
        """Every event in the order of time; a share `twice` of them again later, and `poison` messages in between."""
        random = Random(seed)
        total = self.series * self.steps
        bad_at = set(random.sample(range(total), poison))
        place = bad = 0
        for t in range(self.steps):
            for name in self.names:
                yield self.event(name, t)
                if random.random() < twice:
                    yield self.event(name, random.randint(max(0, t - self.context // 2), t))
                if place in bad_at:
                    key = b"%s-%d" % (POISON, bad)
                    yield Message(random.randrange(self.partitions), key, POISONS[bad % len(POISONS)])
                    bad += 1
                place += 1

    def forecast(self, name: str, t: int) -> list[list[float]]:
        """The closed form of the forecast made at step t: horizon x levels; whole numbers that are never negative."""
        oldest = max(self.resumes if t >= self.resumes else 0, t - self.context + 1)
        change = self.value(name, 1) - self.value(name, 0)
        seen = t - oldest + 1
        lag = self.season if seen > self.season else 1
        deviation = math.sqrt(math.pi / 2) * change * lag if seen > 1 else 0.0
        rows = []
        for h in range(1, self.horizon + 1):
            walked = (h - 1) // self.season + 1
            while True:
                source = t + h - self.season * walked
                if source <= t:
                    break
                walked += 1
            median = self.value(name, source if source >= oldest else t)
            spread = deviation * math.sqrt(walked if source >= oldest else self._never(h))
            rows.append([max(0.0, median + spread * NormalDist().inv_cdf(level)) for level in LEVELS])
        return rows

    def _never(self, h: int) -> int:
        """The periods that are walked for a phase that the window never saw: all of them."""
        return (h - 1) // self.season + 1 + math.ceil(self.context / self.season)


def time_of(t: int) -> datetime:
    return START + t * STEP


def microseconds(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def split(messages: Sequence[Message], parts: int) -> list[Sequence[Message]]:
    """Cut messages into `parts` runs of about equal length, in their order."""
    return [messages[len(messages) * i // parts : len(messages) * (i + 1) // parts] for i in range(parts)]


def _event(**changes: Any) -> bytes:
    fields = {"series_id": "poisoned", "timestamp": "2024-01-01T00:00:00Z", "value": 1.0} | changes
    return json.dumps(fields).encode()


POISONS: tuple[bytes | None, ...] = (
    None,
    b"",
    b"not json",
    b"\xff\xfe\x00",
    b"[" * 200_000,
    b'{"series_id": "poisoned", "timestamp": "2024-01-01T00:00:00Z"}',
    b"{}\n{}",
    _event(value=float("nan")),
    _event(value="1.0"),
    _event(value=True),
    _event(value=int("9" * 400)),
    _event(value=1e300),
    _event(series_id=""),
    _event(series_id="\0"),
    _event(series_id="s" * 300),
    _event(series_id=17),
    _event(timestamp="2024-01-01T00:00:00"),
    _event(timestamp="0001-01-01T00:00:00+23:59"),
    _event(timestamp="2189-01-01T00:00:00Z"),
    _event(timestamp=None),
    _event(timestamp=10**30),
)
