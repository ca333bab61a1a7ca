"""What every broker that tidecast runs on must do: the same checks over the development broker and Apache Kafka."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any
from uuid import uuid4

import confluent_kafka
import pytest
from confluent_kafka.admin import AdminClient
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import (
    CommitFailedError,
    FencedInstanceIdError,
    KafkaError,
    KafkaTimeoutError,
    ProducerFencedError,
    TopicAlreadyExistsError,
)
from kafka.structs import OffsetAndMetadata

from tests.integration.conftest import KafkaAddress

PATIENCE = 30.0
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
pytestmark = pytest.mark.timeout(120)

Topic = Callable[..., str]


class Clients:
    """Opens clients of one broker and closes them when the test ends."""

    def __init__(self, address: KafkaAddress, stack: ExitStack) -> None:
        self.servers = address.bootstrap_servers
        self._stack = stack

    def producer(self, **config: Any) -> KafkaProducer:
        made = KafkaProducer(bootstrap_servers=self.servers, **config)
        self._stack.callback(made.close, timeout=2)
        return made

    def transactional(self, name: str | None = None, **config: Any) -> KafkaProducer:
        made = self.producer(transactional_id=name or unique("transactional"), **config)
        made.init_transactions()
        return made

    def consumer(self, *topics: str, **config: Any) -> KafkaConsumer:
        defaults = {"auto_offset_reset": "earliest", "enable_auto_commit": False, "heartbeat_interval_ms": 300}
        defaults |= {"session_timeout_ms": 6000}
        made = KafkaConsumer(*topics, bootstrap_servers=self.servers, **(defaults | config))
        self._stack.callback(made.close, autocommit=False, timeout_ms=2000)
        return made

    def admin(self) -> KafkaAdminClient:
        return self._stack.enter_context(closing(KafkaAdminClient(bootstrap_servers=self.servers)))

    def reader(self, topic: str, *, committed: bool) -> KafkaConsumer:
        """A consumer of partition 0 from its beginning, in no group."""
        made = self.consumer(isolation_level="read_committed" if committed else "read_uncommitted")
        made.assign([TopicPartition(topic, 0)])
        made.seek_to_beginning()
        return made

    def other_consumer(self, **config: Any) -> confluent_kafka.Consumer:
        """A consumer of the second client library, librdkafka."""
        defaults = {"bootstrap.servers": self.servers, "auto.offset.reset": "earliest", "log_level": 0}
        made = confluent_kafka.Consumer(defaults | {"group.id": unique("group"), "enable.auto.commit": False} | config)
        self._stack.callback(made.close)
        return made

    def other_producer(self, **config: Any) -> confluent_kafka.Producer:
        return confluent_kafka.Producer({"bootstrap.servers": self.servers, "log_level": 0} | config)


@pytest.fixture
def clients(broker: KafkaAddress) -> Iterator[Clients]:
    with ExitStack() as stack:
        yield Clients(broker, stack)


def unique(kind: str) -> str:
    return f"{kind}-{uuid4().hex[:12]}"


def write(producer: KafkaProducer, topic: str, *values: bytes, partition: int = 0) -> list[int]:
    """Send values and return their offsets."""
    sent = [producer.send(topic, value, partition=partition) for value in values]
    producer.flush(PATIENCE)
    return [future.get(PATIENCE).offset for future in sent]


def take(consumer: KafkaConsumer, count: int) -> list[Any]:
    """Poll until there are `count` records."""
    found: list[Any] = []
    deadline = time.monotonic() + PATIENCE
    while len(found) < count and time.monotonic() < deadline:
        for records in consumer.poll(timeout_ms=500).values():
            found += records
    assert len(found) >= count, f"{len(found)} of {count} records"
    return found


def values(consumer: KafkaConsumer, count: int) -> list[bytes]:
    """Return the values of `count` records, after making sure that no more follow."""
    found = take(consumer, count)
    found += [record for records in consumer.poll(timeout_ms=500).values() for record in records]
    return [record.value for record in found]


def take_other(consumer: confluent_kafka.Consumer, count: int) -> list[Any]:
    found: list[Any] = []
    deadline = time.monotonic() + PATIENCE
    while len(found) < count and time.monotonic() < deadline:
        batch = consumer.consume(1000, 0.5)
        assert all(message.error() is None for message in batch)
        found += batch
    assert len(found) >= count, f"{len(found)} of {count} records"
    return found


def poll_until(consumers: list[KafkaConsumer], done: Callable[[], bool]) -> None:
    """Poll the members of a group in turn until they have reached a state."""
    deadline = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < deadline, [c.assignment() for c in consumers]
        for consumer in consumers:
            consumer.poll(timeout_ms=500)


def shares(*consumers: KafkaConsumer) -> list[int]:
    return [len(consumer.assignment()) for consumer in consumers]


def settled(consumers: list[KafkaConsumer], *sizes: int) -> Callable[[], bool]:
    """Tell when the members' shares have these sizes and no partition is owned twice."""

    def done() -> bool:
        owned = [p for c in consumers for p in c.assignment()]
        return sorted(shares(*consumers)) == sorted(sizes) and len(owned) == len(set(owned))

    return done


