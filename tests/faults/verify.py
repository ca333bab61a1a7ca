"""The verifier: reads SQL and the topics by itself, with two different clients, and says what does not agree.

Lost: something that must be there is not. Doubled: it is there more than once. Mismatched: it is there, but different.
Nothing of pipeline is used, so that a mistake there cannot hide itself here.
"""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError
from confluent_kafka import TopicPartition as ConfluentPartition
from kafka import KafkaConsumer, TopicPartition
from sqlalchemy import text

from tests.faults.deployment import Deployment, Sender
from tests.faults.fleet import until
from tests.faults.panel import LEVELS, POISON, STEP, Panel, microseconds, time_of
from tests.faults.scale import scale

QUANTILES = ("q025", "q05", "q10", "q20", "q30", "q40", "q50", "q60", "q70", "q80", "q90", "q95", "q975")
READ_SECONDS = 60.0 * max(1.0, scale())
LAG_SECONDS = 240.0 * max(1.0, scale())
"""Far above what it takes, because other things run on the machine; what it took is in the table."""
CALIBRATION = 1
"""What `deploy` gives the seasonal naive."""


@dataclass(frozen=True)
class Record:
    """A message as a client of the topic sees it."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


@dataclass
class Findings:
    """What does not agree, in words; empty when all is well."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    mismatched: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.lost or self.doubled or self.mismatched)

    def __str__(self) -> str:
        lines = []
        for kind in ("lost", "doubled", "mismatched"):
            found = getattr(self, kind)
            lines += [f"{kind} {len(found)}", *(f"  {line}" for line in found[:8])] if found else []
        return "\n".join(lines) or "nothing lost, doubled or mismatched"

    def count(self, what: str, found: int, wanted: int = 1) -> None:
        if found < wanted:
            self.lost.append(f"{what}: {found} of {wanted}")
        elif found > wanted:
            self.doubled.append(f"{what}: {found} of {wanted}")


@dataclass(frozen=True)
class Forecast:
    """One forecast with its whole horizon; key (name, origin, version), times in microseconds."""

    steps: tuple[int, ...]
    targets: tuple[int, ...]
    quantiles: tuple[tuple[float, ...], ...]
    quality: str
    source: tuple[int, int]
    issued_at: int
    calibration: int


Key = tuple[str, int, int]


@dataclass(frozen=True)
class Evidence:
    """Everything that a run left behind, read once; tests plant faults in it."""

    sent: Mapping[tuple[bytes | None, bytes | None], int]
    input: Sequence[Record]
    ends: Mapping[int, int]
    observations: Sequence[tuple[str, int, float | None, int]]
    forecasts: Sequence[tuple[Key, Forecast]]
    letters: Sequence[tuple[int, int, str, bytes | None, bytes | None]]
    output: Mapping[str, Sequence[Record]]  # by client
    dead: Mapping[str, Sequence[Record]]  # by client
    stored: Mapping[int, int]  # S
    published: Mapping[str, Mapping[int, int]]  # K, by client
    stored_again: Mapping[int, range] = field(default_factory=dict)
    """Offsets by partition that a restored database took in once more: a row is newer there than its message."""


CLIENTS = ("kafka-python", "confluent-kafka")


def verify(
    deployment: Deployment, panel: Panel, sender: Sender, stored_again: Mapping[int, range] | None = None
) -> Findings:
    """Read everything and compare it with what was sent; every worker must have stopped or be idle."""
    evidence = replace(gather(deployment, sender), stored_again=stored_again or {})
    return judge(evidence, deployment, panel)


