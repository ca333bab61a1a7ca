"""Metadata, FindCoordinator, and topics with their configuration."""

from typing import Any
from uuid import UUID

from pipeline.quickstart.broker.codes import Code
from pipeline.quickstart.broker.node import Caller, Node
from pipeline.quickstart.broker.topics import TOPIC_DEFAULTS, Topic

Answer = dict[str, Any]
NODE_ID = 1
TOPIC_RESOURCE, BROKER_RESOURCE = 2, 4
DEFAULT_CONFIG, DYNAMIC_TOPIC_CONFIG = 5, 1
BROKER_CONFIG = {"auto.create.topics.enable": "false", "num.partitions": "1", "transaction.max.timeout.ms": "900000"}


def metadata(node: Node, request: Any, _: Caller) -> Answer:
    """Describe the one broker and the requested topics (None: all); a request never creates a topic."""
    names = sorted(node.topics) if request.topics is None else [_named(node, topic) for topic in request.topics]
    return {
        "brokers": [{"node_id": NODE_ID, "host": node.host, "port": node.port, "rack": None}],
        "cluster_id": "tidecast-development",
        "controller_id": NODE_ID,
        "topics": [_described(name, node.topics.get(name)) for name in names],
    }


def _named(node: Node, asked: Any) -> str:
    """Return the name of a topic that is requested by it, or from version 12 on by its id."""
    if asked.name is not None:
        return str(asked.name)
    return next((name for name, topic in node.topics.items() if topic.id == asked.topic_id), "")


def _described(name: str, topic: Topic | None) -> Answer:
    here: Answer = {"leader_id": NODE_ID, "leader_epoch": 0, "replica_nodes": [NODE_ID], "isr_nodes": [NODE_ID]}
    here |= {"error_code": Code.NONE, "offline_replicas": []}
    count = len(topic.partitions) if topic else 0
    return {
        "error_code": Code.NONE if topic else Code.UNKNOWN_TOPIC_OR_PARTITION,
        "name": name,
        "topic_id": topic.id if topic else UUID(int=0),
        "is_internal": False,
        "partitions": [{"partition_index": index, **here} for index in range(count)],
    }


def find_coordinator(node: Node, _request: Any, _: Caller) -> Answer:
    """Every group and transaction is coordinated here."""
    return {"error_code": Code.NONE, "error_message": None, "node_id": NODE_ID, "host": node.host, "port": node.port}


def create_topics(node: Node, request: Any, _: Caller) -> Answer:
    """Create topics, or only check them."""
    results = []
    for asked in request.topics:
        config = {entry.name: entry.value for entry in asked.configs}
        count = len(asked.assignments) or asked.num_partitions
        replicas = 1 if asked.assignments else asked.replication_factor
        code, why = node.topics.check(asked.name, count, replicas, config)
        count = 1 if count == -1 else count
        if not code and not request.validate_only:
            chosen = {name: value for name, value in config.items() if value is not None}
            node.topics[asked.name] = Topic(asked.name, count, chosen)
        result = {"name": asked.name, "error_code": code, "error_message": why or None, "num_partitions": count}
        results.append(result | {"replication_factor": 1, "configs": []})
    return {"topics": results}


def delete_topics(node: Node, request: Any, _: Caller) -> Answer:
    """Delete topics and wake who waits for them."""
    results = []
    for name in request.topic_names:
        gone = node.topics.pop(name, None)
        for log in gone.partitions if gone else []:
            for watcher in tuple(log.watchers):
                watcher()
        results.append({"name": name, "error_code": Code.NONE if gone else Code.UNKNOWN_TOPIC_OR_PARTITION})
    return {"responses": results}


def create_partitions(node: Node, request: Any, _: Caller) -> Answer:
    """Add partitions to topics."""
    results = []
    for asked in request.topics:
        code, why = node.topics.grow(asked.name, asked.count)
        results.append({"name": asked.name, "error_code": code, "error_message": why or None})
    return {"results": results}


def describe_configs(node: Node, request: Any, _: Caller) -> Answer:
    """Return the settings of topics and of the broker."""
    return {"results": [_configured(node, resource) for resource in request.resources]}


def _configured(node: Node, resource: Any) -> Answer:
    answer: Answer = {"error_code": Code.NONE, "error_message": None, "configs": []}
    answer |= {"resource_type": resource.resource_type, "resource_name": resource.resource_name}
    chosen: dict[str, str] = {}
    if resource.resource_type == BROKER_RESOURCE:
        settings = BROKER_CONFIG
    elif resource.resource_type == TOPIC_RESOURCE and resource.resource_name in node.topics:
        chosen = node.topics[resource.resource_name].config
        settings = TOPIC_DEFAULTS | chosen
    else:
        return answer | {"error_code": Code.UNKNOWN_TOPIC_OR_PARTITION, "error_message": "there is no such resource"}
    keys = settings if resource.configuration_keys is None else resource.configuration_keys
    answer["configs"] = [
        {
            "name": key,
            "value": settings[key],
            "read_only": False,
            "config_source": DYNAMIC_TOPIC_CONFIG if key in chosen else DEFAULT_CONFIG,
            "is_sensitive": False,
            "synonyms": [],
            "config_type": 2,
            "documentation": None,
        }
        for key in keys
        if key in settings
    ]
    return answer
