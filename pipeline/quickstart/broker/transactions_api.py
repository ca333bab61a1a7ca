"""Requests of transactional and idempotent producers (TxnOffsetCommit is with the groups)."""

from typing import Any

from pipeline.quickstart.broker.codes import Code
from pipeline.quickstart.broker.node import Caller, Node

Answer = dict[str, Any]


def init_producer_id(node: Node, request: Any, caller: Caller) -> Answer:
    """Give out a producer id and epoch; before version 4 there was no word for fenced."""
    producer, epoch = (request.producer_id, request.producer_epoch) if caller.version >= 3 else (-1, -1)
    code, producer, epoch = node.transactions.init(
        request.transactional_id, request.transaction_timeout_ms, producer, epoch
    )
    return {"error_code": _worded(code, caller.version >= 4), "producer_id": producer, "producer_epoch": epoch}


def add_partitions_to_txn(node: Node, request: Any, caller: Caller) -> Answer:
    """Enlist partitions; if one of them does not exist, none is enlisted."""
    name = request.v3_and_below_transactional_id
    asked = [(topic.name, index) for topic in request.v3_and_below_topics for index in topic.partitions]
    code = node.transactions.check(name, request.v3_and_below_producer_id, request.v3_and_below_producer_epoch)
    code = _worded(code, caller.version >= 2)
    unknown = {partition for partition in asked if node.topics.log(*partition) is None}
    if not code and not unknown:
        node.transactions.add(name, set(asked), set(), node.now())
    elif not code:
        code = Code.OPERATION_NOT_ATTEMPTED
    results: dict[str, list[Answer]] = {}
    for topic, index in asked:
        missing = (topic, index) in unknown and code is Code.OPERATION_NOT_ATTEMPTED
        result = Code.UNKNOWN_TOPIC_OR_PARTITION if missing else code
        results.setdefault(topic, []).append({"partition_index": index, "partition_error_code": result})
    by_topic = [{"name": topic, "results_by_partition": result} for topic, result in results.items()]
    return {"results_by_topic_v3_and_below": by_topic}


def add_offsets_to_txn(node: Node, request: Any, caller: Caller) -> Answer:
    """Enlist a group whose offsets will be committed."""
    name = request.transactional_id
    code = node.transactions.check(name, request.producer_id, request.producer_epoch)
    if not code:
        node.transactions.add(name, set(), {request.group_id}, node.now())
    return {"error_code": _worded(code, caller.version >= 2)}


def end_txn(node: Node, request: Any, caller: Caller) -> Answer:
    """Commit or abort."""
    name, producer, epoch = request.transactional_id, request.producer_id, request.producer_epoch
    code = node.transactions.end(name, producer, epoch, commit=request.committed)
    return {"error_code": _worded(code, caller.version >= 2)}


def _worded(code: Code, knows_fenced: bool) -> Code:
    return Code.INVALID_PRODUCER_EPOCH if code is Code.PRODUCER_FENCED and not knows_fenced else code
