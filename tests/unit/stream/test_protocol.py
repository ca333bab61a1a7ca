"""The commit protocol under crashes at every point, over an in-memory outside."""

import inspect
import itertools
import sys
import types
from collections import Counter
from contextlib import suppress
from unittest.mock import patch

import numpy as np
import pytest

from pipeline.errors import ConfigError, Corrupt, Fenced, Unavailable
from pipeline.kafka.publisher import name_transactions
from pipeline.records import DEAD_LETTER, Claim, DeadLetter, Forecasts, Messages, Turn
from pipeline.settings import SeriesSettings
from pipeline.stream import turn
from pipeline.stream.claim import Accept
from pipeline.stream.worker import Worker
from tests.fakes import Clock, MemoryCalibrations, MemoryPublisher, MemorySource, MemoryStore, MemoryTopics
from tests.unit.workers import event, panel, run_dry, worker

POINTS = (
    "after_poll",
    "before_sql",
    "after_sql",
    "in_publish",
    "after_publish",
    "in_claim_after_sql",
    "in_claim_before_publish",
    "in_claim_after_publish",
)
EVERY = SeriesSettings(context=12, horizon=3, season=4, on="every_step")


class CrashError(BaseException):
    """The process died here."""


class CrashAt:
    """Die at a named point on its `turn`-th passing."""

    def __init__(self, point: str, turn: int) -> None:
        self.left = Counter({point: turn})

    def __call__(self, point: str) -> None:
        if point in self.left:
            self.left[point] -= 1
            if self.left[point] == 0:
                raise CrashError(point)


def filled() -> MemoryTopics:
    """Two partitions with 40 steps of two series each, and a bad message in the middle."""
    left, right = panel(["a", "b"], 40), panel(["c", "d"], 40)
    left.insert(21, (b"x", b"{not json"))
    return MemoryTopics(inputs={0: left, 1: right})


def nothing_stored() -> MemoryStore:
    """An empty store of the value and two covariates."""
    return MemoryStore(covariates=("temperature", "wind"))


def check_exactly_once(store: MemoryStore, topics: MemoryTopics) -> None:
    """Every event once in SQL, every forecast once in SQL and on the topic, and the two the same."""
    assert sum(events for _, _, events in store.observations.values()) == 160
    assert len(store.observations) == 160
    for (series, at, name), cell in store.past.items():
        step, _, _ = store.observations[series, at]
        known = name == "temperature" or step % 4 > 0
        value = step / 2 if name == "temperature" else -step
        assert cell == ((value, True, 1) if known else (0.0, False, 0)), "a covariate is stored once, with its value"
    assert Counter(name for _, _, name in store.past) == {"temperature": 160, "wind": 160}
    stored = [
        (int(part.partition[i]), int(part.offset[i]), name, int(part.calibration[i]), part.quantiles[i].tobytes())
        for part in store.forecasts
        for i, name in enumerate(part.series)
    ]
    assert len(stored) == 160, "one forecast per series and step"
    assert sorted(stored) == sorted(topics.output)
    assert [letter.offset for letter in topics.letters] == [21]
    assert [letter.offset for letter in store.letters] == [21]
    assert topics.offsets == {0: 81, 1: 80}
    assert {at: offset for at, (_, offset) in store.state.items()} == topics.offsets


@pytest.mark.parametrize(("point", "turn"), list(itertools.product(POINTS, (1, 2, 3))))
def test_a_crash_at_any_point_loses_and_doubles_nothing(point: str, turn: int) -> None:
    store, topics = nothing_stored(), filled()
    crash = CrashAt(point, turn)
    with pytest.raises(CrashError):
        run_dry(worker(store, topics, series=EVERY, most=17, passed=crash))
        run_dry(worker(store, topics, series=EVERY, most=17, passed=crash))  # points of the claim come with restarts
        run_dry(worker(store, topics, series=EVERY, most=17, passed=crash))
    run_dry(worker(store, topics, series=EVERY, most=17))
    check_exactly_once(store, topics)


