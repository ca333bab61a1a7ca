"""Working stand-ins for the outside, in memory; they keep the contracts of pipeline.ports."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline.errors import Fenced
from pipeline.records import Claim, DeadLetter, Forecasts, History, Messages, Turn
from pipeline.ring import merge
from pipeline.settings import Policy


class Clock:
    """Processing time that moves when told."""

    def __init__(self, now: int = 1_800_000_000_000_000) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += int(seconds * 1_000_000)


@dataclass
class MemoryStore:
    """`pipeline.ports.Store`: rows in dictionaries, all or nothing per commit."""

    policy: Policy = "last"
    state: dict[int, tuple[int, int]] = field(default_factory=dict)  # partition -> (epoch, next offset)
    ids: dict[str, int] = field(default_factory=dict)
    observations: dict[tuple[int, int], tuple[float, bool, int]] = field(default_factory=dict)
    forecasts: list[Forecasts] = field(default_factory=list)
    keys: set[tuple[int, int, int]] = field(default_factory=set)
    letters: list[DeadLetter] = field(default_factory=list)
    jumps: list[tuple[int, int, int, str]] = field(default_factory=list)

    def claim(self, partition: int, owner: str) -> Claim:
        epoch, offset = self.state.get(partition, (0, 0))
        self.state[partition] = (epoch + 1, offset)
        return Claim(partition, epoch + 1, offset)

    def recent(self, names: Sequence[str], depth: int) -> History:
        ids = [self.ids.setdefault(name, len(self.ids) + 1) for name in names]
        runs = []
        for series in ids:
            own = sorted((at, *row) for (one, at), row in self.observations.items() if one == series)
            runs.append(own[-depth:])
        rows = [row for run in runs for row in run]
        return History(
            series_id=np.array(ids, np.int64),
            bounds=np.cumsum([0, *(len(run) for run in runs)]),
            observed_at=np.array([row[0] for row in rows], np.int64),
            value=np.array([row[1] for row in rows], np.float64),
            observed=np.array([row[2] for row in rows], np.bool_),
            events=np.array([row[3] for row in rows], np.int64),
            covariates=np.empty((len(rows), 0)),
        )

    def commit(self, turn: Turn) -> Forecasts:
        for advance in turn.advances:
            if self.state.get(advance.partition) != (advance.epoch, advance.start):
                raise Fenced(f"partition {advance.partition} has moved on")
        rows = turn.observations
        for i in range(len(rows)):
            key = (int(rows.series_id[i]), int(rows.observed_at[i]))
            assert not (rows.fresh[i] and key in self.observations), "a row said to be fresh is there already"
            new = (rows.value[i : i + 1], rows.observed[i : i + 1], rows.events[i : i + 1])
            if key in self.observations:
                value, seen, events = self.observations[key]
                new = merge(self.policy, (np.array([value]), np.array([seen]), np.array([events])), new)
            self.observations[key] = (float(new[0][0]), bool(new[1][0]), int(new[2][0]))
        fresh = np.ones(len(turn.forecasts), np.bool_)
        for i in range(len(turn.forecasts)):
            made = turn.forecasts
            one = (int(made.series_id[i]), int(made.origin[i]), int(made.model_version[i]))
            fresh[i] = one not in self.keys
            self.keys.add(one)
        stored = turn.forecasts.take(fresh)
        self.forecasts.append(stored)
        self.letters.extend(turn.dead_letters)
        for advance in turn.advances:
            self.state[advance.partition] = (advance.epoch, advance.next_offset)
        return stored

    def unpublished(self, partition: int, start: int, stop: int) -> tuple[Forecasts, tuple[DeadLetter, ...]]:
        found = [
            part.take((part.partition == partition) & (part.offset >= start) & (part.offset < stop))
            for part in self.forecasts
        ]
        letters = [x for x in self.letters if x.partition == partition and start <= x.offset < stop]
        return joined(found), tuple(sorted(letters, key=lambda letter: letter.offset))

    def rewind(self, claim: Claim, next_offset: int, reason: str) -> Claim:
        if self.state.get(claim.partition) != (claim.epoch, claim.next_offset):
            raise Fenced(f"partition {claim.partition} has moved on")
        self.jumps.append((claim.partition, claim.next_offset, next_offset, reason))
        self.state[claim.partition] = (claim.epoch, next_offset)
        return Claim(claim.partition, claim.epoch, next_offset)


@dataclass
class MemoryTopics:
    """A broker: input messages per partition, what was published, and the group's offsets."""

    inputs: dict[int, list[tuple[bytes | None, bytes | None]]] = field(default_factory=dict)
    beginnings: dict[int, int] = field(default_factory=dict)
    output: list[tuple[int, int, str, bytes]] = field(default_factory=list)  # (partition, offset, series, numbers)
    letters: list[DeadLetter] = field(default_factory=list)
    offsets: dict[int, int] = field(default_factory=dict)
    generation: int = 1


