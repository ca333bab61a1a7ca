"""What a long-running role tells over HTTP: /metrics, /healthz and /readyz, from a thread of its own.

    /healthz   200 while the process lives and its loop turns; 503 and why when a restart would help
    /readyz    200 while the role does its work; 503 and why, which passes by itself or is a person's to mend

The thread reads single values that the role's own threads have written and takes no lock of theirs, so it answers while
they are blocked, and no client, slow or many, holds them up.
"""

import socket
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

import msgspec
import structlog

from pipeline.address import cannot_listen, split_address
from pipeline.exposition import CONTENT_TYPE, Collector, Exposition, Metric, gauge
from pipeline.secrets import mask

MOST_CLIENTS = 16  # at one time; one more ends the oldest, so that slow ones never keep a probe from being answered
CLIENT_SECONDS = 10.0  # without any progress
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
def serving(listen: str | None, probes: Probes) -> Iterator[str | None]:
    """Serve over HTTP at this address for the length of a block, None nowhere; give the address.

    Raises Unavailable when it is taken. Port 0 is any free one.
    """
    if listen is None:
        yield None
        return
    try:
        server = _Server(split_address(listen), probes.answer)
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


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], answer: Callable[[str], Answer | None]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.answer = answer
        self._clients: OrderedDict[int, Any] = OrderedDict()
        self._counting = threading.Lock()
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Bind, without asking the name service who we are."""
        TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread; with too many clients, drop the oldest."""
        with self._counting:
            self._clients[id(request)] = request
            if len(self._clients) > MOST_CLIENTS:
                _, oldest = self._clients.popitem(last=False)
                with suppress(OSError):
                    oldest.shutdown(socket.SHUT_RDWR)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forget a client that is answered."""
        with self._counting:
            self._clients.pop(id(request), None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no event."""


class _Handler(BaseHTTPRequestHandler):
    timeout = CLIENT_SECONDS
    server_version = "tidecast"
    sys_version = ""
    server: _Server

    def do_GET(self) -> None:
        """Answer, and end the connection."""
        answer = self.server.answer(self.path.partition("?")[0])
        if answer is None:
            answer = Answer(404, JSON, b'{"error":"there are /metrics, /healthz and /readyz here"}')
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
