"""An explicit-state model of the commit protocol: two workers, one partition, and everything that can go wrong.

A `State` is all that SQL, Kafka, the group and the workers know. `successors` lists every single thing that can happen
next: a worker runs the line it is at, or the outside moves. `explore` visits every state that can be reached, breadth
first, so the trace to the first broken promise is a shortest one.

A crash, a failed or delayed request, a forgotten member, a rebalance may come at any line. Numbers that only grow are
reduced to what is ever asked of them: an epoch, a generation and a producer's epoch are each the newest or an older
one, so that the states are finitely many even where faults are not bounded. A frozen worker is one that takes no steps
for a while, so zombies are in every interleaving. A request that failed may still be on its way and land at any later
time, one such at a time; landing at once is the lost reply.

The lines are those of pipeline.stream.turn and pipeline.stream.claim; a `Mutant` moves or drops one.
tests/faults/test_model.py runs the real worker in lockstep with them.
"""

import gc
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

Row = tuple[int, int]  # a forecast: its message's offset, and the worker that made it, whose model may be another one
NEVER = -1
"""No offset, no partition's owner."""


class Mutant(Enum):
    """A line of the protocol, or a check of its outside, that is wrong."""

    PUBLISH_FIRST = "Kafka before SQL"
    NO_FENCE = "no compare-and-set of epoch and offset in SQL"
    NO_EPOCH = "no check of the epoch, only of the offset"
    NO_START = "no check of the offset, only of the epoch"
    NO_GENERATION = "the group's generation is not sent with the offsets"
    UNSETTLED = "a worker that the group has forgotten publishes"
    RECOMPUTED = "the outbox is computed again"
    NO_OFFSETS = "offsets are not in the transaction"
    READ_UNCOMMITTED = "K is read past a pending transaction"
    SAME_PRODUCER = "the producer is kept after an error"
    KEPT_CLAIM = "the claim is kept after an error"


@dataclass(frozen=True)
class Bounds:
    """How large a world: messages of the input, of one turn, and of one Kafka transaction.

    `twins`: the two workers have one instance name, so one transactional id and one place in the group.
    """

    messages: int = 2
    turn: int = 2
    transaction: int = 1
    twins: bool = False


class Worker(NamedTuple):
    """A process. `knows`: the group's generation as it knows it is the newest, an older one, or none at all."""

    line: str = "poll"
    knows: str = "nothing"
    assigned: bool = False
    producer: str = "none"  # its epoch: newest, older
    claim: int = NEVER  # the next offset as the claim knows it
    holds: bool = False  # the claim's epoch is the newest
    turn: tuple[int, int] | None = None
    todo: tuple[Row, ...] = ()
    target: int = NEVER


class Pending(NamedTuple):
    """A Kafka transaction that is open, or decided and not yet marked in the logs."""

    decided: bool = False
    messages: tuple[Row, ...] = ()
    offset: int = NEVER


class Delayed(NamedTuple):
    """A request that is on its way although its sender has given it up. `live`, `settled`: its epoch, generation."""

    line: str
    sender: int
    live: bool
    settled: bool
    rows: tuple[Row, ...] = ()
    start: int = NEVER
    stop: int = NEVER


class State(NamedTuple):
    """Everything. S is `stored`, K is `published`; `output` is what a read_committed reader gets."""

    workers: tuple[Worker, ...] = (Worker(), Worker())
    rows: tuple[Row, ...] = ()
    stored: int = 0
    published: int = NEVER
    output: tuple[Row, ...] = ()
    pending: tuple[Pending | None, ...] = (None, None)
    owner: int = NEVER
    members: tuple[bool, ...] = (False, False)
    delayed: Delayed | None = None


class Event(NamedTuple):
    """One thing that happened: who, what, and whether it is a fault."""

    who: str
    what: str
    fault: bool = False

    def __str__(self) -> str:
        return f"{self.who}: {self.what}" + (" [fault]" if self.fault else "")


class Refused(Exception):
    """A request that was answered with an error: this worker is fenced."""


REQUESTS = ("prepare", "raise", "store", "send", "offsets", "commit")
TO_KAFKA = ("prepare", "begin", "send", "offsets", "commit")


