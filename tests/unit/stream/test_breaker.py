"""The breaker: when a share of bad messages stops a worker, and that nothing is stored, lost or doubled by it."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from pipeline.errors import ConfigError
from pipeline.grid.frequency import Frequency
from pipeline.messages.codec import Reader
from pipeline.records import DeadLetter, Kind, Messages
from pipeline.settings import InputSettings
from pipeline.settings.sources import load
from pipeline.stream.breaker import WINDOW, Breaker, Breakers, commonest, mark_bad, most_in_a_row
from pipeline.stream.worker import Worker
from tests.fakes import Clock, MemorySource, MemoryStore, MemoryTopics
from tests.unit.workers import panel, run_dry, worker

FLAGS = st.lists(st.booleans(), max_size=60)
LETTER = DeadLetter(0, 7, "value: 'x' is not a number", None, b'{"v": 1}', kind=Kind.FIELD)


def of(most_bad: float | None = 0.5, window: int = 10) -> Breaker:
    return Breaker(most_bad, window)


def flags(*runs: tuple[int, bool]) -> np.ndarray:
    return np.concatenate([np.full(count, bad) for count, bad in runs])


@given(FLAGS, FLAGS, st.integers(1, 70))
def test_the_most_in_a_row_is_what_counting_every_window_finds(
    before: list[bool], bad: list[bool], window: int
) -> None:
    whole = before + bad
    ends = range(len(before) + 1, len(whole) + 1)
    wanted = max((sum(whole[max(0, end - window) : end]) for end in ends), default=0)
    assert most_in_a_row(np.array(before, bool), np.array(bad, bool), window) == wanted


@given(st.lists(FLAGS, max_size=8), st.integers(1, 30), st.floats(0.05, 0.95))
def test_below_the_limit_it_never_trips_and_above_it_always(turns: list[list[bool]], window: int, limit: float) -> None:
    breaker, came = of(limit, window), [False] * window
    for turn in turns:
        marks = np.array(turn, bool)
        now = came + turn
        most = max((sum(now[end - window : end]) for end in range(len(came) + 1, len(now) + 1)), default=0)
        if most > limit * window:
            assert breaker.check(marks, [LETTER]) is not None
            assert breaker.tripped is not None
            return
        assert breaker.check(marks, [LETTER]) is None
        breaker.remember(marks)
        assert breaker.tripped is None
        came = now


@given(st.lists(FLAGS, max_size=20), st.integers(1, 30), st.floats(0.05, 0.95))
def test_it_refuses_only_turns_that_have_bad_messages(turns: list[list[bool]], window: int, limit: float) -> None:
    breaker = of(limit, window)
    for turn in turns:
        if breaker.check(np.array(turn, bool), [LETTER] * sum(turn)) is None:
            breaker.remember(np.array(turn, bool))
        else:
            assert any(turn)


def test_the_first_messages_of_a_quiet_topic_do_not_trip_it() -> None:
    breaker = of()
    for _ in range(5):
        assert breaker.check(flags((1, True)), [LETTER]) is None
        breaker.remember(flags((1, True)))
    trip = breaker.check(flags((1, True)), [LETTER])
    assert trip is not None
    assert trip.reason == "6 of 10 messages cannot be read, most of them because of field"


def test_a_tripped_breaker_lets_no_more_through_bit_by_bit() -> None:
    breaker = of(window=1000)
    assert breaker.check(flags((2000, True)), [LETTER]) is not None
    trip = breaker.check(flags((100, True)), [LETTER])  # it tries again with fewer: a tenth of the window
    assert trip is not None and trip.reason.startswith("100 of 100")
    assert breaker.check(flags((60, False), (40, True)), [LETTER]) is None
    breaker.remember(flags((60, False), (40, True)))
    assert breaker.tripped is None


def test_a_bad_stretch_inside_a_large_turn_trips_it() -> None:
    assert of().check(flags((500, False), (6, True), (500, False)), [LETTER]) is not None


def test_off_lets_everything_through() -> None:
    assert of(None).check(flags((5000, True)), [LETTER]) is None


def test_marks_follow_the_messages_as_they_came() -> None:
    runs = [Messages(1, np.array([4, 6]), [None] * 2, [b""] * 2, 7), Messages(1, np.array([8]), [None], [b""], 9)]
    assert mark_bad(runs, [DeadLetter(1, 6, "", None, b"")]).tolist() == [False, True, False]
    assert mark_bad([], []).tolist() == []


def test_messages_that_were_requeued_are_not_weighed_again() -> None:
    run = Messages(1, np.array([4, 6]), [None] * 2, [b""] * 2, 7, requeued=frozenset([6]))
    letters = [DeadLetter(1, 4, "", None, b""), DeadLetter(1, 6, "", None, b"")]
    assert mark_bad([run], letters).tolist() == [True, False]


def test_each_partition_is_weighed_by_itself() -> None:
    breakers = Breakers(InputSettings(), window=4)
    runs = [Messages(at, np.arange(4), [None] * 4, [b""] * 4, 4) for at in (0, 1)]
    trips = breakers.check(runs, [DeadLetter(1, offset, "x: y", None, b"") for offset in range(4)])
    assert list(trips) == [1]
    breakers.remember()
    assert breakers.tripped([0, 1]) == {1: "4 of 4 messages cannot be read, most of them because of other"}
    assert breakers.check([runs[1]], []) == {}
    breakers.remember()
    assert breakers.tripped([0, 1]) == {}


def test_the_commonest_reason_is_named_with_its_first_letter() -> None:
    letters = [
        DeadLetter(0, 1, "not UTF-8: x", None, b"\xff", kind=Kind.ENCODING),
        DeadLetter(0, 2, "not an event: 'a' is no number", None, b"\xff" * 300, kind=Kind.FIELD),
        DeadLetter(0, 3, "not UTF-8, it seems: 'b'", None, None, kind=Kind.FIELD),
    ]
    kind, example = commonest(letters)
    assert (kind, example["offset"], example["reason"]) == ("field", 2, "not an event: 'a' is no number")
    assert len(str(example["value"])) == 200


@pytest.mark.parametrize("wrong", ["1.0", "0", "nan", "many"])
def test_a_limit_that_is_no_share_is_refused(wrong: str) -> None:
    with pytest.raises(ConfigError, match=r"input\.most_bad"):
        load(None, [f"input.most_bad={wrong}"])


def test_the_limit_is_switched_off_in_words() -> None:
    assert load(None, ["input.most_bad=off"]).input.most_bad is None


def changed(steps: int) -> MemoryTopics:
    """A topic whose producers rename a field in the middle: 50 good messages and then 150 others."""
    old = panel(["a"], 50)
    new = [(key, value.replace(b'"value"', b'"kwh"')) for key, value in panel(["a"], steps)[50:]]
    return MemoryTopics(inputs={0: old + new})


def with_input(one: Worker, settings: InputSettings, window: int = WINDOW) -> Worker:
    object.__setattr__(one.parts, "breakers", Breakers(settings, window))
    object.__setattr__(one.parts, "reader", Reader(settings, Frequency("1h")))
    return one


def test_a_change_of_schema_stores_nothing_loses_nothing_and_a_repaired_reader_doubles_nothing() -> None:
    store, topics = MemoryStore(), changed(200)
    one = with_input(worker(store, topics, most=50), InputSettings(), window=50)
    source, clock = one.parts.source, one.parts.clock
    assert isinstance(source, MemorySource)
    assert isinstance(clock, Clock)
    with capture_logs() as logs:
        for _ in range(12):
            one.step()
            clock.advance(30)
    assert list(one.tripped) == [0]
    assert one.owned == {}
    assert source.positions == {}, "its partitions are held"
    assert (store.state[0][1], topics.offsets[0]) == (50, 50), "nothing of the bad turn is stored or published"
    assert (store.letters, topics.letters) == ([], [])
    alarms = [each for each in logs if each["log_level"] == "error"]
    assert 2 <= len(alarms) <= 6, "it tries again once a pause is over, not at each step"
    assert alarms[0]["event"] == "too many messages cannot be read"
    assert (alarms[0]["example"]["offset"], alarms[0]["example"]["partition"]) == (50, 0)
    assert '"kwh"' in alarms[0]["example"]["value"]
    repaired = InputSettings(value="kwh", most_bad=0.5)  # a deployment with the new field
    again = with_input(worker(store, topics, most=50), repaired, window=50)
    run_dry(again)
    assert again.tripped == {}
    assert (len(store.observations), store.letters) == (200, [])
    assert sum(events for _, _, events in store.observations.values()) == 200
    assert max(Counter(topics.output).values()) == 1


def test_it_goes_on_by_itself_when_the_messages_can_be_read_and_lets_them_pass_when_it_is_off() -> None:
    store, topics = MemoryStore(), changed(200)
    one = with_input(worker(store, topics, most=50), InputSettings(), window=50)
    for _ in range(4):
        one.step()
    assert one.tripped
    object.__setattr__(one.parts, "reader", Reader(InputSettings(value="kwh"), Frequency("1h")))
    run_dry(one)
    assert (one.tripped, len(store.observations)) == ({}, 200)

    store, topics = MemoryStore(), changed(200)
    run_dry(with_input(worker(store, topics, most=50), InputSettings(most_bad=None)))
    assert [letter.offset for letter in store.letters] == list(range(50, 200))
    assert len(topics.letters) == 150


def test_partitions_without_bad_messages_go_on_beside_one_that_has_tripped() -> None:
    store, topics = MemoryStore(), changed(200)
    topics.inputs[1] = panel(["b"], 200)
    one = with_input(worker(store, topics, most=50), InputSettings(), window=50)
    for _ in range(8):
        one.step()
    assert list(one.tripped) == [0]
    assert {at: offset for at, (_, offset) in store.state.items()} == {0: 50, 1: 200}
    assert topics.offsets == {0: 50, 1: 200}
    assert store.letters == []
    object.__setattr__(one.parts, "reader", Reader(InputSettings(value="kwh"), Frequency("1h")))
    topics.inputs[1] = topics.inputs[1][:200]
    run_dry(one)
    assert (one.tripped, len(store.observations)) == ({}, 400)


def test_tombstones_are_skipped_and_counted_and_trip_nothing() -> None:
    store = MemoryStore()
    messages: list[tuple[bytes | None, bytes | None]] = [*panel(["a"], 20), *[(b"a", None)] * 600, (None, None)]
    topics = MemoryTopics(inputs={0: [*messages, *panel(["b"], 20)]})
    one = with_input(worker(store, topics, most=200), InputSettings(), window=100)
    run_dry(one)
    assert (len(store.observations), store.letters, topics.letters) == (40, [], [])
    assert one.parts.worker_state.tombstones == 601


def test_tombstones_can_be_refused() -> None:
    store, topics = MemoryStore(), MemoryTopics(inputs={0: [*panel(["a"], 5), (b"a", None)]})
    run_dry(with_input(worker(store, topics), InputSettings(tombstones="refuse")))
    assert [letter.reason for letter in store.letters] == ["the message has no value"]


def test_a_worker_whose_partitions_are_another_ones_now_is_not_paused() -> None:
    one = with_input(worker(MemoryStore(), changed(200), most=50), InputSettings(), window=50)
    for _ in range(4):
        one.step()
    assert one.tripped
    assert isinstance(one.parts.source, MemorySource)
    one.parts.source.waiting = [(0, False)]
    one.step()
    assert one.tripped == {}


def test_a_partition_that_another_worker_has_read_meanwhile_comes_back_without_its_trip() -> None:
    store, topics = MemoryStore(), changed(200)
    one = with_input(worker(store, topics, most=50), InputSettings(), window=50)
    for _ in range(4):
        one.step()
    assert one.tripped
    source = one.parts.source
    assert isinstance(source, MemorySource)
    source.waiting = [(0, False)]
    one.step()
    run_dry(with_input(worker(store, topics), InputSettings(most_bad=None)))
    source.waiting = [(0, True)]
    one.step()
    assert one.tripped == {}, "or a quiet partition would be called tripped for ever"
    topics.inputs[0].append((b"a", b"{"))
    run_dry(one)
    assert len(store.letters) == 151, "and one bad message that comes alone is no trip again"


def test_bad_messages_below_the_limit_are_dead_letters_as_ever() -> None:
    messages = panel(["a"], 100)
    for place in range(0, 100, 3):
        messages.insert(place, (b"x", b"{"))
    store, topics = MemoryStore(), MemoryTopics(inputs={0: messages})
    run_dry(with_input(worker(store, topics, most=7), InputSettings(), window=20))
    assert (len(store.observations), len(store.letters)) == (100, 34)