def gather(deployment: Deployment, sender: Sender) -> Evidence:
    """Read SQL, the topics and the offsets."""
    engine = deployment.engine()
    with engine.connect().execution_options(yield_per=10_000) as connection:
        rows = connection.execute(
            text("SELECT s.name, o.observed_at, o.value, o.events FROM observations o JOIN series s USING (series_id)")
        )
        observations = [(row.name, _instant(row.observed_at), row.value, row.events) for row in rows]
        rows = connection.execute(
            text(
                f"SELECT s.name, f.origin, f.model_version, f.step, f.target_time, {', '.join(QUANTILES)}, f.quality,"
                " f.source_partition, f.source_offset, f.issued_at, f.calibration"
                " FROM forecasts f JOIN series s USING (series_id) ORDER BY 1, 2, 3, 4"
            )
        )
        forecasts = list(_forecasts(rows))
        rows = connection.execute(
            text("SELECT source_partition, source_offset, reason, key, value FROM dead_letters WHERE topic = :topic"),
            {"topic": deployment.topic},
        )
        letters = [(row[0], row[1], row[2], _bytes(row[3]), _bytes(row[4])) for row in rows]
    engine.dispose()
    return Evidence(
        sent=dict(sender.sent),
        input=read_confluent(deployment, deployment.topic),
        ends=ends(deployment),
        observations=observations,
        forecasts=forecasts,
        letters=letters,
        output=_by_client(deployment, deployment.output),
        dead=_by_client(deployment, deployment.dead_letters),
        stored=deployment.stored(),
        published={CLIENTS[0]: published_python(deployment), CLIENTS[1]: published_confluent(deployment)},
    )


def judge(evidence: Evidence, deployment: Deployment, panel: Panel) -> Findings:
    """Compare what was found with the closed form of what was sent, and its parts with each other."""
    findings = Findings()
    _judge_input(evidence, findings)
    _judge_offsets(evidence, findings)
    _judge_observations(evidence, panel, findings)
    _judge_forecasts(evidence, panel, findings)
    _judge_messages(evidence, deployment, findings)
    _judge_dead_letters(evidence, deployment, findings)
    return findings


def agreement(evidence: Evidence, deployment: Deployment) -> Findings:
    """Compare the parts of what was found with each other only, whatever the numbers are."""
    findings = Findings()
    _judge_input(evidence, findings)
    _judge_offsets(evidence, findings)
    _judge_messages(evidence, deployment, findings)
    _judge_dead_letters(evidence, deployment, findings)
    return findings


def _judge_input(evidence: Evidence, findings: Findings) -> None:
    arrived = Counter((record.key, record.value) for record in evidence.input)
    for message in arrived.keys() | evidence.sent.keys():
        findings.count(f"input message {message[0]!r}", arrived[message], evidence.sent.get(message, 0))


def _judge_offsets(evidence: Evidence, findings: Findings) -> None:
    for partition, end in evidence.ends.items():
        at = {"S": evidence.stored.get(partition)}
        at |= {f"K by {client}": found.get(partition) for client, found in evidence.published.items()}
        for name, offset in at.items():
            if offset != end:
                findings.mismatched.append(f"partition {partition} ends at {end}, but {name} is {offset}")


def _judge_observations(evidence: Evidence, panel: Panel, findings: Findings) -> None:
    wanted = Counter(key for key, _ in _events(evidence))
    times = {microseconds(time_of(t)): t for t in range(panel.steps)}
    rows = Counter((name, at) for name, at, _, _ in evidence.observations)
    found: Counter[tuple[str, int]] = Counter()
    for name, at, value, events in evidence.observations:
        found[name, at] += events
        if (name, at) in wanted and value != panel.value(name, times[at]):
            findings.mismatched.append(f"observation {name} {_said(at)}: {value}, not {panel.value(name, times[at])}")
    for key in wanted.keys() | found.keys():
        findings.count(f"events in observation {key[0]} {_said(key[1])}", found[key], wanted[key])
        if rows[key] > 1:
            findings.doubled.append(f"observation {key[0]} {_said(key[1])}: {rows[key]} rows")