class Model:
    """The transitions of a world of some size, with at most one line moved."""

    def __init__(self, bounds: Bounds = Bounds(), mutant: Mutant | None = None) -> None:
        self.bounds = bounds
        self.mutant = mutant

    def successors(self, state: State, *, faults: bool = True) -> Iterator[tuple[Event, State]]:
        """Everything that can happen next, or everything but faults."""
        for i in range(len(state.workers)):
            yield from (each for each in self.lines(state, i) if faults or not each[0].fault)
            if faults:
                yield from self.faults(state, i)
        yield from (each for each in self.outside(state) if faults or not each[0].fault)

    def lines(self, state: State, i: int) -> Iterator[tuple[Event, State]]:
        """What worker i does if it is not disturbed."""
        own = state.workers[i]
        if own.line == "poll":
            yield from self._poll(state, i)
        else:
            try:
                after = self._request(state, i)
            except Refused as refused:
                yield event(i, f"is refused at {own.line}: {refused}"), self.start_over(state, i)
            else:
                if after is not None:
                    yield event(i, own.line), after

    def faults(self, state: State, i: int) -> Iterator[tuple[Event, State]]:
        """What can befall worker i."""
        own = state.workers[i]
        if own != Worker():
            yield event(i, "crashes", fault=True), put_worker(state, i, Worker())
        late = None if state.delayed else self._delayed(state, i)
        if late and not self.is_dead(state, late):
            sent = state._replace(delayed=late)
            yield event(i, f"gets an error at {own.line}, which is on its way", fault=True), self.start_over(sent, i)
            crashed = put_worker(sent, i, Worker())
            yield event(i, f"crashes at {own.line}, which is on its way", fault=True), crashed
        elif own.line != "poll":
            yield event(i, f"gets an error at {own.line}", fault=True), self.start_over(state, i)
        if state.members[i]:
            yield Event("group", f"forgets worker {i}", fault=True), self._forget(state, i)
            yield (
                Event("group", f"gives the partition to worker {i}", fault=True),
                new_generation(state)._replace(owner=i),
            )

    def outside(self, state: State) -> Iterator[tuple[Event, State]]:
        """What Kafka and the network do by themselves."""
        for at, pending in enumerate(state.pending):
            if pending and pending.decided:
                yield Event("kafka", f"marks the transaction of id {at} as committed"), mark(state, at)
            elif pending:
                alive = any(self._id(i) == at and own.producer == "newest" for i, own in enumerate(state.workers))
                happened = Event("kafka", f"times out the transaction of id {at}", fault=alive)
                yield happened, self._fence_producers(state, at)
        if state.delayed:
            try:
                landed = self._land(state._replace(delayed=None), state.delayed)
            except Refused:
                landed = None
            if landed is not None:
                yield Event("network", f"delivers {state.delayed.line} of worker {state.delayed.sender}"), landed
            yield Event("network", f"loses {state.delayed.line}"), state._replace(delayed=None)
        for i, own in enumerate(state.workers):
            if own.knows == "older" and not state.members[i]:
                yield event(i, "notices that the group has forgotten it"), put(state, i, knows="nothing")

    def broken(self, state: State) -> str | None:
        """Say which promise a state breaks, or None."""
        decided = [pending for pending in state.pending if pending and pending.decided]
        output = sorted(row for part in (state.output, *(each.messages for each in decided)) for row in part)
        published = max([state.published, *(each.offset for each in decided), 0])
        if [offset for offset, _ in state.rows] != list(range(state.stored)):
            return f"an event is not exactly once in SQL: rows {state.rows}, S = {state.stored}"
        if published > state.stored:
            return f"K > S: {published} > {state.stored}"
        offsets = [offset for offset, _ in output]
        if len(set(offsets)) < len(offsets):
            return f"a message is doubled on the output topic: {output}"
        if offsets != list(range(published)):
            return f"the output topic and K disagree: {output}, K = {published}"
        if not set(output) <= set(state.rows):
            return f"SQL and the topic disagree: {state.rows} and {output}"
        return None

    def done(self, state: State) -> bool:
        """Lag 0: everything is stored and published, and nothing is pending."""
        reached = state.stored == state.published == len(state.output) == self.bounds.messages
        return reached and state.pending == (None, None)

    def start_over(self, state: State, i: int) -> State:
        """What Worker._start_over leaves: no claim, and no producer if it was the producer that failed."""
        own = state.workers[i]
        kept = own.line not in TO_KAFKA or self.mutant is Mutant.SAME_PRODUCER
        fresh = own._replace(line="poll", claim=NEVER, holds=False, turn=None, todo=(), target=NEVER)
        if self.mutant is Mutant.KEPT_CLAIM and own.turn and own.line in TO_KAFKA:
            fresh = fresh._replace(claim=own.turn[1], holds=own.holds)
        return put_worker(state, i, fresh if kept else fresh._replace(producer="none"))

    def _poll(self, state: State, i: int) -> Iterator[tuple[Event, State]]:
        own = state.workers[i]
        if own.knows != "newest":
            replaces = self.bounds.twins and any(member and j != i for j, member in enumerate(state.members))
            yield event(i, "polls and joins", fault=replaces), self._join(state, i)
        if own.assigned and own.claim == NEVER and own.knows != "nothing":
            yield event(i, "begins a claim"), put(state, i, line="prepare")
        elif own.assigned and own.claim != NEVER:
            for stop in range(own.claim + 1, min(own.claim + self.bounds.turn, self.bounds.messages) + 1):
                todo = tuple((offset, i) for offset in range(own.claim, stop))
                line = "begin" if self.mutant is Mutant.PUBLISH_FIRST else "store"
                turned = put(state, i, line=line, turn=(own.claim, stop), todo=todo, target=stop)
                yield event(i, f"polls and scores [{own.claim}, {stop})"), turned

    def _request(self, state: State, i: int) -> State | None:
        """Run a line that asks SQL or Kafka; None while there is no answer. Raises Refused."""
        own = state.workers[i]
        match own.line:
            case "prepare":
                ready = state if own.producer != "none" else self._new_producer(state, i)
                return ready and put(ready, i, line="raise")
            case "raise":
                return put(raise_epoch(state), i, line="read", claim=state.stored, holds=True)
            case "read":
                return self._read(state, i)
            case "begin":
                if own.knows == "nothing" and self.mutant is not Mutant.UNSETTLED:
                    raise Refused("no settled member")
                if own.producer == "none":
                    return self._new_producer(state, i)
                return put(state, i, line="send" if own.todo else "offsets")
            case "store":
                after = self._store(state, own.holds, own.todo, own.turn or (NEVER, NEVER))
                if self.mutant is Mutant.PUBLISH_FIRST:
                    return put(after, i, line="poll", turn=None, claim=own.turn[1] if own.turn else NEVER)
                return put(after, i, line="begin")
            case "send":
                after = self._send(state, self._id(i), own.producer == "newest", self._piece(own))
                return after and put(after, i, line="commit" if self.mutant is Mutant.NO_OFFSETS else "offsets")
            case "offsets":
                empty = self.mutant is Mutant.UNSETTLED and own.knows == "nothing" and not any(state.members)
                settled = own.knows == "newest" or empty
                after = self._offsets(state, self._id(i), (own.producer == "newest", settled), self._reached(own))
                return after and put(after, i, line="commit")
            case _:
                after = self._commit(state, self._id(i), own.producer == "newest")
                return after and self._published(after, i)

    def _land(self, state: State, late: Delayed) -> State | None:
        match late.line:
            case "prepare":
                return self._fence_producers(state, self._id(late.sender))
            case "raise":
                return raise_epoch(state)
            case "store":
                return self._store(state, late.live, late.rows, (late.start, late.stop))
            case "send":
                at = self._id(late.sender)
                return self._send(state, at, late.live and state.pending[at] is not None, late.rows)
            case "offsets":
                return self._offsets(state, self._id(late.sender), (late.live, late.settled), late.stop)
            case _:
                return self._commit(state, self._id(late.sender), late.live)

    def is_dead(self, state: State, late: Delayed) -> bool:
        """Tell whether a request would be refused whenever it comes; then it need not be remembered."""
        if late.line in ("prepare", "raise"):
            return False
        if late.line == "store":
            fenced = not late.live and self.mutant not in (Mutant.NO_FENCE, Mutant.NO_EPOCH)
            passed = state.stored > late.start and self.mutant not in (Mutant.NO_FENCE, Mutant.NO_START)
            return fenced or passed
        unsettled = late.line == "offsets" and not late.settled and self.mutant is not Mutant.NO_GENERATION
        return not late.live or unsettled

    def _delayed(self, state: State, i: int) -> Delayed | None:
        own = state.workers[i]
        if own.line not in REQUESTS or (own.line == "prepare" and own.producer != "none"):
            return None
        live = own.holds if own.line == "store" else own.producer == "newest"
        rows = own.todo if own.line == "store" else self._piece(own)
        start, stop = own.turn or (NEVER, NEVER)
        if own.line == "offsets":
            stop = self._reached(own)
        return Delayed(own.line, i, live, own.knows == "newest", rows, start, stop)

    def _read(self, state: State, i: int) -> State | None:
        own = state.workers[i]
        waits = any(pending and (pending.decided or pending.offset != NEVER) for pending in state.pending)
        if waits and self.mutant is not Mutant.READ_UNCOMMITTED:
            return None
        published = state.published
        if published >= own.claim:
            return put(state, i, line="poll")
        start = max(published, 0)
        todo = state.rows[start : own.claim]
        if self.mutant is Mutant.RECOMPUTED:
            todo = tuple((offset, i) for offset, _ in todo)
        return put(state, i, line="begin", todo=todo, target=own.claim, turn=None)

    def _store(self, state: State, holds: bool, rows: tuple[Row, ...], turn: tuple[int, int]) -> State:
        start, stop = turn
        epoch = holds or self.mutant in (Mutant.NO_FENCE, Mutant.NO_EPOCH)
        offset = state.stored == start or self.mutant in (Mutant.NO_FENCE, Mutant.NO_START)
        if not (epoch and offset):
            raise Refused("the partition has moved on")
        return state._replace(rows=state.rows + rows, stored=stop)

    def _send(self, state: State, at: int, live: bool, rows: tuple[Row, ...]) -> State | None:
        pending = self._open(state, at, live)
        return pending and put_pending(state, at, pending._replace(messages=pending.messages + rows))

    def _offsets(self, state: State, at: int, valid: tuple[bool, bool], offset: int) -> State | None:
        live, settled = valid
        if not settled and self.mutant is not Mutant.NO_GENERATION:
            raise Refused("the generation is over")
        pending = self._open(state, at, live)
        return pending and put_pending(state, at, pending._replace(offset=offset))

    def _commit(self, state: State, at: int, live: bool) -> State | None:
        pending = self._open(state, at, live)
        return pending and put_pending(state, at, pending._replace(decided=True))

    def _open(self, state: State, at: int, live: bool) -> Pending | None:
        """Return the open transaction of an id, a new one if there is none; None while one is being marked."""
        if not live:
            raise Refused("the producer's epoch is over")
        pending = state.pending[at] or Pending()
        return None if pending.decided else pending

    def _piece(self, own: Worker) -> tuple[Row, ...]:
        return own.todo[: self.bounds.transaction]

    def _reached(self, own: Worker) -> int:
        more = own.todo[self.bounds.transaction :]
        return more[0][0] if more else own.target

    def _published(self, state: State, i: int) -> State:
        own = state.workers[i]
        if more := own.todo[self.bounds.transaction :]:
            return put(state, i, line="begin", todo=more)
        if self.mutant is Mutant.PUBLISH_FIRST and own.turn:
            made = tuple((offset, i) for offset in range(*own.turn))
            return put(state, i, line="store", todo=made, target=NEVER)
        return put(state, i, line="poll", turn=None, todo=(), target=NEVER, claim=own.target)

    def _new_producer(self, state: State, i: int) -> State | None:
        """init_transactions: ends what is open under this id, waits for what is decided, raises the epoch."""
        at = self._id(i)
        pending = state.pending[at]
        if pending and pending.decided:
            return None
        return put(self._fence_producers(state, at), i, producer="newest")

    def _fence_producers(self, state: State, at: int) -> State:
        pending = state.pending[at]
        if pending and not pending.decided:
            state = put_pending(state, at, None)
        for i, own in enumerate(state.workers):
            if self._id(i) == at and own.producer == "newest":
                state = put(state, i, producer="older")
        late = state.delayed
        if late and late.line in TO_KAFKA and self._id(late.sender) == at:
            state = state._replace(delayed=late._replace(live=False))
        return state

    def _join(self, state: State, i: int) -> State:
        forgotten = state.workers[i].knows == "nothing"
        if not state.members[i] or state.owner == NEVER:
            for j in range(len(state.workers)):
                if self.bounds.twins and j != i and state.members[j]:
                    state = self._forget(state, j)  # another process of this name is replaced
            state = new_generation(state)
            members = tuple(j == i or member for j, member in enumerate(state.members))
            state = state._replace(members=members, owner=i if state.owner == NEVER else state.owner)
        state = put(state, i, knows="newest", assigned=state.owner == i)
        if state.owner != i or forgotten:
            return put(state, i, claim=NEVER, holds=False, turn=None)
        return state

    def _forget(self, state: State, i: int) -> State:
        members = tuple(member and j != i for j, member in enumerate(state.members))
        owner = NEVER if state.owner == i else state.owner
        return new_generation(state)._replace(members=members, owner=owner)

    def _id(self, i: int) -> int:
        return 0 if self.bounds.twins else i


