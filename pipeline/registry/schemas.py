"""The schemas that a registry has, each asked for once: an id means the same for ever.

An id that the registry does not know is asked for again after a moment, because a registry learns of a schema a little
later than the one that its producer asked, and then not for five minutes, in which its messages are dead letters.
"""

import time
from collections.abc import Callable, Collection
from typing import Any
from urllib.parse import quote

from pipeline.errors import Service, Unavailable
from pipeline.formats.framing import SchemaId
from pipeline.formats.schemas import Schema
from pipeline.registry.client import RegistryClient

SECOND = 1_000_000
MOMENT = 0.5
"""Seconds after which an unknown id is asked for again."""
UNKNOWN_FOR = 300 * SECOND
MOST_UNKNOWN = 100_000
MOST_REFERENCES = 1_000
BUDGET = 10 * SECOND
"""For what one call asks: well below a session's timeout."""


class RegistrySchemas:
    """Remembers what a registry said. With `serialized`, Protobuf's schemas are descriptors in base64."""

    def __init__(
        self,
        client: RegistryClient,
        timer: Callable[[], int],
        *,
        serialized: bool = False,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client, self._timer, self._pause = client, timer, pause
        self._query = "?format=serialized" if serialized else ""
        self._known: dict[SchemaId, Schema] = {}
        self._unknown: dict[SchemaId, int] = {}  # until when on the timer
        self._doubted: dict[SchemaId, int] = {}  # asked for once, so that a call that ends early has made some way
        self._versions: dict[tuple[str, int], dict[str, Any]] = {}

    def fetch(self, ids: Collection[SchemaId]) -> None:
        """Learn the schemas of these ids. Unavailable also when there are too many for one call; ask again."""
        now = self._timer()
        missing = [id_ for id_ in ids if id_ not in self._known and self._unknown.get(id_, now) <= now]
        if not missing:
            return
        until = now + BUDGET
        first = [id_ for id_ in missing if id_ not in self._doubted]
        for id_ in first:
            if not self._ask(id_, until):
                _remember(self._doubted, id_, 0)
            self._check(until)
        again = [id_ for id_ in missing if id_ in self._doubted]
        if any(id_ in self._doubted for id_ in first):
            self._pause(MOMENT)
        for id_ in again:
            if not self._ask(id_, until):
                _remember(self._unknown, id_, self._timer() + UNKNOWN_FOR)
            del self._doubted[id_]
            self._check(until)

    def get(self, id_: SchemaId) -> Schema | None:
        """Return a schema that was fetched; None if the registry has none of that id."""
        return self._known.get(id_)

    def _ask(self, id_: SchemaId, until: int) -> bool:
        """Learn the schema of an id; tell whether the registry knows it."""
        path = f"/schemas/guids/{id_}" if isinstance(id_, str) else f"/schemas/ids/{id_}"
        found = self._client.ask(path + self._query)
        if found is not None:
            self._known[id_] = self._schema(found, until)
        return found is not None

    def _schema(self, found: dict[str, Any], until: int) -> Schema:
        """Make a schema of an answer and of everything that it refers to, directly or not."""
        references: dict[str, str] = {}
        waiting = _references(found)
        while waiting:
            name, subject, version = waiting.pop()
            if name in references or len(references) >= MOST_REFERENCES:
                continue
            own = self._version(subject, version)
            if own is None:  # then the schema says what it lacks when it is used
                continue
            references[name] = _text(own)
            waiting += _references(own)
            self._check(until)
        kind = found.get("schemaType")
        return Schema(kind if type(kind) is str else "AVRO", _text(found), references)

    def _version(self, subject: str, version: int) -> dict[str, Any] | None:
        """Return a version of a subject, also one that was deleted since."""
        if (subject, version) not in self._versions:
            query = f"{self._query}&deleted=true" if self._query else "?deleted=true"
            found = self._client.ask(f"/subjects/{quote(subject, safe='')}/versions/{version}{query}")
            if found is None:
                return None
            self._versions[subject, version] = found
        return self._versions[subject, version]

    def _check(self, until: int) -> None:
        if self._timer() > until:
            raise Unavailable("the schema registry takes long for many new schemas; asking on", Service.REGISTRY)


def _remember(ids: dict[SchemaId, int], id_: SchemaId, until: int) -> None:
    """Note an id, and forget the one that was noted first if there are too many."""
    ids.pop(id_, None)
    while len(ids) >= MOST_UNKNOWN:
        del ids[next(iter(ids))]
    ids[id_] = until


def _text(found: dict[str, Any]) -> str:
    text = found.get("schema")
    return text if type(text) is str else ""


def _references(found: dict[str, Any]) -> list[tuple[str, str, int]]:
    listed = found.get("references")
    return [
        (own["name"], own["subject"], own["version"])
        for own in (listed if type(listed) is list else ())
        if type(own) is dict
        and type(own.get("name")) is str
        and type(own.get("subject")) is str
        and type(own.get("version")) is int
    ]
