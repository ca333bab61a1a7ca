"""A schema registry for tests: a process-free server of the interface that Confluent publishes, on 127.0.0.1.

It follows docs.confluent.io/platform/current/schema-registry/develop/api.html: /schemas/ids/{id}, /schemas/guids/{guid}
and /subjects/{subject}/versions/{version}, with their bodies, error codes and `format=serialized`. Ids are one sequence
for all subjects. It counts what it is asked, can be told to fail, and starts again on its port.
"""

import json
import ssl
import threading
from base64 import b64encode
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit
from uuid import UUID

Answer = tuple[int, Any]


class SchemaRegistry:
    """Holds schemas; `answer`, if set, is given for every question instead."""

    def __init__(self, *, account: str | None = None, certificate: tuple[Path, Path] | None = None) -> None:
        self.asked: list[str] = []
        self.answer: Callable[[str], Answer | bytes | None] | None = None
        self._account, self._certificate = account, certificate
        self._schemas: list[dict[str, Any]] = []
        self._server: ThreadingHTTPServer | None = None
        self._port = 0
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"{'https' if self._certificate else 'http'}://127.0.0.1:{self._port}"

    def start(self) -> None:
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                registry.asked.append(self.path)
                body = registry.respond(self.path, self.headers.get("Authorization"))
                status, content = (200, body) if isinstance(body, bytes) else (body[0], json.dumps(body[1]).encode())
                self.send_response(status)
                self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        if self._certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self._certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        self._server, self._port = server, server.server_address[1]
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Listen no more; what is registered stays."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def register(
        self,
        subject: str,
        schema: str,
        kind: str = "AVRO",
        references: Sequence[tuple[str, str, int]] = (),
        serialized: bytes | None = None,
    ) -> int:
        """Add a version of a subject and return the id of its schema."""
        version = 1 + sum(own["subject"] == subject for own in self._schemas)
        named = [{"name": name, "subject": of, "version": number} for name, of, number in references]
        found = {"subject": subject, "version": version, "id": len(self._schemas) + 1, "schema": schema}
        found |= {"references": named} if named else {}
        found |= {"schemaType": kind} if kind != "AVRO" else {}
        self._schemas.append(found | {"serialized": serialized})
        return len(self._schemas)

    @staticmethod
    def guid(id_: int) -> UUID:
        return UUID(int=id_)

    def respond(self, path: str, authorization: str | None) -> Answer | bytes:
        said = self.answer(path) if self.answer else None
        if said is not None:
            return said
        if self._account and authorization != f"Basic {b64encode(self._account.encode()).decode()}":
            return 401, {"error_code": 401, "message": "Unauthorized"}
        parts = urlsplit(path)
        serialized = parse_qs(parts.query).get("format") == ["serialized"]
        match [unquote(step) for step in parts.path.split("/")[1:]]:
            case ["schemas", "ids", id_]:
                return self._found(lambda own: own["id"] == int(id_), 40403, "Schema not found", serialized=serialized)
            case ["schemas", "guids", guid]:
                of_guid = UUID(guid).int
                return self._found(lambda own: own["id"] == of_guid, 40403, "Schema not found", serialized=serialized)
            case ["subjects", subject, "versions", version]:
                wanted = (subject, int(version))
                return self._found(
                    lambda own: (own["subject"], own["version"]) == wanted,
                    40402,
                    "Version not found",
                    serialized=serialized,
                )
        return 404, {"error_code": 404, "message": "HTTP 404 Not Found"}

    def _found(self, wanted: Callable[[dict[str, Any]], bool], code: int, message: str, *, serialized: bool) -> Answer:
        own = next(filter(wanted, self._schemas), None)
        if own is None:
            return 404, {"error_code": code, "message": message}
        plain = {name: value for name, value in own.items() if name != "serialized"}
        if serialized and own["serialized"] is not None:
            plain["schema"] = b64encode(own["serialized"]).decode()
        return 200, plain