@pytest.mark.parametrize(("first", "second"), list(itertools.product(POINTS, POINTS)))
def test_two_crashes_in_a_row_lose_and_double_nothing(first: str, second: str) -> None:
    store, topics = nothing_stored(), filled()
    for point in (first, second):
        try:
            run_dry(worker(store, topics, series=EVERY, most=23, passed=CrashAt(point, 1)))
        except CrashError:
            continue
    run_dry(worker(store, topics, series=EVERY, most=23))
    check_exactly_once(store, topics)


@pytest.mark.parametrize("point", POINTS)
def test_sql_and_topic_name_the_same_calibration_when_it_changes_around_a_crash(point: str) -> None:
    store, topics, calibrations = nothing_stored(), filled(), MemoryCalibrations()
    calibrations.store(0, [[1.0 if place == 6 else 2.0 for place in range(13)]] * 3)
    with pytest.raises(CrashError):
        for _ in range(3):  # points of the claim come with restarts
            crash = CrashAt(point, 1)
            run_dry(worker(store, topics, series=EVERY, most=17, passed=crash, calibrations=calibrations))
    calibrations.store(0, [[1.0 if place == 6 else 0.5 for place in range(13)]] * 3)
    run_dry(worker(store, topics, series=EVERY, most=17, calibrations=calibrations))
    check_exactly_once(store, topics)
    carried = {version for *_, version, _ in topics.output}
    assert carried <= {1, 2} and 2 in carried


@pytest.mark.parametrize("error", [Unavailable("away"), Fenced("stale")])
@pytest.mark.parametrize("point", POINTS)
def test_a_failure_at_any_point_heals_without_a_restart(point: str, error: Exception) -> None:
    store, topics = nothing_stored(), filled()
    left = Counter({point: 2})

    def fail(passed: str) -> None:
        left[passed] -= 1
        if left[passed] == 0:
            raise error

    run_dry(worker(store, topics, series=EVERY, most=17, passed=fail))
    check_exactly_once(store, topics)


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("stubs", [True, False])
def test_what_a_topic_refuses_stays_in_sql_and_stops_nothing(point: str, stubs: bool) -> None:
    """Every forecast of one series is refused, and the letter, or the letter's stub, too."""
    store, topics = nothing_stored(), filled()

    def refuses(name: str, letter: DeadLetter | None) -> bool:
        return name == "c" if letter is None else letter.left_because is None or not stubs

    topics.refuses = refuses
    crash = CrashAt(point, 1)
    with suppress(CrashError):
        run_dry(worker(store, topics, series=EVERY, most=17, passed=crash))
        run_dry(worker(store, topics, series=EVERY, most=17, passed=crash))
    run_dry(worker(store, topics, series=EVERY, most=17))
    assert topics.offsets == {0: 81, 1: 80}
    assert Counter(name for _, _, name, *_ in topics.output) == {"a": 40, "b": 40, "d": 40}
    assert [letter.left_because for letter in topics.letters] == (["refused"] if stubs else [])
    assert len(store.left) == 40 + 1
    assert store.left[0, 21, DEAD_LETTER] == "refused"


def test_an_owner_that_wakes_up_stores_and_publishes_nothing() -> None:
    store, topics = nothing_stored(), filled()
    frozen = worker(store, topics, series=EVERY, most=17)
    frozen.step()  # it has claimed and taken its first turn
    frozen.step()
    topics.generation += 1
    run_dry(worker(store, topics, series=EVERY, most=17, owner="new"))
    before = (dict(store.state), len(topics.output))
    frozen.step()
    assert frozen.owned == {}, "it noticed that it was fenced"
    assert (store.state, len(topics.output)) == before
    check_exactly_once(store, topics)


def test_an_owner_that_wakes_between_the_commits_publishes_nothing() -> None:
    store, topics = nothing_stored(), filled()
    new: list[Worker] = []

    def sleep(point: str) -> None:
        if point == "after_sql" and not new:
            topics.generation += 1  # it slept through a rebalance; the new owner does everything
            new.append(worker(store, topics, series=EVERY, most=17, owner="new"))
            run_dry(new[0])

    frozen = worker(store, topics, series=EVERY, most=17, passed=sleep)
    frozen.step()
    frozen.step()
    assert new
    check_exactly_once(store, topics)