# ---- records


@pytest.mark.parametrize("codec", CODECS)
def test_records_of_every_codec_come_back_as_they_were_sent(clients: Clients, topic: Topic, codec: str) -> None:
    name = topic()
    producer = clients.producer(compression_type=None if codec == "none" else codec, linger_ms=20)
    sent = [(f"key-{i % 7}".encode(), f"value {i} ".encode() * 20) for i in range(200)]
    for key, value in sent:
        producer.send(name, value, key=key, partition=0)
    producer.flush(PATIENCE)
    found = take(clients.reader(name, committed=True), 200)
    assert [(record.key, record.value) for record in found] == sent
    assert [record.offset for record in found] == list(range(200))


@pytest.mark.parametrize("codec", CODECS)
def test_a_second_client_library_reads_and_writes_every_codec(clients: Clients, topic: Topic, codec: str) -> None:
    name = topic()
    producer = clients.other_producer(**{"compression.type": codec, "enable.idempotence": True, "linger.ms": 5})
    sent = [f"value {i} ".encode() * 20 for i in range(200)]
    for value in sent:
        producer.produce(name, value, partition=0)
    assert producer.flush(PATIENCE) == 0
    assert values(clients.reader(name, committed=True), 200) == sent
    consumer = clients.other_consumer()
    consumer.subscribe([name])
    assert [message.value() for message in take_other(consumer, 200)] == sent


def test_headers_null_keys_and_null_values_are_kept(clients: Clients, topic: Topic) -> None:
    name = topic()
    producer = clients.producer()
    producer.send(name, b"value", key=None, headers=[("a", b"1"), ("a", b""), ("b", b"\xff")], partition=0)
    producer.send(name, None, key=b"key", partition=0)
    producer.send(name, b"", key=b"", partition=0)
    producer.flush(PATIENCE)
    first, second, third = take(clients.reader(name, committed=True), 3)
    assert (first.key, first.value) == (None, b"value")
    assert [tuple(header) for header in first.headers] == [("a", b"1"), ("a", b""), ("b", b"\xff")]
    assert (second.key, second.value) == (b"key", None)
    assert (third.key, third.value) == (b"", b"")


def test_an_idempotent_producer_writes_each_record_once_in_order(clients: Clients, topic: Topic) -> None:
    name = topic()
    producer = clients.producer(enable_idempotence=True, acks="all")
    sent = [str(i).encode() for i in range(500)]
    assert write(producer, name, *sent) == list(range(500))
    assert values(clients.reader(name, committed=True), 500) == sent


def test_a_record_larger_than_the_topic_allows_is_refused(clients: Clients, topic: Topic) -> None:
    name = topic(max_message_bytes="2000")
    producer = clients.other_producer()
    outcome: list[Any] = []
    producer.produce(name, b"x" * 5000, partition=0, on_delivery=lambda error, _: outcome.append(error))
    producer.flush(PATIENCE)
    assert outcome[0].code() == confluent_kafka.KafkaError.MSG_SIZE_TOO_LARGE


def test_a_fetch_waits_for_the_next_record_and_returns_as_soon_as_it_is_there(clients: Clients, topic: Topic) -> None:
    name = topic()
    producer, reader = clients.producer(), clients.reader(name, committed=True)
    write(producer, name, b"first")
    take(reader, 1)
    started = time.monotonic()
    assert reader.poll(timeout_ms=700) == {}
    assert time.monotonic() - started > 0.5
    write(producer, name, b"second")
    assert values(reader, 1) == [b"second"]


# ---- topics


