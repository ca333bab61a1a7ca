"""Publishing on real brokers: what a topic or the library refuses is found, noted and left out; the rest goes on."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from pipeline.errors import ConfigError, Refused
from pipeline.grid.frequency import Frequency
from pipeline.health.watchdog import Watchdog
from pipeline.kafka.limits import Limits, read_limits
from pipeline.kafka.publisher import KafkaPublisher
from pipeline.kafka.topics import check_topics, read_topic
from pipeline.records import DEAD_LETTER, Committed, DeadLetter, Forecasts, no_forecasts
from pipeline.settings import KafkaSettings
from pipeline.stream.refused import publish_or_leave
from pipeline.stream.worker_state import WorkerState
from tests.fakes import MemoryStore
from tests.faults.fleet import holds_within
from tests.integration.conftest import KafkaAddress

Topic = Callable[..., str]
Make = Callable[..., KafkaPublisher]
NOTHING = no_forecasts(3)


@pytest.fixture
def settings(broker: KafkaAddress, topic: Topic, request: pytest.FixtureRequest) -> KafkaSettings:
    """A deployment; the parameter is the configuration of its topics, of `output` and `dead`."""
    chosen: dict[str, dict[str, str]] = getattr(request, "param", {})
    name = topic()
    return KafkaSettings(
        bootstrap_servers=broker.bootstrap_servers,
        input_topic=name,
        output_topic=topic(**chosen.get("output", {})),
        dead_letter_topic=topic(**chosen.get("dead", {})),
        group=f"{name}.group",
        instance="one",
    )


def publisher(settings: KafkaSettings, *limits: Limits) -> KafkaPublisher:
    return KafkaPublisher(
        settings,
        Watchdog(120),
        group_metadata=lambda: settings.group,
        frequency=Frequency("1h"),
        partitions=(1, 1),
        limits=(limits[0], limits[1]) if limits else (Limits(), Limits()),
    )


def forecasts(*names: str) -> Forecasts:
    count = len(names)
    ones = np.ones(count, np.int64)
    return Forecasts(
        series=list(names),
        series_id=ones,
        origin=ones * 3_600_000_000,
        target_times=np.ones((count, 3), np.int64),
        quantiles=np.ones((count, 3, 13)),
        model_version=ones,
        calibration=ones,
        quality=["ok"] * count,
        issued_at=ones,
        partition=ones * 0,
        offset=np.arange(count),
    )


def sent(settings: KafkaSettings, topic: str) -> list[tuple[bytes | None, bytes | None, dict[str, bytes]]]:
    return [(record.key, record.value, dict(record.headers)) for record in read_topic(settings, topic)]


def publish(settings: KafkaSettings, made: Forecasts, letters: Sequence[DeadLetter], *limits: Limits) -> MemoryStore:
    """Publish up to offset 9, note what is left, and check that the group's offset has moved."""
    store, worker_state, ours = MemoryStore(), WorkerState(), publisher(settings, *limits)
    try:
        publish_or_leave((made, letters, {0: Committed(9)}), ours, store, worker_state)
        assert holds_within(lambda: committed(settings) == 9, 60.0), "read_uncommitted may be stale for a moment"
        assert worker_state.left.total() == len(store.left)
    finally:
        ours.close()
    return store


def committed(settings: KafkaSettings) -> Any:
    from kafka import KafkaAdminClient

    admin = KafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
    try:
        found = admin.list_group_offsets(settings.group)[settings.group]
        return next((value.offset for at, value in found.items() if at.topic == settings.input_topic), None)
    finally:
        admin.close()


def test_a_letter_with_neither_key_nor_value_is_published(settings: KafkaSettings) -> None:
    letters = [
        DeadLetter(0, 1, "null", None, None),
        DeadLetter(0, 2, "bad", None, b"x"),
        DeadLetter(0, 3, "x", b"k", None),
    ]
    store = publish(settings, NOTHING, letters)
    found = sent(settings, settings.dead_letter_topic)
    assert [(key, value, "null-value" in headers) for key, value, headers in found] == [
        (None, b"", True),
        (None, b"x", False),
        (b"k", None, False),
    ]
    assert store.left == {}


@pytest.mark.parametrize("settings", [{"dead": {"max_message_bytes": "3000"}}], indirect=True)
def test_a_letter_that_its_topic_refuses_becomes_a_stub_and_the_others_stay(settings: KafkaSettings) -> None:
    ours = publisher(settings)  # it does not know that the topic takes less than usual
    letters = [DeadLetter(0, i, "bad", b"k", b"x" * (20_000 if i % 3 == 1 else 10)) for i in range(6)]
    with pytest.raises(Refused) as refused:
        ours.publish(forecasts("a"), letters, {0: Committed(9)})
    assert [(left.offset, left.index, left.message) for left in refused.value.left] == [
        (1, 1, DEAD_LETTER),
        (4, 4, DEAD_LETTER),
    ]
    assert all("MessageSizeTooLarge" in left.reason for left in refused.value.left)
    ours.close()
    assert sent(settings, settings.dead_letter_topic) == sent(settings, settings.output_topic) == []
    assert committed(settings) is None

    store = publish(settings, forecasts("a"), letters)
    assert [offset for _, offset, _ in store.left] == [1, 4]
    found = sent(settings, settings.dead_letter_topic)
    assert [value for _, value, _ in found] == [b"x" * 10, b"", b"x" * 10, b"x" * 10, b"", b"x" * 10]
    stub = found[1]
    assert stub[0] == stub[2]["source"] == f"{settings.input_topic}/0/1".encode()
    assert stub[2]["left-in-sql"] == b"20001"
    assert stub[2]["left-because"].startswith(b"MessageSizeTooLarge")
    assert len(sent(settings, settings.output_topic)) == 1


