"""The real worker in lockstep with the model: every call it makes must be the line that the model is at.

Worker 0 of the model is pipeline.stream.worker.Worker on ports that only advance the model; worker 1, Kafka, the
network and every fault are the model's, chosen at random between any two lines. So the model cannot drift from the
code.

To the model a turn that no event made due, after a swap of the champion, is one more message, which is in a turn of its
own: a `position` of the model counts what was stored, events and re-forecasts alike. A `Swap` says which one it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random

import numpy as np

from pipeline.errors import Fenced, Unavailable
from pipeline.forecasting.scorer import Scorer
from pipeline.forecasting.windows import Grid, model_config
from pipeline.grid.frequency import Frequency
from pipeline.health.logs import Phases
from pipeline.messages.codec import Reader
from pipeline.records import Claim, Committed, DeadLetter, Forecasts, Messages, Outdated, RecentHistory, Standing, Turn
from pipeline.settings import InputSettings, SeriesSettings, Settings
from pipeline.stream.turn import Parts
from pipeline.stream.worker import Worker
from tests.fakes import Clock, MemoryCalibrations, MemoryStore, MemoryTopics, NoChampion, joined
from tests.faults.model import NEVER, Event, Model, State
from tests.unit.workers import event, run_dry, worker

SERIES = SeriesSettings(context=4, horizon=1, season=2, on="every_step")
REAL = 0


class CrashError(BaseException):
    """The process died here."""


@dataclass(frozen=True)
class Swap:
    """Where in the model's messages the re-forecast stands; NEVER for no swap."""

    at: int = NEVER

    def offset(self, position: int) -> int:
        """Return the next offset at a position of the model."""
        return position - self.count(position)

    def count(self, position: int) -> int:
        """Return how many re-forecasts there are below a position of the model."""
        return int(NEVER < self.at < position)

    def source(self, position: int) -> int:
        """Return the offset of the forecast at a position: a message's, or -1."""
        return -1 if position == self.at else self.offset(position)

    def splits(self, turn: tuple[int, int] | None) -> bool:
        """Tell whether a turn of the model has the re-forecast among events."""
        return turn is not None and turn[0] <= self.at < turn[1] and turn[1] - turn[0] > 1


@dataclass
class World:
    """The model's state, the input of the real worker, and what happened so far.

    `chance` is how likely a fault is where one can happen; `lines` are those that the real worker passed.
    """

    model: Model
    random: Random
    chance: float = 0.1
    swap: Swap = Swap()
    state: State = field(default_factory=State)
    events: list[Event] = field(default_factory=list)
    lines: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        positions = self.model.bounds.messages
        self.messages = [event("a", step, float(step)) for step in range(self.swap.offset(positions))]
        self.whole = MemoryStore()
        run_dry(worker(self.whole, MemoryTopics(inputs={0: self.messages}), series=SERIES))
        made = joined(self.whole.forecasts)
        assert made.offset.tolist() == list(range(len(self.messages))), "one forecast per message"
        sources = np.array([self.swap.source(position) for position in range(positions)])
        again = sources < 0  # of the newest origin by then
        self.forecasts = replace(made.take(np.where(again, self.swap.at - 1, sources)), offset=sources)

    @property
    def line(self) -> str:
        return self.state.workers[REAL].line

    @property
    def reforecasts(self) -> bool:
        """Whether the real worker is to take the turn without events."""
        own = self.state.workers[REAL]
        return own.line == "store" and own.turn == (self.swap.at, self.swap.at + 1)

    def committed(self, position: int) -> Committed:
        return Committed(self.swap.offset(position), reforecasts=self.swap.count(position))

    def move(self, happened: Event, after: State) -> None:
        self.events.append(happened)
        self.state = after
        broken = self.model.broken(after)
        assert broken is None, broken

    def elsewhere(self, steps: int | None = None) -> None:
        """Let anything but the real worker move for a while."""
        for _ in range(self.random.choice((0, 0, 1, 2, 8)) if steps is None else steps):
            nexts = [
                (happened, after)
                for happened, after in self.model.successors(self.state)
                if happened.who != f"worker {REAL}" or happened.what.startswith("notices")
                if not happened.fault or self.random.random() < self.chance
                if not any(self.swap.splits(own.turn) for own in after.workers)
            ]
            if not nexts:
                return
            self.move(*self.random.choice(nexts))

    def request(self, line: str) -> None:
        """Run the real worker's line; raises what the worker is told, or CrashError."""
        self.elsewhere()
        assert self.line == line, f"the worker is at {line}, the model at {self.line}"
        self.lines.add(line)
        if self.random.random() < self.chance:
            own = [each for each in self.model.faults(self.state, REAL) if each[0].who == f"worker {REAL}"]
            happened, after = self.random.choice(own)
            self.move(happened, after)
            raise CrashError(line) if happened.what.startswith("crashes") else Unavailable(happened.what)
        for _ in range(1_000):
            ((happened, after),) = list(self.model.lines(self.state, REAL)) or [(None, self.state)]
            if happened is not None:
                refused = happened.what.startswith("is refused")
                self.move(happened, after)
                if refused:
                    raise Fenced(happened.what)
                return
            self.elsewhere(1)
        raise AssertionError(f"no answer at {line}")