def event(i: int, what: str, *, fault: bool = False) -> Event:
    return Event(f"worker {i}", what, fault)


def put(state: State, i: int, **fields: object) -> State:
    return put_worker(state, i, state.workers[i]._replace(**fields))  # type: ignore[arg-type]


def put_worker(state: State, i: int, own: Worker) -> State:
    return state._replace(workers=(*state.workers[:i], own, *state.workers[i + 1 :]))


def put_pending(state: State, at: int, pending: Pending | None) -> State:
    return state._replace(pending=(*state.pending[:at], pending, *state.pending[at + 1 :]))


def raise_epoch(state: State) -> State:
    """A new epoch in SQL: whoever held the partition does so no longer."""
    for i, own in enumerate(state.workers):
        if own.holds:
            state = put(state, i, holds=False)
    late = state.delayed
    return state._replace(delayed=late._replace(live=False)) if late and late.line == "store" else state


def new_generation(state: State) -> State:
    """A rebalance: what every member knows is of an older generation until it joins again."""
    for i, own in enumerate(state.workers):
        if own.knows == "newest":
            state = put(state, i, knows="older")
    late = state.delayed
    return state._replace(delayed=late._replace(settled=False)) if late else state


def mark(state: State, at: int) -> State:
    """A decided transaction becomes visible: its messages and its offset."""
    pending = state.pending[at]
    assert pending
    published = state.published if pending.offset == NEVER else pending.offset
    return put_pending(state, at, None)._replace(output=state.output + pending.messages, published=published)


