"""Messages that name a registry's schema, over real HTTP: nothing is a dead letter because a service is away."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import Unavailable
from pipeline.formats.opened import open_decoder
from pipeline.grid.frequency import Frequency
from pipeline.messages.codec import Reader
from pipeline.records import DeadLetter, Envelope, Events, Messages
from pipeline.registry.client import RegistryClient
from pipeline.registry.schemas import RegistrySchemas
from pipeline.settings import InputSettings, RegistrySettings
from tests.registry import SchemaRegistry
from tests.unit.formats.test_avro import EVENT, write
from tests.unit.messages.reading import AT, NOW

AVRO = InputSettings(format="avro")
UNIT = {"type": "enum", "name": "plant.Unit", "symbols": ["m", "s"]}


@pytest.fixture(scope="module")
def shared() -> Iterator[SchemaRegistry]:
    with SchemaRegistry() as found:
        found.register("s", json.dumps(EVENT))
        yield found


@pytest.fixture
def registry() -> Iterator[SchemaRegistry]:
    with SchemaRegistry() as found:
        yield found


def reader(registry: SchemaRegistry, mapping: InputSettings = AVRO) -> Reader:
    client = RegistryClient(RegistrySettings(url=registry.url), lambda: 0)
    schemas = RegistrySchemas(client, lambda: 0, pause=lambda _: None)
    return Reader(mapping, Frequency("1s"), "plant", open_decoder(mapping, schemas))


def read(by: Reader, *values: bytes, headers: Any = ()) -> tuple[Events, tuple[DeadLetter, ...]]:
    count = len(values)
    beside = Envelope(None, tuple(headers))
    messages = Messages(0, np.arange(count), [None] * count, values, count, envelope=lambda _: beside)
    return by.read(messages, NOW)


def frame(id_: int, content: bytes) -> bytes:
    return b"\0" + id_.to_bytes(4, "big") + content


def event(value: float | None) -> bytes:
    return write(EVENT, {"series_id": "a", "timestamp": AT * 1000, "value": value})


def test_a_message_is_read_by_the_schema_that_wrote_it(registry: SchemaRegistry) -> None:
    grown = {**EVENT, "fields": [{"name": "unit", "type": UNIT}, *EVENT["fields"]]}
    one, two = (registry.register("s", json.dumps(schema)) for schema in (EVENT, grown))
    by = reader(registry)
    later = write(grown, {"unit": "s", "series_id": "b", "timestamp": AT * 1000, "value": 1.0})
    for _ in range(2):
        events, letters = read(by, frame(one, event(2.5)), frame(two, later), frame(one, event(None)))
        assert letters == ()
        assert events.series == ["a", "b", "a"]
        assert events.value.tolist() == [2.5, 1.0, 0.0]
    assert registry.asked == ["/schemas/ids/1", "/schemas/ids/2"]


def test_the_id_may_be_in_a_header(registry: SchemaRegistry) -> None:
    known = registry.register("s", json.dumps(EVENT))
    by = reader(registry)
    for header in (b"\x01" + registry.guid(known).bytes, frame(known, b"")):
        events, letters = read(by, event(2.5), headers=[("__value_schema_id", header)])
        assert letters == ()
        assert events.value.tolist() == [2.5]


def test_references_are_part_of_a_schema(registry: SchemaRegistry) -> None:
    registry.register("unit", json.dumps(UNIT))
    own = {**EVENT, "fields": [*EVENT["fields"], {"name": "unit", "type": "plant.Unit"}]}
    known = registry.register("s", json.dumps(own), references=[("plant.Unit", "unit", 1)])
    events, letters = read(reader(registry), frame(known, event(2.5) + b"\x02"))
    assert letters == ()
    assert len(events) == 1


def test_the_schema_of_the_file_is_the_reader_s(registry: SchemaRegistry, tmp_path: Path) -> None:
    fields = [{"name": "reading", "aliases": ["value"], "type": ["null", "double"], "default": None}]
    (tmp_path / "into.avsc").write_text(json.dumps({**EVENT, "fields": [*EVENT["fields"][:2], *fields]}))
    known = registry.register("s", json.dumps(EVENT))
    mapping = InputSettings(format="avro", schema_file=tmp_path / "into.avsc", value="reading")
    events, letters = read(reader(registry, mapping), frame(known, event(2.5)))
    assert letters == ()
    assert events.value.tolist() == [2.5]


def test_while_the_registry_is_away_nothing_is_a_dead_letter(registry: SchemaRegistry) -> None:
    one, two = (registry.register("s", json.dumps(EVENT)) for _ in range(2))
    by = reader(registry)
    assert len(read(by, frame(one, event(2.5)))[0]) == 1
    registry.stop()
    assert len(read(by, frame(one, event(3.5)))[0]) == 1  # what is known needs no registry
    with pytest.raises(Unavailable, match="schema registry"):
        read(by, frame(one, event(2.5)), frame(two, event(2.5)))
    registry.start()
    assert len(read(by, frame(one, event(2.5)), frame(two, event(2.5)))[0]) == 2


@pytest.mark.parametrize(
    ("schema", "kind", "reason"),
    [
        ('"plant.Other"', "AVRO", "schema 1 cannot be used: "),
        ('syntax = "proto3";', "PROTOBUF", "schema 1 is of PROTOBUF, and input.format is avro"),
        (None, "AVRO", "the schema registry has no schema 1"),
    ],
)
def test_a_schema_that_cannot_be_used_makes_dead_letters(
    registry: SchemaRegistry, schema: str | None, kind: str, reason: str
) -> None:
    if schema is not None:
        registry.register("s", schema, kind)
    events, (letter,) = read(reader(registry), frame(1, event(2.5)))
    assert len(events) == 0
    assert reason in letter.reason


@given(content=st.binary(min_size=1, max_size=30), framed=st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_any_bytes_are_an_event_or_a_dead_letter(shared: SchemaRegistry, content: bytes, framed: bool) -> None:
    events, letters = read(reader(shared), frame(1, content) if framed else content)
    assert len(events) + len(letters) == 1