def _judge_forecasts(evidence: Evidence, panel: Panel, findings: Findings) -> None:
    first: dict[Key, tuple[int, int]] = {}
    for (name, at), source in _events(evidence):
        first.setdefault((name, at, 0), source)
    times = {microseconds(time_of(t)): t for t in range(panel.steps)}
    rows = Counter(key for key, _ in evidence.forecasts)
    for key in first.keys() | rows.keys():
        findings.count(f"forecast {_named(key)}", rows[key], int(key in first))
    hour = STEP // timedelta(microseconds=1)
    for key, forecast in evidence.forecasts:
        if key not in first:
            continue
        horizon = range(1, panel.horizon + 1)
        for step in horizon:
            findings.count(f"forecast {_named(key)} step {step}", forecast.steps.count(step))
        wrong = []
        if forecast.targets != tuple(key[1] + step * hour for step in forecast.steps):
            wrong.append("target times")
        if forecast.quality != "fallback":
            wrong.append(f"quality {forecast.quality}")
        if forecast.calibration != CALIBRATION:
            wrong.append(f"calibration {forecast.calibration}, not {CALIBRATION}")
        if forecast.source != first[key]:
            wrong.append(f"source {forecast.source}, not {first[key]}")
        if forecast.steps == tuple(horizon):
            wrong += _wrong_numbers(forecast.quantiles, panel.forecast(key[0], times[key[1]]))
        if wrong:
            findings.mismatched.append(f"forecast {_named(key)}: {'; '.join(wrong)}")


def _wrong_numbers(found: Sequence[Sequence[float]], wanted: Sequence[Sequence[float]]) -> list[str]:
    median = LEVELS.index(0.5)
    wrong = []
    for h, (row, exact) in enumerate(zip(found, wanted, strict=True), start=1):
        if row[median] != exact[median]:
            wrong.append(f"the median of step {h} is {row[median]}, not {exact[median]}")
        elif not all(math.isclose(a, b, rel_tol=1e-5, abs_tol=0.02) for a, b in zip(row, exact, strict=True)):
            wrong.append(f"the quantiles of step {h} are {row}, not {exact}")
    return wrong


def _judge_messages(evidence: Evidence, deployment: Deployment, findings: Findings) -> None:
    _judge_clients(evidence.output, "output", findings)
    rows = dict(evidence.forecasts)
    for client, records in evidence.output.items():
        counted: Counter[Key] = Counter()
        newest: dict[int, int] = defaultdict(lambda: -1)
        for record in records:
            fields = json.loads(record.value or b"{}")
            key = (fields["series_id"], microseconds(datetime.fromisoformat(fields["origin"])), fields["model_version"])
            counted[key] += 1
            row = rows.get(key)
            if row is None:
                continue
            partition, offset = row.source
            headers = {
                "forecast_id": f"{fields['series_id']}@{fields['origin']}#{key[2]}",
                "source": f"{deployment.topic}/{partition}/{offset}",
            }
            issued_at = microseconds(datetime.fromisoformat(fields["issued_at"]))
            again = offset in evidence.stored_again.get(partition, ())
            same = (
                record.key == fields["series_id"].encode()
                and record.partition == partition % deployment.partitions
                and dict(record.headers) == {name: value.encode() for name, value in headers.items()}
                and tuple(fields["quantile_levels"]) == LEVELS
                and tuple(map(tuple, fields["quantiles"])) == row.quantiles
                and fields["steps"] == len(row.steps)
                and fields["quality"] == row.quality
                and fields["calibration"] == row.calibration
                and (issued_at < row.issued_at if again else issued_at == row.issued_at)
            )
            if not same:
                findings.mismatched.append(f"{client}: message {_named(key)} differs from its rows")
            if 0 <= offset < newest[partition]:  # a re-forecast has no event
                findings.mismatched.append(f"{client}: message {_named(key)} comes after one of a later offset")
            newest[partition] = max(newest[partition], offset)
        for key in counted.keys() | rows.keys():
            findings.count(f"{client}: message {_named(key)}", counted[key], int(key in rows))