@dataclass
class SteppedSource:
    """`pipeline.stream.ports.Source` that advances the model."""

    world: World
    waiting: list[tuple[int, bool]] = field(default_factory=list)

    def poll(self, most: int) -> list[Messages]:
        world = self.world
        world.elsewhere()
        assert world.line == "poll", f"the worker polls, the model is at {world.line}"
        before = world.state.workers[REAL]
        nexts = [
            (happened, after)
            for happened, after in world.model.lines(world.state, REAL)
            if happened.what != "begins a claim" and not world.swap.splits(after.workers[REAL].turn)
        ]
        if not nexts:
            return []
        happened, after = world.random.choice(nexts)
        world.move(happened, after)
        own = after.workers[REAL]
        if world.reforecasts:
            return []
        if own.turn:
            start, stop = (world.swap.offset(position) for position in own.turn)
            keys, values = zip(*world.messages[start:stop], strict=True)
            return [Messages(0, np.arange(start, stop), keys, values, stop)]
        if before.assigned and (not own.assigned or own.claim != before.claim):
            self.waiting.append((0, False))
            before = before._replace(assigned=False)
        if own.assigned and not before.assigned:
            self.waiting.append((0, True))
        return []

    def changes(self) -> list[tuple[int, bool]]:
        waiting, self.waiting = self.waiting, []
        return waiting

    def joined(self) -> bool:
        return self.world.state.workers[REAL].knows != "nothing"

    def published(self, partition: int) -> Committed | None:
        self.world.request("read")
        published = self.world.state.published
        return None if published == NEVER else self.world.committed(published)

    def bounds(self, partition: int) -> tuple[int, int]:
        return 0, len(self.world.messages)

    def ends(self) -> dict[int, int]:
        return {0: len(self.world.messages)}

    def look(self, partitions: Sequence[int]) -> dict[int, int]:
        return self.ends()

    def answered_at(self) -> float | None:
        return None

    def ask(self) -> None:
        pass

    def incarnations(self) -> dict[str, str]:
        return {"": ""}  # the model's topic has no name

    def orphans(self) -> set[int]:
        return set()

    def rejoin(self) -> None:
        raise AssertionError("nothing is without a reader")

    def start(self, partition: int, offset: int) -> None:
        own = self.world.state.workers[REAL]
        assert (own.line, self.world.swap.offset(own.claim)) == ("poll", offset)

    def hold(self, partitions: Sequence[int]) -> None:
        assert self.world.line == "poll"


