"""What a worker tells of itself: its counters, its partitions, and why it is not ready, over the in-memory outside."""

from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.errors import Fenced, Service, Unavailable
from pipeline.grid.frequency import Frequency
from pipeline.health.heartbeat import LATELY, Heartbeat
from pipeline.health.logs import BOUNDS, Durations
from pipeline.health.prometheus import Exposition, find_memory_limit, histogram
from pipeline.messages.codec import Reader
from pipeline.records import Claim, DeadLetter, Forecasts, Kind, Messages, Turn
from pipeline.settings import InputSettings, SeriesSettings
from pipeline.stream.ring import RingStore
from pipeline.stream.worker import Worker
from pipeline.stream.worker_metrics import WorkerCollector, checks_of
from pipeline.stream.worker_state import SETBACKS, PartitionState, WorkerState
from tests.fakes import MemorySource, MemoryStore, MemoryTopics
from tests.unit.workers import START, event, panel, run_dry, worker

MACHINE = {"proc/meminfo": "MemTotal:       1000 kB\n"}
EVERY = SeriesSettings(context=12, horizon=3, season=4, on="every_step")


class Seconds:
    """A monotonic clock that moves when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def store() -> MemoryStore:
    return MemoryStore(covariates=("temperature", "wind"))


def topics() -> MemoryTopics:
    return MemoryTopics(inputs={0: [*panel(["a", "b"], 10), (b"c", b"{"), (b"c", None)], 1: panel(["c"], 7)})


def samples(one: Worker) -> dict[tuple[str, ...], float]:
    text = Exposition(WorkerCollector(one)).write()
    return {
        (each.name.removeprefix("tidecast_"), *each.labels.values()): each.value
        for family in text_string_to_metric_families(text)
        for each in family.samples
    }


def source(one: Worker) -> MemorySource:
    assert isinstance(one.parts.source, MemorySource)
    return one.parts.source


def test_a_worker_counts_what_the_database_and_the_topic_hold() -> None:
    held, topic = store(), topics()
    one = worker(held, topic, series=EVERY, most=9)
    run_dry(one)
    found = samples(one)
    assert found["messages_total",] == 20 + 2 + 7
    assert found["observations_total",] == len(held.observations) == 27
    made = {quality: found["forecasts_total", quality] for quality in ("ok", "degraded", "fallback")}
    assert made == {"ok": 0.0, "degraded": 0.0, "fallback": float(len(topic.output))}
    assert found["dead_letters_total", "event"] == found["tombstones_total",] == 1.0
    assert sum(found["dead_letters_total", name] for name in Kind) == len(topic.letters) == 1
    assert found["turn_duration_seconds_count",] == one.turns > 2
    for phase in ("decode", "observe", "score", "store", "publish"):
        assert found["turn_phase_duration_seconds_count", phase] == one.turns
        assert found["turn_phase_duration_seconds_sum", phase] == one.parts.phases.wall[phase]
    assert found["claims_total",] == 2.0
    assert found["last_commit_timestamp_seconds",] > START
    assert (found["model_version",], found["shadow_version",], found["circuit_breaker_tripped",]) == (0.0, 0.0, 0.0)


def test_each_partition_says_where_it_is() -> None:
    topic = topics()
    one = worker(store(), topic, series=EVERY, most=9)
    one.step()
    one.step()
    found = samples(one)
    assert {at: found["partition_next_offset", at] for at in "01"} == {"0": 9.0, "1": 7.0}
    assert {at: found["partition_lag_messages", at] for at in "01"} == {"0": 22.0 - 9.0, "1": 0.0}
    assert {at: found["partition_claimed", at] for at in "01"} == {"0": 1.0, "1": 1.0}
    assert found["partition_newest_event_timestamp_seconds", "1"] == START + 6 * 3600
    assert found["partition_ring_series", "0"] == 2.0
    assert found["partition_ring_bytes", "0"] == one.owned[0].ring.nbytes > 0
    assert found["grid_step_seconds",] == 3600.0
    source(one).waiting.append((0, False))
    one.step()
    assert {key[1] for key in samples(one) if key[0] == "partition_epoch"} == {"1"}, "a revoked one is not told of"


def test_a_worker_is_ready_once_everything_assigned_is_claimed_and_says_why_not() -> None:
    one = worker(store(), topics(), series=EVERY)
    checks = checks_of(one, lately=LATELY, patience=300.0)
    assert checks.find_unready() == [
        "it is not a settled member of the group",
        "the broker has not answered yet, for 0 s",
        "the database has not answered yet, for 0 s",
    ]
    source(one).settled = False
    one.step()
    assert checks.find_unready() == [
        "it is not a settled member of the group",
        "partitions 0, 1 are assigned and not claimed",
    ]
    source(one).settled = True
    run_dry(one)
    assert checks.find_unready() == []
    trips = one.parts.breakers.check(
        [Messages(0, np.arange(600), [None] * 600, [b"{"] * 600, 600)],
        [DeadLetter(0, offset, "not an event: no", None, b"{", kind=Kind.EVENT) for offset in range(600)],
    )
    assert list(trips) == [0]
    assert checks.find_unready() == [
        "the circuit breaker has paused partition 0: 601 of 1000 messages cannot be read, most of them because of event"
    ]
    assert samples(one)["circuit_breaker_tripped",] == 1.0


def refuse(partition: int, owner: str) -> Claim:
    raise Unavailable("database: away")


def test_a_worker_whose_database_is_away_is_unready_until_it_has_committed_again() -> None:
    held, topic = store(), topics()
    one = worker(held, topic, series=EVERY, most=9)
    seconds = Seconds()
    one.parts.worker_state.heartbeat.seconds = seconds
    one.step()
    assert one.turns == 0
    whole = held.commit

    def away(turn: Turn) -> Forecasts:
        raise Unavailable("database postgresql://db: away")

    held.commit = away  # type: ignore[method-assign]
    one.step()
    find_unready = checks_of(one, lately=LATELY, patience=300.0).find_unready
    claiming = "claiming again: database postgresql://db: away"
    assert find_unready() == ["partitions 0, 1 are assigned and not claimed", claiming]
    topic.inputs[1] += panel(["d"], 5)
    seconds.now += 20.0
    one.step()  # it waits; the ends move on
    found = samples(one)
    assert found["partition_lag_messages", "1"] == 12.0
    assert found["partition_claimed", "1"] == 0.0
    assert found["uncommitted_seconds",] == 20.0
    assert found["claims_dropped_total", "database"] == 1.0
    one.parts.clock.advance(60)  # type: ignore[attr-defined]
    held.claim, claim = refuse, held.claim  # type: ignore[method-assign]
    one.step()
    held.claim = claim  # type: ignore[method-assign]
    one.parts.clock.advance(60)  # type: ignore[attr-defined]
    one.step()
    assert find_unready() == ["claiming again: database: away"], "claimed, and nothing was committed yet"
    held.commit = whole  # type: ignore[method-assign]
    run_dry(one)
    one.step()
    assert find_unready() == []
    assert samples(one)["uncommitted_seconds",] == 0.0
    assert samples(one)["claims_dropped_total", "database"] == 2.0


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Fenced("partition 0 has moved on"), "fenced"),
        (Unavailable("database sqlite:///x: database is locked", Service.DATABASE), "database"),
        (Unavailable("Kafka at b: the certificate is out of date; renew it", Service.BROKER), "broker"),
        (Unavailable("publishing: it does not answer as it should (KafkaTimeoutError)", Service.BROKER), "broker"),
    ],
)
def test_dropped_claims_are_counted_by_why(error: Fenced | Unavailable, reason: str) -> None:
    worker_state = WorkerState()
    worker_state.set_back(error)
    assert dict(worker_state.setbacks) == {reason: 1}
    assert reason in SETBACKS


def test_republished_messages_and_skipped_offsets_are_counted() -> None:
    held, topic = store(), topics()

    def crash(point: str) -> None:
        if point == "after_sql":
            raise SystemExit

    one = worker(held, topic, series=EVERY, passed=crash)
    one.step()
    with pytest.raises(SystemExit):
        one.step()
    heir = worker(held, topic, series=EVERY, owner="heir")
    run_dry(heir)
    assert heir.parts.worker_state.republications == 2
    assert samples(heir)["republished_messages_total",] == len(topic.output) + len(topic.letters) > 0
    topic.beginnings[1] = 9
    topic.inputs[1] += panel(["c"], 12)[7:]
    late = worker(held, topic, series=EVERY, owner="late")
    late.step()
    assert samples(late)["skipped_offsets_total",] == 2.0


def test_a_topic_that_does_not_begin_at_0_has_skipped_nothing() -> None:
    topic = topics()
    topic.beginnings[1] = 3
    one = worker(store(), topic, series=EVERY)
    one.step()
    assert samples(one)["skipped_offsets_total",] == 0.0


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (None, "null"),
        (b"", "empty"),
        (b"{", "event"),
        (b'{"series_id": "\xff", "timestamp": 0, "value": 1}', "encoding"),
        (b"[" * 200_000, "event"),
        (b"x" * 900_001, "size"),
        (b'{"series_id": "a", "timestamp": "0", "value": 1}', "time"),
        (b'{"series_id": "a", "timestamp": 0}', "field"),
        (b'{"series_id": "a", "timestamp": 0, "value": "1"}', "field"),
        (b'{"series_id": "a", "timestamp": 0, "value": NaN}', "number"),
        (b"\x00\x00\x00\x00\x01\x02a", "encoding"),
        (event("", 1, 1.0)[1], "name"),
        (event("a", 1, 1e300)[1], "number"),
        (event("a", 1, 1.0, wind=1e19)[1], "number"),
        (event("a", 1_000_000, 1.0)[1], "future"),
        (event("a", -(10**9), 1.0)[1], "time"),
        (b'{"series_id": "a", "timestamp": "yesterday", "value": 1}', "time"),
    ],
)
def test_every_reason_of_the_reader_has_a_class(value: bytes | None, name: str) -> None:
    reader = Reader(InputSettings(tombstones="refuse", covariates=("wind",)), Frequency("1h"))
    _, letters = reader.read(Messages(0, np.array([0]), [None], [value], 1), now=START * 1_000_000)
    assert [letter.kind for letter in letters] == [name]


def test_an_unreadable_batch_has_a_class_and_a_letter_from_sql_has_none() -> None:
    reader = Reader(InputSettings(), Frequency("1h"))
    _, letters = reader.read(Messages(0, np.array([0]), [None], [b"raw"], 1, "the record batch failed its CRC"), now=0)
    assert [letter.kind for letter in letters] == ["batch"]
    assert DeadLetter(0, 1, "as SQL has it", None, b"x").kind == "other"


def test_silence_is_told_after_a_while_and_a_stop_after_a_longer_one() -> None:
    seconds = Seconds()
    heartbeat = Heartbeat(("broker", "database"), seconds)
    heartbeat.answered("broker")
    heartbeat.answered("database", 990.0)
    seconds.now += LATELY - 5.0
    heartbeat.beat()
    assert heartbeat.find_silences(LATELY) == ["the database has not answered for 35 s"]
    heartbeat.answered("database")
    assert heartbeat.find_silences(LATELY) == []
    seconds.now += LATELY + 1.0
    assert heartbeat.find_silences(LATELY)[0] == "the loop has not turned for 31 s"
    assert heartbeat.find_stop(300.0) == []
    seconds.now += 300.0
    assert heartbeat.find_stop(300.0) == ["the loop has not turned for 331 s"]


def test_a_partition_whose_end_is_not_known_has_no_lag_and_a_shrunken_topic_none_below_0() -> None:
    assert PartitionState(next_offset=3).lag is None
    assert PartitionState(next_offset=3, end=2).lag == 0


def test_waiting_begins_when_something_comes_and_ends_with_a_commit() -> None:
    seconds = Seconds()
    worker_state = WorkerState(Heartbeat((), seconds))
    worker_state.assign(0, ours=True)
    worker_state.claim(Claim(0, 1, 5), RingStore(4, "last"))
    worker_state.see({0: 5}, 1000.0, settled=True)
    seconds.now += 3600.0
    assert worker_state.uncommitted() == 0.0, "nothing came for an hour, which is nobody's fault"
    worker_state.see({0: 6}, 1000.0, settled=True)
    seconds.now += 7.0
    worker_state.see({0: 8}, 1000.0, settled=True)
    assert worker_state.uncommitted() == 7.0
    worker_state.commit(1)
    assert worker_state.uncommitted() == 0.0


def test_durations_are_counted_up_to_each_bound() -> None:
    durations = Durations()
    for seconds in (0.005, 0.006, 3.0, 1e6):
        durations.add(seconds)
    (family,) = [histogram("x_seconds", "text", {"poll": durations}, "phase")]
    counts = {each.labels["le"]: each.value for each in family.samples if each.name.endswith("_bucket")}
    assert (counts["0.005"], counts["0.01"], counts["2.5"], counts["5"]) == (1.0, 2.0, 2.0, 3.0)
    assert (counts["60"], counts["+Inf"]) == (3.0, 4.0)
    assert len(counts) == len(BOUNDS) + 1


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        (MACHINE, 1_024_000.0),
        ({**MACHINE, "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, 1_024_000.0),
        ({**MACHINE, "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "99\n"}, 99.0),
        ({"proc/self/cgroup": "0::/a.slice/b.service\n", "sys/fs/cgroup/a.slice/b.service/memory.max": "7\n"}, 7.0),
        ({}, None),
    ],
)
def test_the_limit_of_memory_is_that_of_the_control_group_or_the_machine(
    files: dict[str, str], limit: float | None, tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert find_memory_limit(tmp_path) == limit
