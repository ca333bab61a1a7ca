"""Produce, Fetch, ListOffsets and DeleteRecords."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

from pipeline.quickstart.broker.batch import parse
from pipeline.quickstart.broker.codes import Code
from pipeline.quickstart.broker.log import PartitionLog
from pipeline.quickstart.broker.node import Caller, Node

Answer = dict[str, Any]
LATEST, EARLIEST = -1, -2


def produce(node: Node, request: Any, _: Caller) -> Answer | None:
    """Append one batch per partition; with acks=0 there is no answer."""
    responses = []
    for topic in request.topic_data:
        partitions = []
        for part in topic.partition_data:
            code, base, appended_at = _append(node, topic.name, part.index, part.records or b"")
            log = node.topics.log(topic.name, part.index)
            start = log.start if log else -1
            answer = {"index": part.index, "error_code": code, "base_offset": base, "log_start_offset": start}
            partitions.append(answer | {"log_append_time_ms": appended_at, "record_errors": []})
        responses.append({"name": topic.name, "partition_responses": partitions})
    return {"responses": responses} if request.acks != 0 else None


def _append(node: Node, topic: str, partition: int, records: bytes) -> tuple[Code, int, int]:
    log = node.topics.log(topic, partition)
    if log is None:
        return Code.UNKNOWN_TOPIC_OR_PARTITION, -1, -1
    batch = parse(records)
    if batch is None:
        return Code.CORRUPT_MESSAGE, -1, -1
    if batch.control:
        return Code.INVALID_RECORD, -1, -1
    if len(records) > int(node.topics[topic].setting("max.message.bytes")):
        return Code.MESSAGE_TOO_LARGE, -1, -1
    if batch.transactional:
        refused = node.transactions.check_write(batch.producer, batch.epoch, (topic, partition))
        if refused:
            return refused, -1, -1
    appended_at = -1
    if node.topics[topic].setting("message.timestamp.type") == "LogAppendTime":
        appended_at = node.now_ms()
        batch = batch.stamped(appended_at)
    code, base = log.append(batch)
    return code, base, appended_at


async def fetch(node: Node, request: Any, _: Caller) -> Answer:
    """Answer as soon as there are `min_bytes`, an error, or `max_wait_ms` have passed; appends wake the wait."""
    deadline = node.now() + request.max_wait_ms / 1000
    logs = [log for topic, part in _asked(request) if (log := node.topics.log(topic, part.partition))]
    changed = asyncio.Event()
    for log in logs:
        log.watchers.add(changed.set)
    try:
        while True:
            changed.clear()
            size, answer = _read_all(node, request)
            left = deadline - node.now()
            if size is None or size >= request.min_bytes or left <= 0:
                return answer
            try:
                await asyncio.wait_for(changed.wait(), left)
            except TimeoutError:
                deadline = 0.0
    finally:
        for log in logs:
            log.watchers.discard(changed.set)


def _asked(request: Any) -> Iterator[tuple[str, Any]]:
    for topic in request.topics:
        for part in topic.partitions:
            yield topic.topic, part


def _read_all(node: Node, request: Any) -> tuple[int | None, Answer]:
    """Read every partition of a request; the size is None if one has an error, which is answered at once."""
    size: int | None = 0
    left = request.max_bytes
    by_topic: dict[str, list[Answer]] = {}
    for topic, part in _asked(request):
        log = node.topics.log(topic, part.partition)
        answer = _read(log, part, request.isolation_level == 1, left, first=left == request.max_bytes)
        left -= len(answer["records"])
        size = None if size is None or answer["error_code"] else size + len(answer["records"])
        by_topic.setdefault(topic, []).append(answer)
    responses = [{"topic": topic, "partitions": partitions} for topic, partitions in by_topic.items()]
    return size, {"error_code": Code.NONE, "session_id": 0, "responses": responses}


def _read(log: PartitionLog | None, part: Any, committed: bool, left: int, *, first: bool) -> Answer:
    answer: Answer = {"partition_index": part.partition, "error_code": Code.NONE, "high_watermark": -1}
    answer |= {"aborted_transactions": [] if committed else None, "records": b""}
    if log is None:
        return answer | {"error_code": Code.UNKNOWN_TOPIC_OR_PARTITION}
    answer |= {"high_watermark": log.end, "last_stable_offset": log.stable, "log_start_offset": log.start}
    if not log.start <= part.fetch_offset <= log.end:
        return answer | {"error_code": Code.OFFSET_OUT_OF_RANGE}
    room = min(left, part.partition_max_bytes)
    found = log.read(part.fetch_offset, room, committed=committed, at_least_one=first)
    answer["records"] = found.records
    if committed:
        answer["aborted_transactions"] = [
            {"producer_id": aborted.producer, "first_offset": aborted.first} for aborted in found.aborted
        ]
    return answer


def list_offsets(node: Node, request: Any, _: Caller) -> Answer:
    """Answer the earliest offset, the latest (stable) one, or the first at or after a time."""

    def look_up(log: PartitionLog, part: Any) -> Answer:
        committed = request.isolation_level == 1
        time_ms = -1
        if part.timestamp == EARLIEST:
            offset = log.start
        elif part.timestamp == LATEST:
            offset = log.stable if committed else log.end
        else:
            offset, time_ms = log.offset_at(part.timestamp, committed=committed)
        return {"error_code": Code.NONE, "timestamp": time_ms, "offset": offset, "leader_epoch": 0}

    return _per_partition(node, request, look_up, {"timestamp": -1, "offset": -1})


def delete_records(node: Node, request: Any, _: Caller) -> Answer:
    """Move the start of partitions, as retention would."""

    def delete(log: PartitionLog, part: Any) -> Answer:
        return {"error_code": log.delete_before(part.offset), "low_watermark": log.start}

    return _per_partition(node, request, delete, {"low_watermark": -1})


def _per_partition(node: Node, request: Any, answer: Callable[[PartitionLog, Any], Answer], unknown: Answer) -> Answer:
    topics = []
    for topic in request.topics:
        partitions = []
        for part in topic.partitions:
            log = node.topics.log(topic.name, part.partition_index)
            found = answer(log, part) if log else {"error_code": Code.UNKNOWN_TOPIC_OR_PARTITION, **unknown}
            partitions.append({"partition_index": part.partition_index, **found})
        topics.append({"name": topic.name, "partitions": partitions})
    return {"topics": topics}