def _judge_dead_letters(evidence: Evidence, deployment: Deployment, findings: Findings) -> None:
    _judge_clients(evidence.dead, "dead letters", findings)
    wanted = {
        (record.partition, record.offset): (record.key, record.value) for record in evidence.input if _bad(record)
    }
    rows = Counter((partition, offset) for partition, offset, *_ in evidence.letters)
    for source in wanted.keys() | rows.keys():
        findings.count(f"dead letter {source}", rows[source], int(source in wanted))
    reasons = {}
    for partition, offset, reason, *content in evidence.letters:
        reasons[f"{deployment.topic}/{partition}/{offset}"] = reason
        if tuple(content) != wanted.get((partition, offset)):
            findings.mismatched.append(f"dead letter {partition}/{offset} holds other bytes than the input")
    for client, records in evidence.dead.items():
        counted: Counter[str] = Counter()
        for record in records:
            headers = dict(record.headers)
            named = headers["source"].decode()
            counted[named] += 1
            partition, offset = map(int, named.split("/")[1:])
            if (record.key, record.value) != wanted.get((partition, offset)):
                findings.mismatched.append(f"{client}: dead letter {named} holds other bytes than the input")
            if headers["reason"].decode() != reasons.get(named):
                findings.mismatched.append(f"{client}: dead letter {named} gives another reason than SQL")
        for named in counted.keys() | reasons.keys():
            findings.count(f"{client}: dead letter {named}", counted[named], int(named in reasons))


def _judge_clients(read: Mapping[str, Sequence[Record]], what: str, findings: Findings) -> None:
    one, other = (set(read[client]) for client in CLIENTS)
    for client, only in ((CLIENTS[0], one - other), (CLIENTS[1], other - one)):
        if only:
            findings.mismatched.append(f"{what}: {len(only)} messages look so to {client} only")


def _events(evidence: Evidence) -> Iterator[tuple[tuple[str, int], tuple[int, int]]]:
    """The readings of good input messages: ((name, time), (partition, offset)), in the order of offsets."""
    for record in sorted(evidence.input, key=lambda record: (record.partition, record.offset)):
        if not _bad(record):
            fields = json.loads(record.value or b"")
            at = microseconds(datetime.fromisoformat(fields["timestamp"]))
            for name in fields.get("readings") or [fields["series_id"]]:
                yield (name, at), (record.partition, record.offset)


def _bad(record: Record) -> bool:
    return record.key is not None and record.key.startswith(POISON)


def wait_for_lag_0(deployment: Deployment, seconds: float = LAG_SECONDS) -> None:
    """Wait until everything in the input is stored and published."""
    end = ends(deployment)

    def said() -> str:
        return f"lag 0; the input ends at {end}, S is {deployment.stored()}, K is {published_confluent(deployment)}"

    until(lambda: deployment.stored() == end, seconds, said)
    until(lambda: published_confluent(deployment) == end, seconds, said)


def ends(deployment: Deployment) -> dict[int, int]:
    """The next offset of every partition of the input that is not empty."""
    with _python(deployment) as consumer:
        at = [TopicPartition(deployment.topic, partition) for partition in range(deployment.partitions)]
        return {each.partition: offset for each, offset in consumer.end_offsets(at).items()}


def published_python(deployment: Deployment) -> dict[int, int]:
    """K as kafka-python reads it."""
    with _python(deployment, group_id=deployment.group) as consumer:
        at = [TopicPartition(deployment.topic, partition) for partition in range(deployment.partitions)]
        found = {each.partition: consumer.committed(each, timeout_ms=int(READ_SECONDS * 1000)) for each in at}
    return {partition: offset for partition, offset in found.items() if offset is not None}