@pytest.mark.parametrize("settings", [{"dead": {"max_message_bytes": "3000"}}], indirect=True)
def test_the_size_of_a_letter_is_bounded_by_its_topic_where_that_is_known(settings: KafkaSettings) -> None:
    limits = read_limits(settings, [settings.output_topic, settings.dead_letter_topic])
    assert limits[settings.dead_letter_topic] == Limits(3000, kept_ms=604_800_000), (
        "a week, if a topic is not told otherwise"
    )
    assert limits[settings.output_topic] == Limits(kept_ms=604_800_000)
    letters = [DeadLetter(0, 1, "bad", b"k", b"x" * size) for size in (2_600, 2_900)]
    store = publish(settings, NOTHING, letters, *limits.values())
    assert store.left == {}, "nothing was refused"
    assert [headers.get("left-in-sql") for *_, headers in sent(settings, settings.dead_letter_topic)] == [None, b"2901"]


@pytest.mark.parametrize(
    "settings", [{"output": {"max_message_bytes": "900"}, "dead": {"max_message_bytes": "100"}}], indirect=True
)
def test_a_forecast_that_is_refused_and_a_letter_whose_stub_is_are_left_out(settings: KafkaSettings) -> None:
    made = forecasts("a", "b" * 300, "c")
    store = publish(settings, made, [DeadLetter(0, 5, "bad", b"k", b"v")])
    assert set(store.left) == {(0, 1, f"{'b' * 300}@1970-01-01T01:00:00Z#1"), (0, 5, DEAD_LETTER)}
    assert [key for key, *_ in sent(settings, settings.output_topic)] == [b"a", b"c"]
    assert sent(settings, settings.dead_letter_topic) == []


@pytest.mark.parametrize("settings", [{"output": {"max_message_bytes": "900"}}], indirect=True)
def test_messages_that_only_fit_one_by_one_are_published(settings: KafkaSettings) -> None:
    names = [f"series-{i}" for i in range(20)]
    assert publish(settings, forecasts(*names), []).left == {}
    assert [key for key, *_ in sent(settings, settings.output_topic)] == [name.encode() for name in names]


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("settings", [{"dead": {"cleanup_policy": "compact"}}], indirect=True)
def test_letters_without_a_key_come_onto_a_compacted_topic(
    settings: KafkaSettings, known: bool, broker: KafkaAddress
) -> None:
    if broker.kind == "development":
        pytest.skip("the development broker does not compact, so it demands no keys")
    limits = read_limits(settings, [settings.output_topic, settings.dead_letter_topic])
    assert limits[settings.dead_letter_topic].compacted
    letters = [
        DeadLetter(0, 1, "bad", None, b"v"),
        DeadLetter(0, 2, "bad", b"k", b"w"),
        DeadLetter(0, 3, "null", None, None),
    ]
    store = publish(settings, NOTHING, letters, *(limits.values() if known else ()))
    found = sent(settings, settings.dead_letter_topic)
    assert [headers["source"] for *_, headers in found] == [f"{settings.input_topic}/0/{i}".encode() for i in (1, 2, 3)]
    assert [key for key, *_ in found] == [found[0][2]["source"], b"k", found[2][2]["source"]]
    assert len(store.left) == (0 if known else 2)
    assert all("InvalidRecord" in reason for reason in store.left.values())


def test_a_topic_that_does_not_exist_is_no_refusal_of_its_messages(settings: KafkaSettings) -> None:
    ours = publisher(settings.model_copy(update={"dead_letter_topic": "nowhere", "call_timeout": 3.0}))
    with pytest.raises(Exception) as failed:
        ours.publish(NOTHING, [DeadLetter(0, 1, "bad", b"k", b"v")], {0: Committed(9)})
    assert not isinstance(failed.value, Refused)
    ours.close()


def test_a_topic_with_fewer_partitions_than_before_is_no_refusal_of_its_messages(settings: KafkaSettings) -> None:
    check_topics(settings)
    ours = KafkaPublisher(
        settings, Watchdog(120), group_metadata=lambda: settings.group, frequency=Frequency("1h"), partitions=(1, 6)
    )
    with pytest.raises(ConfigError, match="fewer partitions"):
        ours.publish(NOTHING, [DeadLetter(5, 1, "bad", b"k", b"v")], {0: Committed(9)})
    ours.close()