def test_a_topic_has_the_partitions_and_settings_that_it_was_created_with(clients: Clients, topic: Topic) -> None:
    name = topic(3, retention_ms="-1")
    assert clients.consumer().partitions_for_topic(name) == {0, 1, 2}
    admin = AdminClient({"bootstrap.servers": clients.servers, "log_level": 0})
    resource = confluent_kafka.admin.ConfigResource("topic", name)
    described = admin.describe_configs([resource], request_timeout=20)[resource].result(PATIENCE)
    assert described["retention.ms"].value == "-1"
    assert described["message.timestamp.type"].value == "CreateTime"


def test_creating_a_topic_again_is_refused(clients: Clients, topic: Topic) -> None:
    name = topic()
    with pytest.raises(TopicAlreadyExistsError):
        clients.admin().create_topics({name: {"num_partitions": 1, "replication_factor": 1}})


def test_a_deleted_topic_is_gone(clients: Clients, topic: Topic) -> None:
    name = topic()
    admin = clients.admin()
    assert name in admin.list_topics()
    admin.delete_topics([name])
    deadline = time.monotonic() + PATIENCE
    while name in admin.list_topics() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert name not in admin.list_topics()


def test_partitions_can_be_added_to_a_topic(clients: Clients, topic: Topic) -> None:
    name = topic(1)
    clients.admin().create_partitions({name: 3})
    deadline = time.monotonic() + PATIENCE
    while clients.consumer().partitions_for_topic(name) != {0, 1, 2} and time.monotonic() < deadline:
        time.sleep(0.05)
    assert write(clients.producer(), name, b"x", partition=2) == [0]


def test_writing_to_a_topic_that_does_not_exist_neither_works_nor_creates_it(clients: Clients) -> None:
    name = unique("absent")
    with pytest.raises(KafkaTimeoutError):
        clients.producer(max_block_ms=1000).send(name, b"x").get(5)
    assert name not in clients.admin().list_topics()


# ---- offsets and seeking


def test_offsets_are_found_by_time(clients: Clients, topic: Topic) -> None:
    name = topic(retention_ms="-1")
    producer = clients.producer(compression_type="gzip", linger_ms=20)
    for second in range(10):
        producer.send(name, str(second).encode(), partition=0, timestamp_ms=1_700_000_000_000 + 1000 * second)
    producer.flush(PATIENCE)
    reader, partition = clients.reader(name, committed=True), TopicPartition(name, 0)
    exact, between = 1_700_000_004_000, 1_700_000_004_001
    assert reader.offsets_for_times({partition: exact})[partition].offset == 4
    assert reader.offsets_for_times({partition: between})[partition].offset == 5
    assert reader.offsets_for_times({partition: 1_800_000_000_000})[partition] is None
    assert reader.beginning_offsets([partition])[partition] == 0
    assert reader.end_offsets([partition])[partition] == 10


def test_a_seek_into_the_middle_of_a_batch_starts_at_that_record(clients: Clients, topic: Topic) -> None:
    name = topic()
    write(clients.producer(compression_type="lz4", linger_ms=50), name, *(str(i).encode() for i in range(100)))
    reader = clients.reader(name, committed=True)
    take(reader, 100)
    reader.seek(TopicPartition(name, 0), 37)
    assert [record.offset for record in take(reader, 63)] == list(range(37, 100))


def test_after_records_are_deleted_the_log_begins_later(clients: Clients, topic: Topic) -> None:
    name = topic()
    partition = TopicPartition(name, 0)
    producer = clients.producer()
    for value in (b"0", b"1", b"2"):
        write(producer, name, value)
    clients.admin().delete_records({partition: 2})
    reader = clients.reader(name, committed=True)
    assert reader.beginning_offsets([partition])[partition] == 2
    reader.seek(partition, 0)
    assert values(reader, 1) == [b"2"]


def test_the_time_of_appending_replaces_the_producers_where_the_topic_says_so(clients: Clients, topic: Topic) -> None:
    name = topic(message_timestamp_type="LogAppendTime")
    producer = clients.producer(compression_type="gzip")
    producer.send(name, b"old", partition=0, timestamp_ms=1_000)
    producer.flush(PATIENCE)
    (record,) = take(clients.reader(name, committed=True), 1)
    assert abs(record.timestamp - time.time() * 1000) < 60_000


# ---- groups


def test_two_members_share_the_partitions_and_one_takes_all_when_the_other_leaves(
    clients: Clients, topic: Topic
) -> None:
    name, group = topic(4), unique("group")
    first = clients.consumer(name, group_id=group)
    poll_until([first], settled([first], 4))
    second = clients.consumer(name, group_id=group)
    poll_until([first, second], settled([first, second], 2, 2))
    second.close()
    poll_until([first], settled([first], 4))