def test_a_revoked_partition_is_left_alone() -> None:
    store, topics = nothing_stored(), filled()
    one = worker(store, topics, most=5)
    one.step()
    one.step()
    assert isinstance(one.parts.source, MemorySource)
    one.parts.source.waiting = [(0, False)]
    one.parts.source.positions.pop(0)
    offset = store.state[0]
    for _ in range(5):
        one.step()
    assert store.state[0] == offset
    assert set(one.owned) == {1}


def test_a_database_older_than_the_topic_is_refused_until_it_is_accepted() -> None:
    store, topics = nothing_stored(), filled()
    run_dry(worker(store, topics, series=EVERY))
    published = list(topics.output)
    older = nothing_stored()  # restored from an empty backup
    with pytest.raises(ConfigError, match="--accept-database-rewind"):
        worker(older, topics, series=EVERY).step()
    again = worker(older, topics, series=EVERY)
    again._accept = Accept.DATABASE_REWIND
    for _ in range(5):
        again.step()
    assert topics.output == published, "nothing is published twice"
    check_exactly_once(older, topics)
    topics.inputs[0].append(event("a", 40, 40.0))
    again.step()
    assert len(topics.output) == len(published) + 1, "and it goes on publishing above"


def test_a_lost_group_offset_is_refused_until_it_is_accepted() -> None:
    store, topics = nothing_stored(), filled()
    run_dry(worker(store, topics, series=EVERY))
    del topics.offsets[0]
    with pytest.raises(ConfigError, match="--accept-offsets-lost"):
        worker(store, topics, series=EVERY).step()
    again = worker(store, topics, series=EVERY)
    again._accept = Accept.OFFSETS_LOST
    run_dry(again)
    check_exactly_once(store, topics)


def test_offsets_that_retention_deleted_are_recorded() -> None:
    store, topics = nothing_stored(), filled()
    topics.beginnings[0] = 30
    run_dry(worker(store, topics))
    assert store.jumps == [(0, 0, 30, "the topic begins here")]