class MemorySource:
    """`pipeline.ports.Source` over MemoryTopics, handing out at most `most` messages of a partition per poll."""

    def __init__(self, topics: MemoryTopics, most: int = 100) -> None:
        self.topics = topics
        self.most = most
        self.settled = True
        self.positions: dict[int, int] = {}
        self.waiting: list[tuple[int, bool]] = [(partition, True) for partition in topics.inputs]

    def poll(self, most: int) -> list[Messages]:
        runs = []
        for partition, position in self.positions.items():
            some = self.topics.inputs[partition][position : position + min(most, self.most)]
            if some:
                end = position + len(some)
                self.positions[partition] = end
                keys, values = zip(*some, strict=True)
                runs.append(Messages(partition, np.arange(position, end), list(keys), list(values), end))
        return runs

    def changes(self) -> list[tuple[int, bool]]:
        waiting, self.waiting = self.waiting, []
        return waiting

    def joined(self) -> bool:
        return self.settled

    def published(self, partition: int) -> int | None:
        return self.topics.offsets.get(partition)

    def bounds(self, partition: int) -> tuple[int, int]:
        return self.topics.beginnings.get(partition, 0), len(self.topics.inputs[partition])

    def start(self, partition: int, offset: int) -> None:
        self.positions[partition] = offset

    def hold(self, partitions: Sequence[int]) -> None:
        for partition in partitions:
            self.positions.pop(partition, None)


class MemoryPublisher:
    """`pipeline.ports.Publisher` over MemoryTopics: all or nothing, fenced by the group's generation."""

    def __init__(self, topics: MemoryTopics) -> None:
        self.topics = topics
        self.generation = topics.generation

    def prepare(self) -> None:
        if self.generation != self.topics.generation:
            raise Fenced("the generation is over")

    def publish(self, forecasts: Forecasts, dead_letters: Sequence[DeadLetter], next_offsets: dict[int, int]) -> None:
        if self.generation != self.topics.generation:
            raise Fenced("the generation is over")
        for at, offset in next_offsets.items():
            assert offset >= self.topics.offsets.get(at, 0), "the group's offset must not move back"
        self.topics.output += [
            (int(forecasts.partition[i]), int(forecasts.offset[i]), name, forecasts.quantiles[i].tobytes())
            for i, name in enumerate(forecasts.series)
        ]
        self.topics.letters += dead_letters
        self.topics.offsets.update(next_offsets)


class NoChampion:
    """`pipeline.ports.Champion` before the first retraining."""

    def champion(self) -> int | None:
        return None

    def artifact(self, version: int) -> bytes:
        raise AssertionError(f"nobody promoted version {version}")


def joined(parts: Sequence[Forecasts]) -> Forecasts:
    """Join forecasts of one horizon; in offset order if there are any."""
    from pipeline.records import no_forecasts
    from pipeline.scorer import _join

    full = [part for part in parts if len(part)]
    if not full:
        return no_forecasts(parts[0].horizon if parts else 1)
    everything = _join(full)
    return everything.take(np.argsort(everything.offset, kind="stable"))