def test_two_members_of_the_second_client_library_share_the_partitions(clients: Clients, topic: Topic) -> None:
    name, group = topic(4), unique("group")
    members = [clients.other_consumer(**{"group.id": group}) for _ in range(2)]
    for member in members:
        member.subscribe([name])
    deadline = time.monotonic() + PATIENCE
    while [len(m.assignment()) for m in members] != [2, 2] and time.monotonic() < deadline:
        for member in members:
            member.poll(0.2)
    assert [len(m.assignment()) for m in members] == [2, 2]


def test_a_member_that_stops_without_a_word_is_replaced_after_its_session(clients: Clients, topic: Topic) -> None:
    name, group = topic(2), unique("group")
    # One that stops polling leaves by itself after max_poll_interval; the group notices nothing else of it.
    silent = clients.consumer(name, group_id=group, session_timeout_ms=2000, max_poll_interval_ms=2500)
    poll_until([silent], settled([silent], 2))
    other = clients.consumer(name, group_id=group)
    poll_until([other], settled([other], 2))


def test_a_restarted_static_member_gets_its_partitions_back_and_nobody_else_notices(
    clients: Clients, topic: Topic
) -> None:
    name, group = topic(4), unique("group")
    stays = clients.consumer(name, group_id=group, group_instance_id="stays", session_timeout_ms=20_000)
    leaves = clients.consumer(name, group_id=group, group_instance_id="leaves", session_timeout_ms=20_000)
    poll_until([stays, leaves], settled([stays, leaves], 2, 2))
    before, generation = leaves.assignment(), stays.group_metadata().generation_id
    leaves.close()
    back = clients.consumer(name, group_id=group, group_instance_id="leaves", session_timeout_ms=20_000)
    poll_until([stays, back], settled([stays, back], 2, 2))
    assert back.assignment() == before
    assert stays.group_metadata().generation_id == generation


def test_a_second_member_with_the_same_instance_id_fences_the_first(clients: Clients, topic: Topic) -> None:
    name, group = topic(2), unique("group")
    first = clients.consumer(name, group_id=group, group_instance_id="one")
    poll_until([first], settled([first], 2))
    second = clients.consumer(name, group_id=group, group_instance_id="one")
    poll_until([second], settled([second], 2))
    # kafka-python's poll() only stops the heartbeats of a fenced member and says nothing; its next commit tells.
    stale = {TopicPartition(name, 0): OffsetAndMetadata(1, "", -1)}
    with pytest.raises(FencedInstanceIdError):
        first.commit(stale, timeout_ms=10_000)
    producer = clients.transactional()
    producer.begin_transaction()
    with pytest.raises(FencedInstanceIdError):
        producer.send_offsets_to_transaction(stale, first.group_metadata())
    producer.abort_transaction()
    assert second.committed(TopicPartition(name, 0), timeout_ms=10_000) is None


def test_a_cooperative_rebalance_leaves_the_partitions_that_stay_where_they_are(clients: Clients, topic: Topic) -> None:
    name, group = topic(4), unique("group")
    strategy = {"partition_assignment_strategy": [CooperativeStickyAssignor], "group_id": group}
    first = clients.consumer(name, **strategy)
    poll_until([first], settled([first], 4))
    before = first.assignment()
    second = clients.consumer(name, **strategy)
    kept = set(before)

    def shared_and_watched() -> bool:
        kept.intersection_update(first.assignment())
        return settled([first, second], 2, 2)()

    poll_until([first, second], shared_and_watched)
    assert kept == first.assignment()


def test_committed_offsets_are_where_a_group_goes_on(clients: Clients, topic: Topic) -> None:
    name, group = topic(), unique("group")
    partition = TopicPartition(name, 0)
    write(clients.producer(), name, b"0", b"1", b"2")
    first = clients.consumer(name, group_id=group)
    take(first, 3)
    first.commit({partition: OffsetAndMetadata(2, "note", -1)})
    first.close()
    second = clients.consumer(name, group_id=group)
    assert values(second, 1) == [b"2"]
    assert second.committed(partition) == 2
    assert second.committed(partition, metadata=True).metadata == "note"


def test_a_partition_without_a_committed_offset_has_none(clients: Clients, topic: Topic) -> None:
    consumer = clients.consumer(group_id=unique("group"))
    assert consumer.committed(TopicPartition(topic(), 0)) is None