@dataclass(frozen=True)
class Explored:
    """What came of it. `broken` is a promise and the events that break it; `stuck` are events to a state from which
    no continuation without faults reaches lag 0. `by_faults`: states that take so many faults to reach.
    """

    by_faults: tuple[int, ...]
    steps: int
    broken: tuple[str, tuple[Event, ...]] | None = None
    stuck: tuple[Event, ...] | None = None

    def __str__(self) -> str:
        counted = f"{sum(self.by_faults):,} states, by faults {self.by_faults}, {self.steps:,} steps"
        if self.broken:
            return f"{self.broken[0]}\n{numbered(self.broken[1])}\n({counted})"
        if self.stuck is not None:
            return f"lag 0 is out of reach after\n{numbered(self.stuck)}\n({counted})"
        return f"every promise holds: {counted}"


def numbered(trace: tuple[Event, ...]) -> str:
    return "\n".join(f"{place:4d} {each}" for place, each in enumerate(trace, 1))


def explore(model: Model, faults: int | None = None) -> Explored:
    """Visit every state that at most `faults` faults reach, then go back from lag 0 along steps that are no faults.

    States are visited by the fewest faults that reach them and then by steps, and so a trace has the fewest faults.
    """
    gc.disable()  # millions of tuples without a cycle among them
    try:
        return _explore(model, faults)
    finally:
        gc.enable()