@dataclass
class SteppedStore:
    """`pipeline.stream.ports.Store` that advances the model."""

    world: World

    def claim(self, partition: int, owner: str) -> Claim:
        self.world.request("raise")
        own = self.world.committed(self.world.state.workers[REAL].claim)
        return Claim(partition, 1, own.offset, own.reforecasts or 0)

    def recent(self, names: Sequence[str], depth: int, until: int | None = None) -> RecentHistory:
        store = self.world.whole if self.world.reforecasts else MemoryStore()
        whole = store.recent(names, depth, until)
        return replace(whole, series_id=np.ones(len(names), np.int64))

    def place(self, names: Sequence[str], partition: int) -> set[str]:
        return set()

    def standing(self) -> Standing:
        return Standing({})

    def spread_after(self, number: int) -> set[str]:
        return set()

    def commit(self, turn: Turn) -> Forecasts:
        (advance,) = turn.advances
        own, swap = self.world.state.workers[REAL], self.world.swap
        assert own.turn
        assert (advance.start, advance.next_offset) == tuple(swap.offset(position) for position in own.turn)
        assert advance.reforecasts == (swap.count(own.turn[1]) if self.world.reforecasts else None)
        assert turn.forecasts.offset.tolist() == [swap.source(position) for position, _ in own.todo]
        self.world.request("store")
        return turn.forecasts

    def unpublished(self, partition: int, start: int, stop: int) -> tuple[Forecasts, tuple[DeadLetter, ...]]:
        stored = self.world.forecasts.take(np.arange(self.world.state.stored))
        return stored.take((start <= stored.offset) & (stored.offset < stop)), ()

    def outdated(self, partitions: Sequence[int], version: int, after: int, most: int) -> Outdated:
        """Find the series when the model has come to the turn without events; then look on, for it may come yet."""
        found = np.arange(int(self.world.reforecasts))
        origin = self.world.forecasts.origin[found + self.world.swap.at]
        return Outdated(found * 0, ["a"] * len(found), found + 1, origin, np.zeros(len(found), np.bool_), 0)

    def rewind(self, claim: Claim, next_offset: int, reason: str) -> Claim:
        raise AssertionError("the topic begins at 0")


@dataclass
class SteppedPublisher:
    """`pipeline.stream.ports.Publisher` that advances the model through a whole transaction."""

    world: World

    def prepare(self) -> None:
        world = self.world
        begins = [each for each in world.model.lines(world.state, REAL) if each[0].what == "begins a claim"]
        assert begins, f"the worker claims, the model is at {world.line}"
        world.move(*begins[0])
        world.request("prepare")

    def publish(
        self, forecasts: Forecasts, dead_letters: Sequence[DeadLetter], commits: Mapping[int, Committed]
    ) -> None:
        world = self.world
        own = world.state.workers[REAL]
        piece = own.todo[: world.model.bounds.transaction]
        more = own.todo[world.model.bounds.transaction :]
        sources = [world.swap.source(position) for position, _ in piece]
        assert forecasts.offset.tolist() == sources, "the messages of this transaction"
        target = more[0][0] if more else own.target
        assert commits == {0: world.committed(target)}, "what this transaction says of the partition"
        while world.line == "begin":
            world.request("begin")
        for line in ("send", "offsets", "commit") if piece else ("offsets", "commit"):
            world.request(line)


def real_worker(world: World) -> Worker:
    """Start the real worker in this world."""
    frequency = Frequency(SERIES.frequency)
    grid = Grid(frequency, SERIES, 0)
    shape = model_config(Settings(series=SERIES), frequency, 0)
    clock = Clock()
    parts = Parts(
        source=SteppedSource(world),
        store=SteppedStore(world),
        publisher=SteppedPublisher(world),
        scorer=Scorer(NoChampion(), MemoryCalibrations(), grid, shape),
        reader=Reader(InputSettings(), frequency),
        grid=grid,
        clock=clock,
        timer=clock,
        phases=Phases(),
    )
    return Worker(parts, "real", 20_000)


def walk(world: World, steps: int, calm: int) -> int:
    """Step the real worker, starting it again when it dies, then `calm` steps without faults; return the deaths."""
    one, deaths = real_worker(world), 0
    for step in range(steps + calm):
        if step == steps:
            world.chance = 0.0
        try:
            one.step()
        except CrashError:
            one, deaths = real_worker(world), deaths + 1
        own = world.state.workers[REAL]
        assert own.line == "poll", f"the worker has ended its step, the model is at {own.line}"
        held = one.owned.get(0)
        claim = held.claim.next_offset + held.claim.reforecasts if held else NEVER
        assert claim == own.claim, "worker and model hold the same claim"
        assert isinstance(one.parts.clock, Clock)
        one.parts.clock.advance(60)
    return deaths