def test_a_group_is_listed_and_described_with_its_member(clients: Clients, topic: Topic) -> None:
    name, group = topic(2), unique("group")
    member = clients.consumer(name, group_id=group, client_id="described")
    poll_until([member], settled([member], 2))
    admin = AdminClient({"bootstrap.servers": clients.servers, "log_level": 0})
    listed = admin.list_consumer_groups(request_timeout=20).result(PATIENCE).valid
    assert group in [found.group_id for found in listed]
    described = admin.describe_consumer_groups([group], request_timeout=20)[group].result(PATIENCE)
    assert described.state.name == "STABLE"
    (only,) = described.members
    assert only.client_id == "described"
    assert {p.partition for p in only.assignment.topic_partitions} == {0, 1}


# ---- transactions


def test_a_committed_transaction_is_read_and_an_aborted_one_is_not(clients: Clients, topic: Topic) -> None:
    name = topic()
    producer = clients.transactional()
    for value, commit in ((b"a", True), (b"b", False), (b"c", True)):
        producer.begin_transaction()
        write(producer, name, value)
        if commit:
            producer.commit_transaction()
        else:
            producer.abort_transaction()
    assert values(clients.reader(name, committed=True), 2) == [b"a", b"c"]
    assert values(clients.reader(name, committed=False), 3) == [b"a", b"b", b"c"]
    other = clients.other_consumer(**{"isolation.level": "read_committed"})
    other.subscribe([name])
    assert [message.value() for message in take_other(other, 2)] == [b"a", b"c"]


def test_the_second_client_library_commits_and_aborts(clients: Clients, topic: Topic) -> None:
    name = topic()
    producer = clients.other_producer(**{"transactional.id": unique("transactional")})
    producer.init_transactions(PATIENCE)
    for value, commit in ((b"a", True), (b"b", False), (b"c", True)):
        producer.begin_transaction()
        producer.produce(name, value, partition=0)
        producer.flush(PATIENCE)
        if commit:
            producer.commit_transaction(PATIENCE)
        else:
            producer.abort_transaction(PATIENCE)
    assert values(clients.reader(name, committed=True), 2) == [b"a", b"c"]


def test_an_open_transaction_hides_itself_and_what_follows_until_it_ends(clients: Clients, topic: Topic) -> None:
    name = topic()
    partition = TopicPartition(name, 0)
    plain, producer = clients.producer(), clients.transactional()
    write(plain, name, b"before")
    producer.begin_transaction()
    write(producer, name, b"inside")
    write(plain, name, b"after")
    reader, impatient = clients.reader(name, committed=True), clients.reader(name, committed=False)
    assert values(reader, 1) == [b"before"]
    assert values(impatient, 3) == [b"before", b"inside", b"after"]
    assert reader.end_offsets([partition])[partition] == 1
    assert impatient.end_offsets([partition])[partition] == 3
    producer.commit_transaction()
    assert values(reader, 2) == [b"inside", b"after"]
    assert reader.end_offsets([partition])[partition] == 4  # the marker takes an offset


def test_a_transaction_over_several_partitions_ends_in_all_of_them(clients: Clients, topic: Topic) -> None:
    name = topic(3)
    producer = clients.transactional()
    for number in range(3):
        producer.begin_transaction()
        for partition in range(3):
            producer.send(name, str(number).encode(), partition=partition)
        if number == 1:
            producer.flush(PATIENCE)
            producer.abort_transaction()
        else:
            producer.commit_transaction()
    consumer = clients.consumer(isolation_level="read_committed")
    consumer.assign([TopicPartition(name, partition) for partition in range(3)])
    assert sorted(values(consumer, 6)) == [b"0"] * 3 + [b"2"] * 3


def test_offsets_sent_to_a_transaction_count_only_when_it_commits(clients: Clients, topic: Topic) -> None:
    source, target, group = topic(), topic(), unique("group")
    partition = TopicPartition(source, 0)
    write(clients.producer(), source, b"0", b"1", b"2")
    consumer = clients.consumer(source, group_id=group, isolation_level="read_committed")
    take(consumer, 3)
    producer = clients.transactional()
    for offset, commit, expected in ((1, True, 1), (2, False, 1), (3, True, 3)):
        producer.begin_transaction()
        write(producer, target, str(offset).encode())
        producer.send_offsets_to_transaction({partition: OffsetAndMetadata(offset, "", -1)}, consumer.group_metadata())
        if commit:
            producer.commit_transaction()
        else:
            producer.abort_transaction()
        assert consumer.committed(partition, timeout_ms=20_000) == expected
    assert values(clients.reader(target, committed=True), 2) == [b"1", b"3"]


