"""Working stand-ins for the outside, in memory; they keep the contracts of pipeline.stream.ports."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline.errors import Fenced, Refused
from pipeline.forecasting.calibration import Calibration
from pipeline.messages.codec import forecast_id
from pipeline.records import (
    DEAD_LETTER,
    NOTHING,
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
from pipeline.settings import Policy
from pipeline.stream.ring import Merged, merge

LOOKED_AT = 3
"""Series that MemoryStore looks at in one call of `outdated`: few, so that tests look on."""


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
    """`pipeline.stream.ports.Store`: rows in dictionaries, all or nothing per commit."""

    policy: Policy = "last"
    covariates: tuple[str, ...] = ()
    state: dict[int, tuple[int, int]] = field(default_factory=dict)  # partition -> (epoch, next offset)
    ids: dict[str, int] = field(default_factory=dict)
    observations: dict[tuple[int, int], tuple[float, bool, int]] = field(default_factory=dict)
    past: dict[tuple[int, int, str], tuple[float, bool, int]] = field(default_factory=dict)  # the covariates
    forecasts: list[Forecasts] = field(default_factory=list)
    keys: set[tuple[int, int, int]] = field(default_factory=set)
    shadow: dict[tuple[int, int, int], bytes] = field(default_factory=dict)  # (series, origin, version) -> numbers
    letters: list[DeadLetter] = field(default_factory=list)
    jumps: list[tuple[int, int, int, str]] = field(default_factory=list)
    homes: dict[str, int] = field(default_factory=dict)  # the partition in which a series was first met
    spread: dict[str, int] = field(default_factory=dict)  # in the order in which they were found in several
    repairs: int = 0
    turn_starts: dict[int, int] = field(default_factory=dict)
    incarnations: dict[int, str] = field(default_factory=dict)  # of the topic that a partition's offsets are of
    retired: dict[str, tuple[list[Forecasts], list[DeadLetter], dict[int, tuple[int, int]]]] = field(
        default_factory=dict
    )
    left: dict[tuple[int, int, str], str] = field(default_factory=dict)
    reforecasts: dict[int, int] = field(default_factory=dict)

    def claim(self, partition: int, owner: str) -> Claim:
        epoch, offset = self.state.get(partition, (0, 0))
        self.state[partition] = (epoch + 1, offset)
        return Claim(
            partition,
            epoch + 1,
            offset,
            self.reforecasts.get(partition, 0),
            self.turn_starts.get(partition, 0),
            partition in self.incarnations,
        )

    def recent(self, names: Sequence[str], depth: int, until: int | None = None) -> RecentHistory:
        ids = [self.ids.setdefault(name, len(self.ids) + 1) for name in names]
        runs, beyond = [], []
        for series in ids:
            own = sorted((at, *row) for (one, at), row in self.observations.items() if one == series)
            known = [row for row in own if until is None or row[0] <= until]
            runs.append(known[-depth:])
            after = own[len(known) :]
            beyond += [after[0][0], after[-1][0]] if after else [NOTHING, NOTHING]
        rows = [row for run in runs for row in run]
        keys = [(series, row[0]) for series, run in zip(ids, runs, strict=True) for row in run]
        past = [self.past.get((*key, name), (0.0, False, 0)) for key in keys for name in self.covariates]
        shape = (len(rows), len(self.covariates))
        return RecentHistory(
            series_id=np.array(ids, np.int64),
            bounds=np.cumsum([0, *(len(run) for run in runs)]),
            observed_at=np.array([row[0] for row in rows], np.int64),
            value=np.array([row[1] for row in rows], np.float64),
            observed=np.array([row[2] for row in rows], np.bool_),
            events=np.array([row[3] for row in rows], np.int64),
            covariates=np.array([value if seen else np.nan for value, seen, _ in past]).reshape(shape),
            covariate_events=np.array([events for _, _, events in past], np.int64).reshape(shape),
            beyond=np.array(beyond, np.int64).reshape(-1, 2),
        )

    def place(self, names: Sequence[str], partition: int) -> set[str]:
        for name in names:
            self.ids.setdefault(name, len(self.ids) + 1)
            if self.homes.setdefault(name, partition) != partition:
                self.spread.setdefault(name, len(self.spread) + 1)
        return self.spread.keys() & set(names)

    def standing(self) -> Standing:
        return Standing({at: offset for at, (_, offset) in self.state.items()}, len(self.spread), self.repairs)

    def spread_after(self, number: int) -> set[str]:
        return {name for name, own in self.spread.items() if own > number}

    def outdated(self, partitions: Sequence[int], version: int, after: int, most: int) -> Outdated:
        newest: dict[int, tuple[int, int, str, int]] = {}  # origin, place, name, partition
        for place, (part, i) in enumerate((each, i) for each in self.forecasts for i in range(len(each))):
            own = int(part.series_id[i])
            row = (int(part.origin[i]), place, part.series[i], int(part.partition[i]))
            newest[own] = max(newest.get(own, row), row)
        looked = sorted(own for own in self.ids.values() if own > after)[:LOOKED_AT]
        old = [
            own
            for own in looked
            if own in newest and newest[own][3] in partitions and (own, newest[own][0], version) not in self.keys
        ]
        more = old[most:] or (looked if len(looked) == LOOKED_AT else [])
        chosen = old[:most]
        return Outdated(
            partition=np.array([newest[own][3] for own in chosen], np.int64),
            series=[newest[own][2] for own in chosen],
            series_id=np.array(chosen, np.int64),
            origin=np.array([newest[own][0] for own in chosen], np.int64),
            spread=np.array([newest[own][2] in self.spread for own in chosen], np.bool_),
            reached=(chosen[-1] if old[most:] else looked[-1]) if more else None,
        )

    def known(self, names: Sequence[str]) -> set[str]:
        return set(names) & self.ids.keys()

    def count_series(self) -> int:
        return len(self.ids)

    def commit(self, turn: Turn) -> Forecasts:
        for advance in turn.advances:
            if self.state.get(advance.partition) != (advance.epoch, advance.start):
                raise Fenced(f"partition {advance.partition} has moved on")
        if turn.standing is not None:
            moved = {self.ids[name] for name in self.spread_after(turn.standing.spreads)}
            if moved & set(turn.own.tolist()) or turn.standing.repairs != self.repairs:
                raise Fenced("a series has moved on")
        rows = turn.observations
        keys = list(zip(rows.series_id.tolist(), rows.observed_at.tolist(), strict=True))
        assert len(set(keys)) == len(keys), "a turn has at most one row a series and step"
        for i in range(len(rows)):
            key = (int(rows.series_id[i]), int(rows.observed_at[i]))
            assert not (rows.fresh[i] and key in self.observations), "a row said to be fresh is there already"
            own = (float(rows.value[i]), bool(rows.observed[i]), int(rows.events[i]))
            self.observations[key] = self._merged(self.observations.get(key), own)
            for j, name in enumerate(self.covariates):
                number, events = float(rows.covariates[i, j]), int(rows.covariate_events[i, j])
                cell = (0.0, False, events) if np.isnan(number) else (number, True, events)
                self.past[*key, name] = self._merged(self.past.get((*key, name)), cell)
        fresh = np.ones(len(turn.forecasts), np.bool_)
        for i in range(len(turn.forecasts)):
            made = turn.forecasts
            one = (int(made.series_id[i]), int(made.origin[i]), int(made.model_version[i]))
            fresh[i] = one not in self.keys
            self.keys.add(one)
        stored = turn.forecasts.take(fresh)
        self.forecasts.append(stored)
        self._store_shadow(turn.shadow, stored)
        self.letters.extend(turn.dead_letters)
        for advance in turn.advances:
            self.state[advance.partition] = (advance.epoch, advance.next_offset)
            if advance.reforecasts is not None:
                self.reforecasts[advance.partition] = advance.reforecasts
        return stored

    def _store_shadow(self, made: Forecasts | None, stored: Forecasts) -> None:
        beside = set(zip(stored.series_id.tolist(), stored.origin.tolist(), strict=True))
        for i in range(0 if made is None else len(made)):
            own, origin, version = int(made.series_id[i]), int(made.origin[i]), int(made.model_version[i])
            if (own, origin) in beside:
                self.shadow.setdefault((own, origin, version), made.quantiles[i].tobytes())

    def _merged(self, old: tuple[float, bool, int] | None, new: tuple[float, bool, int]) -> tuple[float, bool, int]:
        if old is None:
            return new

        def arrays(cell: tuple[float, bool, int]) -> Merged:
            return np.array([cell[0]]), np.array([cell[1]]), np.array([cell[2]])

        value, seen, events = merge(self.policy, arrays(old), arrays(new))
        return float(value[0]), bool(seen[0]), int(events[0])

    def identify(self, partition: int, incarnation: str) -> str:
        return self.incarnations.setdefault(partition, incarnation)

    def retire(self, incarnation: str, reason: str) -> str:
        if incarnation in self.incarnations.values():
            self.retired[incarnation] = (self.forecasts, self.letters, dict(self.state))
            self.jumps += [(at, offset, 0, reason) for at, (_, offset) in self.state.items()]
            self.forecasts, self.letters = [], []
            self.state.clear()
            self.incarnations.clear()
        return f"input@{incarnation}"

    def unpublished(self, partition: int, start: int, stop: int) -> tuple[Forecasts, tuple[DeadLetter, ...]]:
        found = [
            part.take((part.partition == partition) & (part.offset >= start) & (part.offset < stop))
            for part in self.forecasts
        ]
        letters = [x for x in self.letters if x.partition == partition and start <= x.offset < stop]
        return joined(found), tuple(sorted(letters, key=lambda letter: letter.offset))

    def leave(self, left: Sequence[Left]) -> None:
        self.left |= {(each.partition, each.offset, each.message): each.reason for each in left}

    def rewind(self, claim: Claim, next_offset: int, reason: str) -> Claim:
        if self.state.get(claim.partition) != (claim.epoch, claim.next_offset):
            raise Fenced(f"partition {claim.partition} has moved on")
        self.jumps.append((claim.partition, claim.next_offset, next_offset, reason))
        self.state[claim.partition] = (claim.epoch, next_offset)
        return Claim(claim.partition, claim.epoch, next_offset, claim.reforecasts)


@dataclass
class MemoryTopics:
    """A broker: input messages per partition, what was published, and the group's offsets.

    A message of `output` is partition, offset, series, calibration and numbers.
    """

    inputs: dict[int, list[tuple[bytes | None, bytes | None]]] = field(default_factory=dict)
    beginnings: dict[int, int] = field(default_factory=dict)
    output: list[tuple[int, int, str, int, bytes]] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)
    offsets: dict[int, int] = field(default_factory=dict)
    reforecasts: dict[int, int] = field(default_factory=dict)  # beside the offsets
    reset: set[int] = field(default_factory=set)  # partitions whose offset some tool has set
    orphans: set[int] = field(default_factory=set)  # partitions that no member of the group has
    generation: int = 1
    ids: dict[str, str] = field(default_factory=lambda: {"input": "first", "output": "one", "letters": "two"})
    refuses: Callable[[str, DeadLetter | None], bool] = lambda message, letter: False  # forecast's series, or a letter


class MemorySource:
    """`pipeline.stream.ports.Source` over MemoryTopics, handing out at most `most` messages of a partition per poll."""

    def __init__(self, topics: MemoryTopics, most: int = 100) -> None:
        self.topics = topics
        self.most = most
        self.settled = True
        self.asked = False
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

    def published(self, partition: int) -> Committed | None:
        offset = self.topics.offsets.get(partition)
        if offset is None or partition in self.topics.reset:
            return None if offset is None else Committed(offset, marked=False)
        return Committed(offset, reforecasts=self.topics.reforecasts.get(partition, 0))

    def bounds(self, partition: int) -> tuple[int, int]:
        return self.topics.beginnings.get(partition, 0), len(self.topics.inputs[partition])

    def ends(self) -> dict[int, int]:
        return {partition: len(self.topics.inputs[partition]) for partition in self.positions}

    def look(self, partitions: Sequence[int]) -> dict[int, int]:
        return {partition: len(self.topics.inputs[partition]) for partition in partitions}

    def answered_at(self) -> float:
        return time.monotonic()

    def ask(self) -> None:
        self.asked = True

    def incarnations(self) -> dict[str, str]:
        assert self.asked, "nobody asked"
        self.asked = False
        return dict(self.topics.ids)

    def orphans(self) -> set[int]:
        return set(self.topics.orphans)

    def rejoin(self) -> None:
        self.waiting += [(partition, True) for partition in sorted(self.topics.orphans)]
        self.topics.orphans.clear()

    def start(self, partition: int, offset: int) -> None:
        self.positions[partition] = offset

    def hold(self, partitions: Sequence[int]) -> None:
        for partition in partitions:
            self.positions.pop(partition, None)


class MemoryPublisher:
    """`pipeline.stream.ports.Publisher` over MemoryTopics: all or nothing, fenced by the group's generation."""

    def __init__(self, topics: MemoryTopics) -> None:
        self.topics = topics
        self.generation = topics.generation

    def prepare(self) -> None:
        if self.generation != self.topics.generation:
            raise Fenced("the generation is over")

    def publish(
        self, forecasts: Forecasts, dead_letters: Sequence[DeadLetter], commits: Mapping[int, Committed]
    ) -> None:
        if self.generation != self.topics.generation:
            raise Fenced("the generation is over")
        refused = [
            Left(int(forecasts.partition[i]), int(forecasts.offset[i]), forecast_id(forecasts, i), "out", i, "refused")
            for i, name in enumerate(forecasts.series)
            if self.topics.refuses(name, None)
        ]
        refused += [
            Left(
                letter.partition, letter.offset, DEAD_LETTER, "dead", i, "refused", stub=letter.left_because is not None
            )
            for i, letter in enumerate(dead_letters)
            if self.topics.refuses(DEAD_LETTER, letter)
        ]
        if refused:
            raise Refused(refused)
        for at, committed in commits.items():
            before = self.topics.offsets.get(at, 0), self.topics.reforecasts.get(at, 0)
            forth = at in self.topics.reset or (committed.offset, committed.reforecasts or 0) >= before
            assert forth or committed.offset == 0, "K must not move back, but to the start of a new topic"
        self.topics.output += [
            (at, offset, name, calibration, forecasts.quantiles[i].tobytes())
            for i, (at, offset, name, calibration) in enumerate(
                zip(
                    forecasts.partition.tolist(),
                    forecasts.offset.tolist(),
                    forecasts.series,
                    forecasts.calibration.tolist(),
                    strict=True,
                )
            )
        ]
        self.topics.letters += dead_letters
        self.topics.offsets.update((at, committed.offset) for at, committed in commits.items())
        self.topics.reforecasts.update((at, committed.reforecasts or 0) for at, committed in commits.items())
        self.topics.reset -= commits.keys()


