"""A plan of everything that happens to a deployment, drawn from a seed: the same seed, the same steps and bytes.

The plan knows nothing of servers. tests.faults.drive carries it out, and tests.faults.oracle says what must come of it.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from zlib import crc32

from kafka.partitioner.default import murmur2

from tests.faults.shapes import LARGE_LIMIT, SMALL_LIMIT, Reading, fragments, padded, plain, refused, spell

SITUATIONS = (
    "kills",  # kill -9 of a worker
    "freezes",  # SIGSTOP, for less and for more than the session's timeout
    "members",  # workers join and leave
    "broker",  # kill -9 of the broker
    "database",  # sessions ended, a locked file, a crash of the server
    "partitions",  # partitions are added
    "renewal",  # the topic is deleted and made anew
    "promotions",  # the champion changes
    "mend",  # a setting that refused messages is mended
    "requeue",  # dead letters are sent again
    "spread",  # a series in several partitions
    "tombstones",  # messages without a value
    "neither",  # messages with neither key nor value
    "fragments",  # neighbours that make sense together only
    "large",  # messages up to and beyond the limit, in batches that unpack to much
)
POLICIES = ("last", "mean", "sum", "max")
IN_ORDER = ("last",)
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
WORKERS = ("one", "two", "three")
STYLES = ("murmur2", "crc32", "wrong key")
SPREADING = ("no key", "murmur2 and crc32", "any key")


@dataclass(frozen=True)
class Sent:
    """A message to produce; `shape` says in words what it is."""

    partition: int
    key: bytes | None
    value: bytes | None
    shape: str
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True)
class Step:
    """One thing that happens: `what` names it, `target` says to whom, `number` how long or which."""

    what: str
    target: str = ""
    number: float = 0.0
    messages: tuple[Sent, ...] = ()

    def __str__(self) -> str:
        """Say it in one line."""
        words = [self.what, self.target, f"{self.number:g}" if self.number else ""]
        if self.messages:
            shapes = Counter(sent.shape for sent in self.messages)
            words.append(", ".join(f"{count} {shape}" for shape, count in sorted(shapes.items())))
        return " ".join(word for word in words if word)


@dataclass(frozen=True)
class Outline:
    """What is fixed for one round: everything else is drawn step by step."""

    seed: int
    policy: str
    every_step: bool
    partitions: int
    series: tuple[str, ...]
    styles: tuple[str, ...]
    context: int = 24
    season: int = 6
    horizon: int = 3

    @property
    def settings(self) -> tuple[str, ...]:
        """What every worker of the round is told."""
        return (
            "series.frequency=1h",
            f"series.on={'every_step' if self.every_step else 'latest'}",
            f"series.duplicates={self.policy}",
            f"series.context={self.context}",
            f"series.season={self.season}",
            f"series.horizon={self.horizon}",
            "model.kind=gru",
            "model.hidden=4",
        )


def outline(seed: int, situations: frozenset[str]) -> Outline:
    """Draw what is fixed for the round of a seed."""
    random = Random(f"outline {seed}")
    styles = STYLES + SPREADING if "spread" in situations else STYLES
    names = [f"series-{i:03d}" for i in range(10)] + ["Zähler 11", "été/\N{SNOWMAN}-12"]
    return Outline(
        seed=seed,
        policy=random.choice(POLICIES),
        every_step=random.random() < 0.6,
        partitions=random.choice([1, 2, 3, 6, 6]),
        series=tuple(names),
        styles=tuple(styles[i % len(styles)] for i in range(len(names))),
    )


@dataclass
class Plan:
    """The steps of one round, drawn one after the other; iterate over it once."""

    outline: Outline
    situations: frozenset[str]
    steps: int

    def __post_init__(self) -> None:
        self._random = Random(f"steps {self.outline.seed}")
        self._partitions = self.outline.partitions
        self._now = 0
        self._later: list[tuple[int, Reading, str]] = []  # (from which step on, what, its shape)
        self._said: dict[tuple[str, int], tuple[set[int], set[float | None]]] = {}  # since all was stored
        self._oldest = 0
        self._up: dict[str, str] = dict.fromkeys(WORKERS[:2], "runs")
        self._limit = SMALL_LIMIT
        self._left: Counter[str] = Counter({"broker": 2, "partitions": 2, "renewal": 1, "mend": 1, "requeue": 3})

    def __iter__(self) -> Iterator[Step]:
        """Draw every step; all workers run at the end, and one or two closing readings of each series came last."""
        for _ in range(self.steps):
            yield self._send()
            yield from self._trouble()
        yield from self._settle()
        yield from self._close()

    def _trouble(self) -> Iterator[Step]:
        random = self._random
        if random.random() < 0.35:
            return
        kinds = [kind for kind in TROUBLES if kind in self.situations and self._left.get(kind, 1) > 0]
        if random.random() < 0.2 or not kinds:
            yield from self._settle()
            return
        kind = random.choice(kinds)
        if kind in self._left:
            self._left[kind] -= 1
        yield from TROUBLES[kind](self)

    def _settle(self) -> Iterator[Step]:
        """Let everything be stored and published: what comes after it is stored after it."""
        yield from self._wake()
        yield Step("settle")
        self._said.clear()

    def _wake(self) -> Iterator[Step]:
        """Let the frozen ones go on: a file that one has locked stays locked until then."""
        for worker, state in self._up.items():
            if state == "frozen":
                self._up[worker] = "runs"
                yield Step("thaw", worker)

    def _close(self) -> Iterator[Step]:
        if "promotions" in self.situations:
            yield Step("wait", "", 3.0)  # until the champion is the same in every worker
        times = 1 if self.outline.policy in ("last", "first") else 2
        for _ in range(times):
            for name in self.outline.series:  # one after the other: where no partition lags, no window is incomplete
                reading = Reading(name, self._now, self._value(name, self._now))
                yield Step("send", "none", messages=(self._routed(reading, plain(reading), "closing"),))
                yield Step("settle")
            self._now += 1

    def _send(self) -> Step:
        random = self._random
        messages: list[Sent] = []
        for _ in range(random.randint(1, 5)):
            messages += self._hour()
        messages += self._held_back()
        messages = self._noise(messages)
        codec = random.choice(CODECS)
        if "large" in self.situations and random.random() < 0.25:
            messages += self._large()
        return Step("send", codec, messages=tuple(messages))

    def _hour(self) -> list[Sent]:
        random, t = self._random, self._now
        self._now += 1
        messages = []
        for name in self.outline.series:
            reading = Reading(name, t, self._value(name, t))
            fate = random.random()
            if fate < 0.03:
                continue
            if fate < 0.08:
                self._hold(reading, "late", random.choice([1, 2, 5, 12, 40]))
                continue
            if fate < 0.11:
                reading = Reading(name, t, None)
            shape = "null" if reading.value is None else "reading"
            messages += self._emit(reading, spell(reading, random), shape)
            if random.random() < 0.06:
                self._hold(reading, "duplicate", random.choice([0, 1, 8]))
            if random.random() < 0.06:
                changed = self._value(name, t) + 50.0 * random.randint(1, 9)
                self._hold(Reading(name, t, changed), "correction", random.choice([0, 1, 5, 12, 30]))
        return messages

    def _hold(self, reading: Reading, shape: str, steps: int) -> None:
        self._later.append((self._now + steps, reading, shape))

    def _held_back(self) -> list[Sent]:
        due = [each for each in self._later if each[0] <= self._now]
        self._later = [each for each in self._later if each[0] > self._now]
        return [sent for _, reading, shape in due for sent in self._emit(reading, spell(reading, self._random), shape)]

    def _noise(self, messages: list[Sent]) -> list[Sent]:
        """Put among the readings what is none."""
        random = self._random
        mixed: list[Sent] = []
        for sent in messages:
            mixed.append(sent)
            if random.random() < 0.05:
                mixed.append(self._elsewhere(refused(self._any_reading(), random), "refused"))
            if "tombstones" in self.situations and random.random() < 0.03:
                mixed.append(Sent(sent.partition, self._any_name().encode(), None, "tombstone"))
            if "neither" in self.situations and random.random() < 0.01:
                mixed.append(Sent(sent.partition, None, None, "neither"))
            if "fragments" in self.situations and random.random() < 0.03:
                key = random.choice([None, sent.key])
                mixed += [
                    Sent(sent.partition, key, piece, "fragment") for piece in fragments(self._any_reading(), random)
                ]
        if "tombstones" in self.situations and random.random() < 0.05:
            mixed += [Sent(random.randrange(self._partitions), b"deleted", None, "tombstone")] * 250
        return mixed

    def _large(self) -> list[Sent]:
        """Make readings around the limit, several in a row, which compress to nearly nothing.

        Each is of a step of its own, before all others, so it may be sent again at any time.
        """
        random = self._random
        messages = []
        for _ in range(random.randint(1, 6)):
            self._oldest -= 1
            reading = Reading(name := self._any_name(), self._oldest, self._value(name, self._oldest))
            length = random.choice([self._limit, self._limit + 1, 2 * self._limit, SMALL_LIMIT + 1])
            length = min(length, LARGE_LIMIT + 1)
            messages.append(self._routed(reading, padded(reading, length), f"of {length:,} bytes"))
        return messages

    def _elsewhere(self, value: bytes, shape: str) -> Sent:
        random = self._random
        key = random.choice([None, b"", self._any_name().encode(), b"k" * 300, b"\xff\x00"])
        headers = random.choice([(), (), (("trace", b"%d" % self._now), ("trace", b"\xff"), ("empty", b""))])
        return Sent(random.randrange(self._partitions), key, value, shape, headers)

    def _any_name(self) -> str:
        return self._random.choice(self.outline.series)

    def _any_reading(self) -> Reading:
        return Reading(self._any_name(), self._random.randint(0, self._now), 7777.0)

    def _value(self, name: str, t: int) -> float:
        i = self.outline.series.index(name)
        return float((1 + i % 5) * t + 1000 * i)

    def _emit(self, reading: Reading, value: bytes, shape: str) -> list[Sent]:
        """Key a reading as its series is, where the order of its step's messages is defined; else leave it out."""
        sent = self._routed(reading, value, shape)
        if self.outline.policy not in IN_ORDER:
            return [sent]
        partitions, values = self._said.setdefault((reading.series, reading.t), (set(), set()))
        if len(values | {reading.value}) > 1 and partitions:
            if len(partitions) > 1:
                return []
            sent = Sent(next(iter(partitions)), sent.key, sent.value, sent.shape, sent.headers)
        partitions.add(sent.partition)
        values.add(reading.value)
        return [sent]

    def _routed(self, reading: Reading, value: bytes, shape: str) -> Sent:
        random = self._random
        style = self.outline.styles[self.outline.series.index(reading.series)]
        if style == "no key":
            return Sent(random.randrange(self._partitions), None, value, shape)
        if style == "any key":
            key = random.randbytes(random.randint(0, 8))
            return Sent(self._by(murmur2, key), key, value, shape)
        if style == "wrong key":
            key = f"meter of {reading.series}".encode()
            return Sent(self._by(murmur2, key), key, value, shape)
        partitioner = {"murmur2": murmur2, "crc32": crc32}.get(style) or random.choice([murmur2, crc32])
        return self._keyed(reading, value, shape, partitioner)

    def _keyed(self, reading: Reading, value: bytes, shape: str, partitioner: object) -> Sent:
        key = reading.series.encode()
        return Sent(self._by(partitioner, key), key, value, shape)

    def _by(self, partitioner: object, key: bytes) -> int:
        """Choose the partition that Java's default partitioner chooses, or librdkafka's."""
        number = crc32(key) if partitioner is crc32 else murmur2(key) & 0x7FFFFFFF
        return int(number % self._partitions)

    def _kill(self) -> Iterator[Step]:
        worker = self._random.choice(sorted(self._up))
        self._up[worker] = "runs"
        yield Step("kill -9", worker)

    def _freeze(self) -> Iterator[Step]:
        if "frozen" in self._up.values():
            yield from self._wake()
            return
        worker = self._random.choice(sorted(self._up))
        self._up[worker] = "frozen"
        yield Step("freeze", worker, self._random.choice([0.5, 2.0, 8.0]))

    def _members(self) -> Iterator[Step]:
        absent = [worker for worker in WORKERS if worker not in self._up]
        running = [worker for worker, state in self._up.items() if state == "runs"]
        if absent and (self._random.random() < 0.6 or len(running) < 2):
            self._up[absent[0]] = "runs"
            yield Step("join", absent[0])
        elif len(running) > 1:
            worker = self._random.choice(running)
            del self._up[worker]
            yield Step("leave", worker)

    def _database(self) -> Iterator[Step]:
        yield from self._wake()
        yield Step(self._random.choice(["end sessions", "lock database", "crash database"]), "", 1.5)

    def _broker(self) -> Iterator[Step]:
        yield Step("kill broker", "", self._random.choice([0.2, 2.0]))

    def _more_partitions(self) -> Iterator[Step]:
        if "spread" not in self.situations:
            yield from self._settle()
        self._partitions += self._random.randint(1, 3)
        yield Step("add partitions", "", self._partitions)

    def _renew(self) -> Iterator[Step]:
        yield from self._settle()
        self._partitions = self._random.randint(1, 6)
        self._up = dict.fromkeys(self._up, "runs")
        yield Step("renew topic", "", self._partitions)

    def _mend(self) -> Iterator[Step]:
        yield from self._settle()
        self._limit = LARGE_LIMIT
        yield Step("mend", "", self._limit)
        if "requeue" in self.situations:
            yield Step("requeue")

    def _requeue(self) -> Iterator[Step]:
        yield from self._wake()
        if self._random.random() < 0.4:
            yield Step("requeue, killed", "", self._random.uniform(0.8, 2.5))
        yield Step("requeue")

    def _promote(self) -> Iterator[Step]:
        yield from self._wake()
        yield Step("promote", "", self._random.randint(0, 2))


TROUBLES = {
    "kills": Plan._kill,
    "freezes": Plan._freeze,
    "members": Plan._members,
    "database": Plan._database,
    "broker": Plan._broker,
    "partitions": Plan._more_partitions,
    "renewal": Plan._renew,
    "mend": Plan._mend,
    "requeue": Plan._requeue,
    "promotions": Plan._promote,
}
"""What may happen between two sends, by the situation that it belongs to."""
