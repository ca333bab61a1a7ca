"""What a long-running role tells over HTTP: /metrics, /healthz and /readyz, from a thread of its own.

    /healthz   200 while the process lives and its loop turns; 503 and why when a restart would help
    /readyz    200 while the role does its work; 503 and why, which passes by itself or is a person's to mend

The thread reads single values that the role's own threads have written and takes no lock of theirs, so it answers while
they are blocked, and no client, slow or many, holds them up.
"""

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import IntEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from socketserver import TCPServer
from typing import Any, cast

import msgspec
import structlog

from pipeline.health.prometheus import CONTENT_TYPE, Collector, Exposition, Metric, gauge
from pipeline.settings.address import KnownHosts, cannot_listen, split_address
from pipeline.settings.secrets import mask

MOST_CLIENTS = 16  # at one time; see _Server.process_request
HEAD_SECONDS = 10.0  # for a whole request, however slowly it arrives
CLIENT_SECONDS = 10.0  # without any progress
HEAD_BYTES = 16_384
JSON = "application/json"
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Checks:
    """Why a role is unwell, and why it is not ready; both empty when all is well."""

    find_unwell: Callable[[], list[str]]
    find_unready: Callable[[], list[str]]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to a GET."""

    status: int
    content_type: str
    body: bytes


class Probes(Collector):
    """Answers the paths of one role (worker, scheduler, page). It is unready until `watch` says what to look at."""

    def __init__(self, role: str, secrets: Sequence[str] = ()) -> None:
        self._role = role
        self._secrets = tuple(secrets)
        self._checks = Checks(list, lambda: ["it is starting"])
        self._exposition = Exposition(self, process=True)

    def watch(self, checks: Checks, collector: Collector) -> None:
        """Look at this from now on."""
        self._checks = checks
        self._exposition.add(collector)

    def answer(self, path: str) -> Answer | None:
        """Answer a path, None if it is not one of these; usable behind any server."""
        if path == "/metrics":
            return Answer(200, CONTENT_TYPE, self._exposition.write().encode())
        if path == "/healthz":
            return self._say("healthy", self._checks.find_unwell())
        if path == "/readyz":
            return self._say("ready", self._checks.find_unwell() + self._checks.find_unready())
        return None

    def collect(self) -> Iterator[Metric]:
        """Yield the two answers as metrics."""
        unwell = self._checks.find_unwell()
        ready = not unwell and not self._checks.find_unready()
        yield gauge("healthy", "1 while /healthz answers 200.", [((self._role,), not unwell)], ("role",))
        yield gauge("ready", "1 while /readyz answers 200.", [((self._role,), ready)], ("role",))

    def _say(self, state: str, why: list[str]) -> Answer:
        told = [mask(" ".join(reason.split()), self._secrets) for reason in dict.fromkeys(why)]
        body = {"role": self._role, "status": f"not {state}" if why else state, "reasons": told}
        return Answer(503 if why else 200, JSON, msgspec.json.encode(body))


@contextmanager
def serving(listen: str | None, probes: Probes, hosts: Sequence[str] = ()) -> Iterator[str | None]:
    """Serve over HTTP at this address for the length of a block, None nowhere; give the address.

    A request must name a host that KnownHosts knows, or one of `hosts`. Raises Unavailable when the address is taken.
    Port 0 is any free one.
    """
    if listen is None:
        yield None
        return
    try:
        server = _Server(split_address(listen), probes.answer, KnownHosts(listen, hosts))
    except OSError as error:
        raise cannot_listen(listen, "metrics.listen", error) from error
    thread = threading.Thread(target=server.serve_forever, name="telemetry", daemon=True)
    thread.start()
    address = f"http://{listen.rpartition(':')[0]}:{server.server_address[1]}"
    log.info("metrics served", address=f"{address}/metrics", probes=["/healthz", "/readyz"])
    try:
        yield address
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Stage(IntEnum):
    """What a client's thread does; the first one is dropped first, and ANSWERING never."""

    READING = 0
    WRITING = 1
    ANSWERING = 2


@dataclass(slots=True)
class _Client:
    connection: socket.socket
    since: float  # by time.monotonic
    stage: _Stage = _Stage.READING


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], answer: Callable[[str], Answer | None], hosts: KnownHosts) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.answer = answer
        self.hosts = hosts
        self._clients: dict[int, _Client] = {}
        self._counting = threading.Lock()
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Bind, without asking the name service who we are."""
        TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread; of too many clients drop one that has not asked yet, or does not read, the oldest."""
        with self._counting:
            self._clients[id(request)] = _Client(request, time.monotonic())
            if len(self._clients) > MOST_CLIENTS:
                key = min(self._clients, key=lambda each: (self._clients[each].stage, self._clients[each].since))
                _end(self._clients.pop(key))
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        """Drop, twice a second, who has not brought a whole request in time."""
        with self._counting:
            for key, client in list(self._clients.items()):
                if client.stage is _Stage.READING and time.monotonic() - client.since > HEAD_SECONDS:
                    _end(self._clients.pop(key))

    def enter(self, request: socket.socket, stage: _Stage) -> None:
        """Note what a client's thread does now."""
        with self._counting:
            if client := self._clients.get(id(request)):
                client.stage = stage

    def shutdown_request(self, request: Any) -> None:
        """Forget a client that is answered."""
        with self._counting:
            self._clients.pop(id(request), None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no event."""


def _end(client: _Client) -> None:
    """Wake a client's thread, which then ends."""
    with suppress(OSError):
        client.connection.shutdown(socket.SHUT_RDWR)


class _Head:
    """The lines of a request's head; ConnectionAbortedError when they are more than HEAD_BYTES."""

    def __init__(self, lines: BufferedIOBase) -> None:
        self._lines = lines
        self._left = HEAD_BYTES
        self.close = lines.close

    def readline(self, most: int) -> bytes:
        """Read one line of at most so many bytes."""
        line = self._lines.readline(min(most, self._left))
        self._left -= len(line)
        if not self._left:
            raise ConnectionAbortedError
        return line


class _Handler(BaseHTTPRequestHandler):
    timeout = CLIENT_SECONDS
    server_version = "tidecast"
    sys_version = ""
    server: _Server

    def setup(self) -> None:
        """Read a head of HEAD_BYTES at most: the limits of http.server are 6.5 MB."""
        super().setup()
        self.rfile = cast(BufferedIOBase, _Head(self.rfile))

    def do_GET(self) -> None:
        """Answer, and end the connection."""
        self.server.enter(self.connection, _Stage.ANSWERING)
        answer = self._answer()
        self.server.enter(self.connection, _Stage.WRITING)
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def do_HEAD(self) -> None:
        """Answer without a body."""
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:
        """A scrape is no event."""

    def _answer(self) -> Answer:
        hosts = self.headers.get_all("Host") or []
        bare = not hosts and self.request_version == "HTTP/1.0"  # no browser asks so
        if not bare and not (len(hosts) == 1 and self.server.hosts.knows(hosts[0].strip())):
            return Answer(
                421, JSON, b'{"error":"this server does not go by that name; metrics.hosts lists more names"}'
            )
        answer = self.server.answer(self.path.partition("?")[0])
        return answer or Answer(404, JSON, b'{"error":"there are /metrics, /healthz and /readyz here"}')