class NoChampion:
    """`pipeline.forecasting.scorer.Champion` before the first retraining."""

    def champion(self) -> int | None:
        return None

    def artifact(self, version: int) -> bytes:
        raise AssertionError(f"nobody promoted version {version}")


@dataclass
class OneShadow:
    """`pipeline.forecasting.shadow.Shadow` with one alias."""

    artifacts: dict[int, bytes] = field(default_factory=dict)
    alias: int | None = None

    def shadow(self) -> int | None:
        return self.alias

    def artifact(self, version: int) -> bytes:
        return self.artifacts[version]


@dataclass
class MemoryCalibrations:
    """`pipeline.forecasting.scorer.Calibrations`: what was stored, in the order of versions."""

    stored: list[Calibration] = field(default_factory=list)

    def store(self, model_version: int, factors: object) -> int:
        version = len(self.stored) + 1
        self.stored.append(Calibration(version, model_version, 0, 0, 0, 1, factors, {}))
        return version

    def newest(self, model_version: int, after: int = 0) -> Calibration | None:
        own = [each for each in self.stored if each.model_version == model_version and each.version > after]
        return own[-1] if own else None


def joined(parts: Sequence[Forecasts]) -> Forecasts:
    """Join forecasts of one horizon; in offset order if there are any."""
    from pipeline.columns import concat
    from pipeline.records import no_forecasts

    full = [part for part in parts if len(part)]
    if not full:
        return no_forecasts(parts[0].horizon if parts else 1)
    everything = concat(full)
    return everything.take(np.argsort(everything.offset, kind="stable"))
