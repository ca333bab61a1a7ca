"""Requests about groups: membership, offsets, and their administration."""

import asyncio
from typing import Any

from pipeline.quickstart.broker.codes import Code
from pipeline.quickstart.broker.groups import Group
from pipeline.quickstart.broker.members import Join, State
from pipeline.quickstart.broker.node import Caller, Node
from pipeline.quickstart.broker.offsets import Committed

Answer = dict[str, Any]
SHORTEST_SESSION_MS, LONGEST_SESSION_MS = 1_000, 1_800_000


async def join_group(node: Node, request: Any, caller: Caller) -> Answer:
    """Join; answered when the generation has formed."""
    refused = Code.NONE
    if not request.group_id:
        refused = Code.INVALID_GROUP_ID
    elif not SHORTEST_SESSION_MS <= request.session_timeout_ms <= LONGEST_SESSION_MS:
        refused = Code.INVALID_SESSION_TIMEOUT
    elif request.member_id and request.group_id not in node.groups:
        refused = Code.UNKNOWN_MEMBER_ID
    if refused:
        return {"error_code": refused, "protocol_name": "", "leader": "", "member_id": request.member_id, "members": []}
    rebalance_ms = request.rebalance_timeout_ms if caller.version >= 1 else request.session_timeout_ms
    join = Join(
        member=request.member_id,
        instance=request.group_instance_id,
        client=caller.client,
        host=caller.host,
        session_timeout=request.session_timeout_ms / 1000,
        rebalance_timeout=rebalance_ms / 1000,
        protocol_type=request.protocol_type,
        protocols={protocol.name: protocol.metadata for protocol in request.protocols},
        must_return_with_id=caller.version >= 4,
    )
    answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    node.groups.setdefault(request.group_id, Group()).join(join, lambda a: _resolve(answer, a), node.now())
    return await answer


async def sync_group(node: Node, request: Any, _: Caller) -> Answer:
    """Fetch the assignment; answered when the leader has brought the plan."""
    group = node.groups.get(request.group_id)
    if group is None:
        return {"error_code": Code.UNKNOWN_MEMBER_ID, "assignment": b""}
    plan = {entry.member_id: entry.assignment for entry in request.assignments}
    answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    instance, generation = request.group_instance_id, request.generation_id
    group.sync(request.member_id, instance, generation, plan, lambda a: _resolve(answer, a), node.now())
    return await answer


def _resolve(answer: asyncio.Future[Answer], value: Answer) -> None:
    if not answer.done():  # its connection may have been closed and the wait cancelled
        answer.set_result(value)


def heartbeat(node: Node, request: Any, _: Caller) -> Answer:
    """Keep a member's session alive."""
    group = node.groups.get(request.group_id)
    if group is None:
        return {"error_code": Code.UNKNOWN_MEMBER_ID}
    instance, generation = request.group_instance_id, request.generation_id
    return {"error_code": group.heartbeat(request.member_id, instance, generation, node.now())}


def leave_group(node: Node, request: Any, caller: Caller) -> Answer:
    """Remove members; before version 3 there is one and its error is the answer's."""
    group = node.groups.get(request.group_id)
    if caller.version < 3:
        known = group.leave(request.member_id, None, node.now()) if group else Code.UNKNOWN_MEMBER_ID
        return {"error_code": known}
    members = []
    for entry in request.members:
        instance = entry.group_instance_id
        code = group.leave(entry.member_id, instance, node.now()) if group else Code.UNKNOWN_MEMBER_ID
        members.append({"member_id": entry.member_id, "group_instance_id": instance, "error_code": code})
    return {"error_code": Code.NONE, "members": members}


def offset_commit(node: Node, request: Any, _: Caller) -> Answer:
    """Store next offsets of a member of the current generation, or of a consumer that manages itself."""
    generation = request.generation_id_or_member_epoch
    group = _group_for_commit(node, request.group_id, generation)
    code = Code.ILLEGAL_GENERATION
    if group is not None:
        code = group.check_commit(request.member_id, request.group_instance_id, generation, transactional=False)

    def store(topic: str, part: Any) -> None:
        assert group is not None
        group.offsets.committed[topic, part.partition_index] = _committed(part)

    return _commit_each(node, request, code, store)


def txn_offset_commit(node: Node, request: Any, caller: Caller) -> Answer:
    """Stage next offsets until the transaction ends; a member of an earlier generation is refused (KIP-447)."""
    name, producer = request.transactional_id, request.producer_id
    code = node.transactions.check_offsets(name, producer, request.producer_epoch, request.group_id)
    if code is Code.PRODUCER_FENCED:
        code = Code.INVALID_PRODUCER_EPOCH
    generation = request.generation_id if caller.version >= 3 else -1
    group = _group_for_commit(node, request.group_id, generation)
    if group is None:
        code = code or Code.ILLEGAL_GENERATION
    elif not code:
        code = group.check_commit(request.member_id, request.group_instance_id, generation, transactional=True)

    def stage(topic: str, part: Any) -> None:
        assert group is not None
        group.offsets.stage(producer, (topic, part.partition_index), _committed(part))

    return _commit_each(node, request, code, stage)


