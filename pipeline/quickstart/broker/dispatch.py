"""From the bytes of a request to the bytes of its response: the table of what this broker speaks.

Of fetching, the versions advertised are below topic ids; all are above the oldest that Apache Kafka 4 accepts.
"""

import inspect
import struct
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import kafka.protocol.metadata as cluster
from kafka.protocol import admin, consumer, producer

from pipeline.quickstart.broker import groups_api, records_api, topics_api, transactions_api
from pipeline.quickstart.broker.codes import Code
from pipeline.quickstart.broker.node import Caller, Node

Answer = dict[str, Any]
Handler = Callable[[Node, Any, Caller], Answer | Awaitable[Answer | None] | None]


class Api(NamedTuple):
    """One kind of request."""

    request: Any
    response: Any
    oldest: int
    newest: int
    handle: Handler


def api_versions(_node: Node, _request: Any, _: Caller) -> Answer:
    """List what is spoken here."""
    spoken = [{"api_key": key, "min_version": a.oldest, "max_version": a.newest} for key, a in APIS.items()]
    return {"error_code": Code.NONE, "api_keys": spoken}


def _table(*rows: tuple[Any, str, int, int, Handler]) -> dict[int, Api]:
    apis = {}
    for module, name, oldest, newest, handle in rows:
        request, response = getattr(module, f"{name}Request"), getattr(module, f"{name}Response")
        apis[int(request.API_KEY)] = Api(request, response, oldest, newest, handle)
    return apis


APIS = _table(
    (cluster, "ApiVersions", 0, 3, api_versions),
    (cluster, "Metadata", 1, 12, topics_api.metadata),
    (cluster, "FindCoordinator", 0, 3, topics_api.find_coordinator),
    (producer, "Produce", 3, 9, records_api.produce),
    (consumer, "Fetch", 4, 12, records_api.fetch),
    (consumer, "ListOffsets", 1, 6, records_api.list_offsets),
    (admin, "DeleteRecords", 0, 2, records_api.delete_records),
    (admin, "CreateTopics", 2, 5, topics_api.create_topics),
    (admin, "DeleteTopics", 1, 4, topics_api.delete_topics),
    (admin, "CreatePartitions", 0, 3, topics_api.create_partitions),
    (admin, "DescribeConfigs", 1, 4, topics_api.describe_configs),
    (consumer, "JoinGroup", 0, 7, groups_api.join_group),
    (consumer, "SyncGroup", 0, 5, groups_api.sync_group),
    (consumer, "Heartbeat", 0, 4, groups_api.heartbeat),
    (consumer, "LeaveGroup", 0, 5, groups_api.leave_group),
    (consumer, "OffsetCommit", 2, 8, groups_api.offset_commit),
    (consumer, "OffsetFetch", 1, 7, groups_api.offset_fetch),
    (consumer, "OffsetDelete", 0, 0, groups_api.offset_delete),
    (admin, "ListGroups", 0, 4, groups_api.list_groups),
    (admin, "DescribeGroups", 0, 4, groups_api.describe_groups),
    (admin, "DeleteGroups", 0, 2, groups_api.delete_groups),
    (producer, "InitProducerId", 0, 4, transactions_api.init_producer_id),
    (producer, "AddPartitionsToTxn", 0, 3, transactions_api.add_partitions_to_txn),
    (producer, "AddOffsetsToTxn", 0, 3, transactions_api.add_offsets_to_txn),
    (producer, "TxnOffsetCommit", 0, 3, groups_api.txn_offset_commit),
    (producer, "EndTxn", 0, 3, transactions_api.end_txn),
)


async def answer(node: Node, frame: bytes, host: str) -> bytes | None:
    """Answer one request; None when no answer is due. A ValueError means that the connection cannot go on."""
    if len(frame) < 8:
        raise ValueError("a request is at least eight bytes long")
    key, version, correlation = struct.unpack_from(">hhi", frame)
    api = APIS.get(key)
    if api is None or not api.oldest <= version <= api.newest:
        if api is None or api.handle is not api_versions:
            raise ValueError(f"version {version} of request kind {key} is not spoken here")
        # A client that is too new learns the versions from an answer in the oldest form.
        refusal = api_versions(node, None, Caller("", host, 0)) | {"error_code": Code.UNSUPPORTED_VERSION}
        return _encode(api, 0, correlation, refusal)
    request = api.request.decode(frame, version=version, header=True)
    result = api.handle(node, request, Caller(request.header.client_id or "", host, version))
    values = await result if inspect.isawaitable(result) else result
    return None if values is None else _encode(api, version, correlation, values)


def _encode(api: Api, version: int, correlation: int, values: Answer) -> bytes:
    response = _build(api.response, api.response.fields, values)
    response.API_VERSION = version
    response.with_header(correlation_id=correlation)
    return bytes(response.encode(header=True, framed=True))


def _build(make: Any, fields: Any, values: Answer) -> Any:
    """Turn dictionaries into the library's classes, level by level; what is not named keeps its default."""
    filled = dict(values)
    for name, value in values.items():
        field = fields[name]
        if field.is_struct_array() and value is not None:
            filled[name] = [_build(field, field.fields, element) for element in value]
    return make(**filled)