def _explore(model: Model, faults: int | None) -> Explored:
    first = State()
    number = {first: 0}
    came: list[tuple[int, Event] | None] = [None]
    before: list[list[int]] = [[]]  # along steps that are no faults
    goals: list[int] = []
    by_faults: list[int] = []
    steps = 0

    def trace(at: int) -> tuple[Event, ...]:
        events: list[Event] = []
        while (last := came[at]) is not None:
            events.append(last[1])
            at = last[0]
        return tuple(reversed(events))

    def visit(state: State, at: int, happened: Event) -> str | None:
        number[state] = len(came)
        came.append((at, happened))
        before.append([])
        return model.broken(state)

    level = [(first, 0, Event("", ""))]
    while level:
        more = faults is None or len(by_faults) < faults
        waiting: deque[State] = deque()
        worse: list[tuple[State, int, Event]] = []
        known = len(came)
        for state, at, happened in level:
            if state is first or state not in number:
                if state is not first and (broken := visit(state, at, happened)):
                    return Explored((*by_faults, len(came) - known), steps, broken=(broken, trace(len(came) - 1)))
                waiting.append(state)
        while waiting:
            state = waiting.popleft()
            at = number[state]
            if model.done(state):
                goals.append(at)
            for happened, following in model.successors(state, faults=more):
                steps += 1
                late = following.delayed
                after = following._replace(delayed=None) if late and model.is_dead(following, late) else following
                if happened.fault:
                    if after not in number:
                        worse.append((after, at, happened))
                    continue
                if after not in number:
                    if broken := visit(after, at, happened):
                        return Explored((*by_faults, len(came) - known), steps, broken=(broken, trace(len(came) - 1)))
                    waiting.append(after)
                before[number[after]].append(at)
        by_faults.append(len(came) - known)
        level = worse
    good = bytearray(len(came))
    for at in goals:
        good[at] = 1
    while goals:
        for earlier in before[goals.pop()]:
            if not good[earlier]:
                good[earlier] = 1
                goals.append(earlier)
    stuck = good.find(0)
    return Explored(tuple(by_faults), steps, stuck=None if stuck < 0 else trace(stuck))
