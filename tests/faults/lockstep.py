"""The real worker in lockstep with the model: every call it makes must be the line that the model is at.

Worker 0 of the model is pipeline.stream.worker.Worker on ports that only advance the model; worker 1, Kafka, the
network and every fault are the model's, chosen at random between any two lines. So the model cannot drift from the
code.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random

import numpy as np

from pipeline.errors import Fenced, Unavailable
from pipeline.forecasting.scorer import Scorer
from pipeline.forecasting.windows import Grid, model_config
from pipeline.grid.frequency import Frequency
from pipeline.health.logs import Phases
from pipeline.messages.codec import Reader
from pipeline.records import Claim, Committed, DeadLetter, Forecasts, Messages, RecentHistory, Standing, Turn
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


@dataclass
class World:
    """The model's state, the input of the real worker, and what happened so far.

    `chance` is how likely a fault is where one can happen; `lines` are those that the real worker passed.
    """

    model: Model
    random: Random
    chance: float = 0.1
    state: State = field(default_factory=State)
    events: list[Event] = field(default_factory=list)
    lines: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.messages = [event("a", step, float(step)) for step in range(self.model.bounds.messages)]
        store = MemoryStore()
        run_dry(worker(store, MemoryTopics(inputs={0: self.messages}), series=SERIES))
        self.forecasts = joined(store.forecasts)
        assert self.forecasts.offset.tolist() == list(range(len(self.messages))), "one forecast per message"

    @property
    def line(self) -> str:
        return self.state.workers[REAL].line

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
        nexts = [each for each in world.model.lines(world.state, REAL) if each[0].what != "begins a claim"]
        if not nexts:
            return []
        happened, after = world.random.choice(nexts)
        world.move(happened, after)
        own = after.workers[REAL]
        if own.turn:
            start, stop = own.turn
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
        return None if self.world.state.published == NEVER else Committed(self.world.state.published)

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
        assert (own.line, own.claim) == ("poll", offset)

    def hold(self, partitions: Sequence[int]) -> None:
        assert self.world.line == "poll"


@dataclass
class SteppedStore:
    """`pipeline.stream.ports.Store` that advances the model."""

    world: World

    def claim(self, partition: int, owner: str) -> Claim:
        self.world.request("raise")
        return Claim(partition, 1, self.world.state.workers[REAL].claim)

    def recent(self, names: Sequence[str], depth: int, until: int | None = None) -> RecentHistory:
        whole = MemoryStore().recent(names, depth, until)
        return replace(whole, series_id=np.ones(len(names), np.int64))

    def place(self, names: Sequence[str], partition: int) -> set[str]:
        return set()

    def standing(self) -> Standing:
        return Standing({})

    def spread_after(self, number: int) -> set[str]:
        return set()

    def commit(self, turn: Turn) -> Forecasts:
        (advance,) = turn.advances
        own = self.world.state.workers[REAL]
        assert own.turn == (advance.start, advance.next_offset)
        assert turn.forecasts.offset.tolist() == [offset for offset, _ in own.todo]
        self.world.request("store")
        return turn.forecasts

    def unpublished(self, partition: int, start: int, stop: int) -> tuple[Forecasts, tuple[DeadLetter, ...]]:
        assert stop <= self.world.state.stored
        return self.world.forecasts.take(np.arange(start, stop)), ()

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

    def publish(self, forecasts: Forecasts, dead_letters: Sequence[DeadLetter], next_offsets: dict[int, int]) -> None:
        world = self.world
        own = world.state.workers[REAL]
        piece = own.todo[: world.model.bounds.transaction]
        more = own.todo[world.model.bounds.transaction :]
        assert forecasts.offset.tolist() == [offset for offset, _ in piece], "the messages of this transaction"
        assert next_offsets == {0: more[0][0] if more else own.target}, "the offset of this transaction"
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
        assert (held.claim.next_offset if held else NEVER) == own.claim, "worker and model hold the same claim"
        assert isinstance(one.parts.clock, Clock)
        one.parts.clock.advance(60)
    return deaths