def test_a_member_of_an_earlier_generation_cannot_commit_offsets_in_a_transaction(
    clients: Clients, topic: Topic
) -> None:
    name, group = topic(2), unique("group")
    zombie = clients.consumer(name, group_id=group)
    poll_until([zombie], settled([zombie], 2))
    stale = zombie.group_metadata()
    newcomer = clients.consumer(name, group_id=group)
    poll_until([zombie, newcomer], settled([zombie, newcomer], 1, 1))
    producer = clients.transactional()
    producer.begin_transaction()
    write(producer, name, b"never committed")
    with pytest.raises(CommitFailedError):
        producer.send_offsets_to_transaction({TopicPartition(name, 0): OffsetAndMetadata(1, "", -1)}, stale)
    producer.abort_transaction()
    assert newcomer.committed(TopicPartition(name, 0), timeout_ms=20_000) is None
    assert clients.reader(name, committed=True).poll(timeout_ms=700) == {}


def test_a_new_producer_with_the_same_transactional_id_fences_the_old_one_and_aborts_its_transaction(
    clients: Clients, topic: Topic
) -> None:
    name, shared = topic(), unique("transactional")
    old = clients.transactional(shared)
    old.begin_transaction()
    write(old, name, b"old")
    new = clients.transactional(shared)
    new.begin_transaction()
    write(new, name, b"new")
    new.commit_transaction()
    with pytest.raises(ProducerFencedError):
        old.commit_transaction()
    assert values(clients.reader(name, committed=True), 1) == [b"new"]


def test_a_fenced_producer_cannot_write(clients: Clients, topic: Topic) -> None:
    name, shared = topic(), unique("transactional")
    old = clients.transactional(shared)
    old.begin_transaction()
    write(old, name, b"old")
    clients.transactional(shared)
    with pytest.raises(KafkaError):
        write(old, name, b"late")
    assert clients.reader(name, committed=True).poll(timeout_ms=700) == {}


def test_a_transaction_that_nobody_ends_is_aborted_after_its_timeout(clients: Clients, topic: Topic) -> None:
    name = topic()
    abandoned = clients.transactional(transaction_timeout_ms=1500)
    started = time.monotonic()
    abandoned.begin_transaction()
    write(abandoned, name, b"abandoned")
    write(clients.producer(), name, b"after")
    assert values(clients.reader(name, committed=True), 1) == [b"after"]
    assert time.monotonic() - started > 1.4, "not before the timeout"


@pytest.mark.parametrize(("isolation", "seconds"), [("read_uncommitted", 60.0), ("read_committed", 2.5)])
def test_the_committed_offset_waits_for_the_pending_transaction_of_a_dead_owner_if_asked_to(
    clients: Clients, topic: Topic, isolation: str, seconds: float
) -> None:
    name, group = topic(), unique("group")
    partition = TopicPartition(name, 0)
    owner = clients.consumer(name, group_id=group)
    poll_until([owner], settled([owner], 1))
    owner.commit({partition: OffsetAndMetadata(5, "", -1)})
    dead = clients.transactional(transaction_timeout_ms=int(seconds * 1000))
    started = time.monotonic()
    dead.begin_transaction()
    dead.send_offsets_to_transaction({partition: OffsetAndMetadata(9, "", -1)}, owner.group_metadata())
    reader = clients.consumer(group_id=group, isolation_level=isolation)
    assert reader.committed(partition, timeout_ms=20_000) == 5, "the careless do not wait for a minute"
    if isolation == "read_committed":
        assert time.monotonic() - started > seconds - 0.1, "not before the timeout"


def test_a_restarted_producer_settles_the_pending_offsets_of_the_one_before_it(clients: Clients, topic: Topic) -> None:
    name, group, shared = topic(), unique("group"), unique("transactional")
    partition = TopicPartition(name, 0)
    dead = clients.transactional(shared)
    dead.begin_transaction()
    owner = clients.consumer(name, group_id=group, isolation_level="read_committed")
    poll_until([owner], settled([owner], 1))
    dead.send_offsets_to_transaction({partition: OffsetAndMetadata(9, "", -1)}, owner.group_metadata())
    clients.transactional(shared)
    assert owner.committed(partition, timeout_ms=20_000) is None