def _group_for_commit(node: Node, name: str, generation: int) -> Group | None:
    if generation < 0:
        return node.groups.setdefault(name, Group())
    return node.groups.get(name)


def _committed(part: Any) -> Committed:
    return Committed(part.committed_offset, part.committed_leader_epoch, part.committed_metadata)


def _commit_each(node: Node, request: Any, code: Code, keep: Any) -> Answer:
    topics = []
    for topic in request.topics:
        partitions = []
        for part in topic.partitions:
            known = node.topics.log(topic.name, part.partition_index) is not None
            result = code or (Code.NONE if known else Code.UNKNOWN_TOPIC_OR_PARTITION)
            if not result:
                keep(topic.name, part)
            partitions.append({"partition_index": part.partition_index, "error_code": result})
        topics.append({"name": topic.name, "partitions": partitions})
    return {"topics": topics}


def offset_fetch(node: Node, request: Any, _: Caller) -> Answer:
    """Return next offsets; with `require_stable`, one that an open transaction may change is refused for now."""
    group = node.groups.get(request.group_id) or Group()
    asked: dict[str, list[int]] = {}
    if request.topics is None:
        for topic, partition in group.offsets.committed:
            asked.setdefault(topic, []).append(partition)
    else:
        asked = {topic.name: topic.partition_indexes for topic in request.topics}
    topics = []
    for topic, indexes in asked.items():
        partitions = []
        for index in indexes:
            unstable = request.require_stable and group.offsets.unstable((topic, index))
            found = None if unstable else group.offsets.committed.get((topic, index))
            value = found or Committed(-1, -1, "")
            answer = {"partition_index": index, "committed_offset": value.offset, "metadata": value.metadata}
            answer |= {"committed_leader_epoch": value.leader_epoch}
            partitions.append(answer | {"error_code": Code.UNSTABLE_OFFSET_COMMIT if unstable else Code.NONE})
        topics.append({"name": topic, "partitions": partitions})
    return {"topics": topics, "error_code": Code.NONE}


def offset_delete(node: Node, request: Any, _: Caller) -> Answer:
    """Forget next offsets of a group that has no members."""
    group = node.groups.get(request.group_id)
    if group is None or group.members:
        code = Code.NON_EMPTY_GROUP if group else Code.GROUP_ID_NOT_FOUND
        return {"error_code": code, "topics": []}
    topics = []
    for topic in request.topics:
        partitions = [part.partition_index for part in topic.partitions]
        for index in partitions:
            group.offsets.committed.pop((topic.name, index), None)
        answers = [{"partition_index": index, "error_code": Code.NONE} for index in partitions]
        topics.append({"name": topic.name, "partitions": answers})
    return {"error_code": Code.NONE, "topics": topics}


def delete_groups(node: Node, request: Any, _: Caller) -> Answer:
    """Forget groups that have no members."""
    results = []
    for name in request.groups_names:
        group = node.groups.get(name)
        code = Code.GROUP_ID_NOT_FOUND if group is None else Code.NONE
        if group is not None and group.members:
            code = Code.NON_EMPTY_GROUP
        if not code:
            del node.groups[name]
        results.append({"group_id": name, "error_code": code})
    return {"results": results}


def list_groups(node: Node, request: Any, _: Caller) -> Answer:
    """List groups, of the given states if any are given."""
    wanted = {state.lower() for state in request.states_filter or []}
    return {
        "error_code": Code.NONE,
        "groups": [
            {"group_id": name, "protocol_type": group.protocol_type, "group_state": group.state.value}
            for name, group in node.groups.items()
            if not wanted or group.state.value.lower() in wanted
        ],
    }


def describe_groups(node: Node, request: Any, _: Caller) -> Answer:
    """Describe groups with their members and assignments; an unknown one is `Dead`."""
    return {"groups": [_described(name, node.groups.get(name)) for name in request.groups]}


def _described(name: str, group: Group | None) -> Answer:
    answer: Answer = {"error_code": Code.NONE, "group_id": name, "protocol_type": "", "protocol_data": ""}
    if group is None:
        return answer | {"group_state": "Dead", "members": []}
    stable = group.state is State.STABLE
    members = [
        {
            "member_id": member.name,
            "group_instance_id": member.join.instance,
            "client_id": member.join.client,
            "client_host": member.join.host,
            "member_metadata": member.join.protocols.get(group.protocol, b"") if stable else b"",
            "member_assignment": member.assignment if stable else b"",
        }
        for member in group.members.values()
    ]
    state = {"group_state": group.state.value, "members": members}
    return answer | {"protocol_type": group.protocol_type, "protocol_data": group.protocol} | state