def published_confluent(deployment: Deployment) -> dict[int, int]:
    """K as librdkafka reads it."""
    consumer = _confluent(deployment, deployment.group)
    try:
        at = [ConfluentPartition(deployment.topic, partition) for partition in range(deployment.partitions)]
        found = consumer.committed(at, timeout=READ_SECONDS)
        return {each.partition: each.offset for each in found if each.offset >= 0}
    finally:
        consumer.close()


def read_python(deployment: Deployment, topic: str) -> list[Record]:
    """Read a topic's committed messages to its end with kafka-python."""
    records: list[Record] = []
    with _python(deployment) as consumer:
        at = [TopicPartition(topic, partition) for partition in range(deployment.partitions)]
        consumer.assign(at)
        consumer.seek_to_beginning(*at)
        end = consumer.end_offsets(at)

        def read() -> bool:
            for partition, polled in consumer.poll(timeout_ms=500, max_records=5_000).items():
                records.extend(
                    Record(partition.partition, each.offset, each.key, each.value, tuple(each.headers))
                    for each in polled
                )
            return all(consumer.position(each) >= end[each] for each in at)

        until(read, READ_SECONDS, f"reading {topic} to {end} with kafka-python", pause=0)
    return records


def read_confluent(deployment: Deployment, topic: str) -> list[Record]:
    """Read a topic's committed messages to its end with librdkafka."""
    records: list[Record] = []
    ended: set[int] = set()
    consumer = _confluent(deployment, "verifier")

    def read() -> bool:
        for message in consumer.consume(5_000, timeout=0.5):
            error = message.error()
            partition = message.partition()
            assert partition is not None
            if error is None:
                headers = tuple((name, bytes(value or b"")) for name, value in dict(message.headers() or ()).items())
                records.append(Record(partition, message.offset() or 0, message.key(), message.value(), headers))
            elif error.code() == KafkaError._PARTITION_EOF:
                ended.add(partition)
            else:
                raise AssertionError(f"reading {topic}: {error}")
        return len(ended) == deployment.partitions

    try:
        consumer.assign(
            [ConfluentPartition(topic, partition, OFFSET_BEGINNING) for partition in range(deployment.partitions)]
        )
        until(read, READ_SECONDS, f"reading {topic} with librdkafka", pause=0)
    finally:
        consumer.close()
    return records


def _by_client(deployment: Deployment, topic: str) -> dict[str, Sequence[Record]]:
    return {CLIENTS[0]: read_python(deployment, topic), CLIENTS[1]: read_confluent(deployment, topic)}


def _python(deployment: Deployment, **options: Any) -> Any:
    return KafkaConsumer(
        bootstrap_servers=deployment.bootstrap_servers,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="none",
        **options,
    )


def _confluent(deployment: Deployment, group: str) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": deployment.bootstrap_servers,
            "group.id": group,
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "log_level": 0,
        }
    )


def _forecasts(rows: Any) -> Iterator[tuple[Key, Forecast]]:
    """Join the rows of each forecast; they come in the order of its key."""
    for key, group in groupby(rows, key=lambda row: (row.name, _instant(row.origin), row.model_version)):
        steps = list(group)
        first = steps[0]
        yield (
            key,
            Forecast(
                steps=tuple(row.step for row in steps),
                targets=tuple(_instant(row.target_time) for row in steps),
                quantiles=tuple(tuple(getattr(row, name) for name in QUANTILES) for row in steps),
                quality=first.quality,
                source=(first.source_partition, first.source_offset),
                issued_at=_instant(first.issued_at),
                calibration=first.calibration if len({row.calibration for row in steps}) == 1 else -1,
            ),
        )


def _instant(value: str | datetime) -> int:
    moment = datetime.fromisoformat(value).replace(tzinfo=UTC) if isinstance(value, str) else value
    return microseconds(moment)


def _bytes(value: Any) -> bytes | None:
    return None if value is None else bytes(value)


def _said(instant: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=instant)).isoformat()


def _named(key: Key) -> str:
    return f"{key[0]}@{_said(key[1])}#{key[2]}"
