"""Avro by a schema registry, over the whole path, and the registry away in the middle."""

import json
from collections.abc import Iterator

import pytest

from tests.e2e.test_topic_to_sql import catch_up, rows, working
from tests.faults.conftest import Place
from tests.faults.deployment import Sender
from tests.faults.panel import Message
from tests.faults.verify import ends
from tests.registry import SchemaRegistry
from tests.unit.formats.test_avro import EVENT, write

SCHEMA = json.dumps(EVENT)
FIRST = 1_767_225_600_000
"""2026-01-01T00:00:00Z in milliseconds."""
HOUR = 3_600_000


@pytest.fixture
def registry() -> Iterator[SchemaRegistry]:
    with SchemaRegistry() as found:
        yield found


def event(id_: int, step: int, value: float) -> Message:
    content = write(EVENT, {"series_id": "a", "timestamp": FIRST + step * HOUR, "value": value})
    return Message(0, b"a", b"\0" + id_.to_bytes(4, "big") + content)


def test_a_registry_that_is_away_for_a_while_costs_no_event(place: Place, registry: SchemaRegistry) -> None:
    own = ("input.format=avro", f"registry.url={registry.url}", "registry.timeout=1", "series.context=24")
    deployment = place.deploy(*own, partitions=1)
    sender = Sender(deployment)
    one, two = (registry.register("readings-value", f'{{"doc": "{word}", {SCHEMA[1:]}') for word in ("one", "two"))
    with working(deployment) as worker:
        sender.send([event(one, step, step) for step in range(30)])
        catch_up(worker, deployment)
        registry.stop()
        sender.send([event(one, 30, 30.0), event(two, 31, 31.0)])
        while worker.parts.worker_state.setbacks["registry"] < 2:
            worker.step()
        assert "schema registry" in str(worker.parts.worker_state.setback)
        assert deployment.stored() != ends(deployment)
        registry.start()
        catch_up(worker, deployment)
    assert rows(deployment, "SELECT COUNT(*), SUM(value) FROM observations") == [(32, float(sum(range(32))))]
    assert rows(deployment, "SELECT COUNT(*) FROM dead_letters") == [(0,)]
    assert rows(deployment, "SELECT COUNT(*) FROM (SELECT DISTINCT origin FROM forecasts) AS origins")[0][0] > 0