class HalfWay(MemoryPublisher):
    """Dies after some transactions of one turn."""

    def __init__(self, topics: MemoryTopics, good: int) -> None:
        super().__init__(topics)
        self.good = good

    def publish(self, *arguments: object) -> None:
        self.good -= 1
        if self.good < 0:
            raise CrashError("between two transactions of a turn")
        super().publish(*arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("good", range(2, 25, 3))
def test_a_turn_of_many_transactions_can_die_between_any_two(good: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.stream.turn.MOST_MESSAGES", 7)
    store, topics = nothing_stored(), filled()
    dying = worker(store, topics, series=EVERY)
    object.__setattr__(dying.parts, "publisher", HalfWay(topics, good))
    with pytest.raises(CrashError):
        run_dry(dying)
    run_dry(worker(store, topics, series=EVERY))
    check_exactly_once(store, topics)


def test_publishing_before_storing_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    source = inspect.getsource(turn)
    store, publish = (
        source[source.index(f'    with parts.phases.measure("{name}")') :].split('    parts.passed("after')[0]
        for name in ("store", "publish")
    )
    early = publish.replace("stored, letters", "forecasts, letters").replace(
        "turn.advances", "_advances(runs, owned, off_grid)"
    )
    moved = source.replace(publish, "").replace(store, early + '    parts.passed("between")\n' + store)
    module = types.ModuleType("moved_turn")
    monkeypatch.setitem(sys.modules, "moved_turn", module)
    exec(compile(moved, "moved_turn", "exec"), module.__dict__)
    monkeypatch.setattr("pipeline.stream.worker.take_turn", module.take_turn)
    memory, topics = nothing_stored(), filled()
    with pytest.raises(CrashError):
        run_dry(worker(memory, topics, series=EVERY, most=17, passed=CrashAt("between", 2)))
    with pytest.raises(ConfigError, match="older backup"):  # K > S: published and not stored
        run_dry(worker(memory, topics, series=EVERY, most=17))


def test_a_worker_that_is_not_settled_in_the_group_claims_nothing() -> None:
    store, topics = nothing_stored(), filled()
    one = worker(store, topics)
    assert isinstance(one.parts.source, MemorySource)
    one.parts.source.settled = False
    one.step()
    assert (store.state, one.owned) == ({}, {})
    one.parts.source.settled = True
    run_dry(one)


def test_a_partition_assigned_and_revoked_within_one_poll_is_not_claimed() -> None:
    store, topics = nothing_stored(), filled()
    one = worker(store, topics)
    assert isinstance(one.parts.source, MemorySource)
    one.parts.source.waiting = [(0, True), (1, True), (0, False)]
    one.step()
    assert set(one.owned) == {1}
    assert 0 not in store.state


def test_what_a_poll_brought_before_a_partition_was_given_back_is_not_taken_for_the_new_claims() -> None:
    store, topics = MemoryStore(), MemoryTopics(inputs={0: panel(["a"], 10)})
    one = worker(store, topics)
    run_dry(one)
    topics.inputs[0] += panel(["a"], 11)[10:]
    assert isinstance(one.parts.source, MemorySource)
    one.parts.source.waiting = [(0, False), (0, True)]
    one.step()
    run_dry(one)
    assert (len(store.observations), topics.offsets) == (11, {0: 11})


def test_a_topic_that_is_shorter_than_what_was_stored_is_refused() -> None:
    store, topics = nothing_stored(), filled()
    run_dry(worker(store, topics))
    topics.inputs[0] = topics.inputs[0][:10]
    with pytest.raises(ConfigError, match="Kafka has lost messages"):
        worker(store, topics).step()


def test_a_message_that_is_delivered_again_stops_the_worker() -> None:
    store, topics = nothing_stored(), filled()
    one = worker(store, topics, most=5)
    one.step()
    one.step()
    assert isinstance(one.parts.source, MemorySource)
    one.parts.source.positions[0] = 0
    with pytest.raises(Corrupt, match="delivered offset 0 again"):
        one.step()


def test_a_turn_that_fails_is_tried_again_with_fewer_messages_and_longer_pauses() -> None:
    store, topics = nothing_stored(), filled()
    topics.inputs[0] = panel(["a"], 2_000)
    one = worker(store, topics, most=20_000)
    sizes: list[int] = []

    def too_large(turn: Turn) -> Forecasts:
        sizes.append(sum(advance.next_offset - advance.start for advance in turn.advances))
        if sizes[-1] > 300:
            raise Unavailable("statement timeout")
        return MemoryStore.commit(store, turn)

    store.commit = too_large  # type: ignore[method-assign]
    one._limit = one._most = 1_600
    run_dry(one, steps=200)
    assert sizes[0] > 300
    assert min(sizes) <= 300
    assert sum(events for _, _, events in store.observations.values()) == 2_000 + 80


def test_pauses_grow_and_stay_bounded_however_long_an_outage_lasts() -> None:
    store, topics = nothing_stored(), filled()
    one = worker(store, topics)
    one._failures = 5_000
    one._start_over(Unavailable("still away"))
    assert one._wait_until - one.parts.timer() == 30_000_000


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_is_moved_changes_no_pause(hours: int) -> None:
    store, topics = nothing_stored(), filled()
    one = worker(store, topics)
    timer = Clock()
    object.__setattr__(one.parts, "timer", timer)
    clock, claim, tries = one.parts.clock, store.claim, []
    assert isinstance(clock, Clock)

    def away(partition: int, owner: str) -> Claim:
        tries.append(timer())
        raise Unavailable("away")

    store.claim = away  # type: ignore[method-assign]
    began = timer()
    for _ in range(40):
        clock.advance(hours * 3600)
        timer.advance(0.1)
        one.step()
    assert [(at - began) / 1e6 for at in tries] == pytest.approx([0.1, 0.6, 1.6, 3.6]), "pauses of 0.5, 1 and 2 seconds"
    store.claim = claim  # type: ignore[method-assign]
    timer.advance(4.1)
    one.step()
    assert one.owned.keys() == {0, 1}


def test_polls_that_fail_during_a_pause_neither_lengthen_it_nor_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that refuses connections fails every poll at once, several times a second."""
    one = worker(nothing_stored(), filled())
    run_dry(one)
    clock, source, pauses = one.parts.clock, one.parts.source, []
    assert isinstance(clock, Clock)
    begun = one._start_over
    monkeypatch.setattr(one, "_start_over", lambda error: (pauses.append(clock()), begun(error)))

    def refused(most: int) -> list[Messages]:
        raise Unavailable("connection refused")

    with monkeypatch.context() as outage:
        outage.setattr(source, "poll", refused)
        for _ in range(100):
            one.step()
            clock.advance(0.1)
    assert len(pauses) == 5  # of 0.5, 1, 2, 4 and 8 seconds
    assert one._wait_until - clock() < 8_000_000
    run_dry(one)


@pytest.mark.parametrize(("context", "horizon", "most"), [(12, 3, 20_000), (12, 100, 10_000), (5_000, 3, 6_666)])
def test_long_horizons_and_windows_of_many_covariates_make_turns_smaller(context: int, horizon: int, most: int) -> None:
    series = SeriesSettings(context=context, horizon=horizon, season=4)
    assert worker(nothing_stored(), filled(), series=series)._limit == most  # two covariates


def test_runs_that_an_unreadable_batch_has_split_are_observed_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    store, topics = nothing_stored(), MemoryTopics(inputs={0: panel(["a"], 9)})
    one = worker(store, topics)
    assert isinstance(one.parts.source, MemorySource)
    monkeypatch.setattr(one.parts.source, "poll", lambda _: [])
    one.step()  # it has claimed

    def run(first: int, last: int, unreadable: str | None = None) -> Messages:
        keys, values = zip(*topics.inputs[0][first:last], strict=True)
        return Messages(0, np.arange(first, last), keys, values, last, unreadable)

    taken = turn.take_turn([run(0, 4), run(4, 5, "CRC"), run(5, 9)], one.owned, one.parts)
    assert (taken.messages, taken.observations, taken.dead_letters) == (9, 8, 1)
    temperatures = [value for (_, _, name), (value, _, _) in sorted(store.past.items()) if name == "temperature"]
    assert temperatures == [0.0, 0.5, 1.0, 1.5, 2.5, 3.0, 3.5, 4.0]


def test_a_topic_that_was_made_anew_is_refused_before_anything_of_it_is_stored() -> None:
    store, topics = nothing_stored(), filled()
    one = worker(store, topics, series=EVERY, most=17)
    for _ in range(3):
        one.step()
    before = dict(store.state)
    topics.ids["input"] = "second"
    with pytest.raises(ConfigError, match="--accept-new-topic"):
        one.step()
    assert store.state == before
    again = worker(store, topics, series=EVERY, most=17)
    with pytest.raises(ConfigError, match="deleted and made anew"):
        again.step()
    topics.inputs = {0: panel(["a", "b"], 40), 1: panel(["c", "d"], 40)}
    accepting = worker(store, topics, series=EVERY, most=17)
    accepting._accept = Accept.NEW_TOPIC
    run_dry(accepting)
    assert list(store.retired) == ["first"]
    assert {at: offset for at, (_, offset) in store.state.items()} == {0: 80, 1: 80} == topics.offsets
    assert len(store.observations) == 160
    assert len(store.jumps) == 2


@pytest.mark.parametrize("gone", ["input", "output"])
def test_a_topic_that_is_gone_is_waited_for_and_an_output_topic_made_anew_is_refused(gone: str) -> None:
    store, topics = nothing_stored(), filled()
    one = worker(store, topics, series=EVERY, most=17)
    one.step()
    one.step()
    kept = topics.ids.pop(gone)
    one.step()
    assert "does not exist any more" in str(one.parts.worker_state.setback)
    topics.ids[gone] = kept
    run_dry(one)
    check_exactly_once(store, topics)
    topics.inputs[0].append(event("a", 40, 40.0))
    topics.ids["output"] = "another"
    with pytest.raises(ConfigError, match="topic output was deleted and made anew"):
        one.step()
    assert store.state[0][1] == 81, "nothing was stored that could not be published"


@pytest.mark.parametrize("gone", [["input"], ["input", "output", "letters"]])
def test_a_topic_that_is_gone_with_the_groups_offsets_is_waited_for_until_it_is_made_anew(gone: list[str]) -> None:
    store, topics = nothing_stored(), filled()
    one = worker(store, topics, series=EVERY, most=17)
    assert isinstance(one.parts.clock, Clock)
    one.step()
    one.step()
    stored = store.state[0][1]
    topics.offsets.clear()  # as the broker does when a topic is deleted
    for name in gone:
        del topics.ids[name]
    for _ in range(5):
        one.step()
        one.parts.clock.advance(60)
        assert "does not exist" in str(one.parts.worker_state.setback)
    assert store.state[0][1] == stored
    topics.ids |= {"input": "second", "output": "one", "letters": "two"}
    with pytest.raises(ConfigError, match="made anew"):
        one.step()


def test_a_quiet_topic_is_looked_at_too() -> None:
    store, topics = nothing_stored(), filled()
    one = worker(store, topics, series=EVERY)
    run_dry(one)
    topics.ids["input"] = "second"
    with pytest.raises(ConfigError, match="made anew"):
        one.step()


def test_no_two_workers_have_one_name_for_their_transactions() -> None:
    names = {
        (group, instance): name_transactions(group, instance)
        for group in ("a", "a-b", "a-1")
        for instance in ("b-c", "c", "1", "1-1", "b", "b-1")
    }
    assert len(set(names.values())) == len(names)
    assert all(name.startswith(f"{group}-") for (group, _), name in names.items())


@pytest.mark.parametrize("reset", [0, 3, 500])
def test_an_offset_that_a_tool_has_set_doubles_and_loses_nothing(reset: int) -> None:
    store, topics = nothing_stored(), filled()
    run_dry(worker(store, topics, series=EVERY, most=17))
    check_exactly_once(store, topics)
    topics.offsets[0] = reset
    topics.reset.add(0)
    store.turn_starts = {0: 68, 1: 68}
    with pytest.raises(ConfigError, match="no worker committed it"):
        worker(store, topics, series=EVERY, most=17).step()
    again = worker(store, topics, series=EVERY, most=17)
    again._accept = Accept.OFFSETS_LOST
    topics.inputs[0].append(event("a", 40, 40.0))
    for _ in range(4):
        again.step()
    assert topics.offsets[0] == 82
    assert len(topics.output) == 161, "each forecast once, the new one too"


def test_a_partition_that_nobody_has_is_adopted_once_it_lasts() -> None:
    store, topics = nothing_stored(), filled()
    topics.orphans = {1}
    one = worker(store, topics, series=EVERY)
    source, clock = one.parts.source, one.parts.clock
    assert isinstance(source, MemorySource)
    assert isinstance(clock, Clock)
    source.waiting = [(0, True)]
    one.step()
    clock.advance(5)
    one.step()
    assert topics.orphans == {1}, "a rebalance may be under way"
    clock.advance(15)
    one.step()
    assert topics.orphans == set()
    run_dry(one)
    check_exactly_once(store, topics)


def test_a_group_that_cannot_be_described_stops_no_worker() -> None:
    store, topics = nothing_stored(), filled()
    one = worker(store, topics, series=EVERY)
    with patch.object(one.parts.source, "orphans", side_effect=Unavailable("no coordinator")):
        run_dry(one)
    check_exactly_once(store, topics)
