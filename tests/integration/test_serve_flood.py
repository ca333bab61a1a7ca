"""The page under clients that open connections and never finish: half requests, drops, idle and deaf readers."""

import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests import processes
from tests.integration.test_jobs import ROOT, wait_until
from tests.integration.test_serve import END_SECONDS, answers, fill, get, write_settings
from tests.servers import free_port

pytestmark = pytest.mark.slow
FILES = 1024
"""Open files that a process may have by default on most systems."""
LIMITED = f"""
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, ({FILES}, {FILES}))
from pipeline.cli import main
main()
"""
HALF = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"


class Page:
    """A `tidecast serve` whose process may open FILES files, and not one more."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.telemetry = free_port()
        sets = (f"serve.listen=127.0.0.1:{self.port}", f"metrics.listen=127.0.0.1:{self.telemetry}")
        options = [part for text in sets for part in ("--set", text)]
        command = [sys.executable, "-c", LIMITED, "--config", str(folder / "tidecast.toml"), *options, "serve"]
        self._log = (folder / "log").open("w+")
        self.process = processes.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=self._log)
        self.own = psutil.Process(self.process.pid)

    def files(self) -> int:
        return self.own.num_fds()

    def written(self) -> str:
        return Path(self._log.name).read_text()

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(END_SECONDS)
        self._log.close()

    def connect(self, port: int | None = None) -> socket.socket:
        return socket.create_connection(("127.0.0.1", port or self.port), timeout=60)


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2 * FILES:
        pytest.skip(f"these tests open {2 * FILES} files, and this machine allows {hard}")
    if soft != resource.RLIM_INFINITY and soft < 2 * FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (2 * FILES, hard))
    url = f"sqlite:///{tmp_path / 'tidecast.db'}"
    write_settings(tmp_path, url)
    fill(url)
    own = Page(tmp_path)
    try:
        wait_until(lambda: answers(own.port))
        yield own
        assert own.process.poll() is None
    finally:
        own.close()
    assert "Traceback" not in own.written(), own.written()[-3000:]
    assert own.written().count("\n") < 20, "a flood is no flood of log lines"


def open_many(page: Page, count: int, sent: bytes, stack: ExitStack, port: int | None = None) -> list[socket.socket]:
    sockets = []
    for _ in range(count):
        each = stack.enter_context(page.connect(port))
        each.sendall(sent)
        sockets.append(each)
    return sockets


def ended(each: socket.socket) -> bool:
    """Whether the other side has closed the connection, once what it sent is read."""
    each.settimeout(0)
    try:
        while each.recv(65_536):
            pass
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    return True


def test_half_requests_keep_nobody_out_and_give_back_their_files(page: Page) -> None:
    before = page.files()
    with ExitStack() as stack:
        half = open_many(page, 1500, HALF, stack)
        for _ in range(5):
            assert get(page.port, "/healthz")[0] == 200
            assert get(page.port, "/api/forecast?series=meter-1")[0] == 200
        assert page.files() < FILES - 100, "there is room for the database"
        wait_until(lambda: all(map(ended, half)))
    wait_until(lambda: page.files() <= before + 5)


def test_a_head_that_comes_in_drops_must_be_whole_in_time(page: Page) -> None:
    with ExitStack() as stack:
        slow = open_many(page, 50, b"GET / HTTP/1.1\r\n", stack)
        began = time.monotonic()
        alive = set(slow)
        while alive:
            assert time.monotonic() - began < 60, "a byte a time kept the connection open"
            for each in list(alive):
                try:
                    each.sendall(b"X")
                except ConnectionError:
                    alive.discard(each)
                    continue
                if ended(each):
                    alive.discard(each)
            time.sleep(0.2)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"POST /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999\r\n\r\n",
        b"POST /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
    ],
    ids=["nothing", "idle after an answer", "a body that never comes", "a chunk that never ends"],
)
def test_a_connection_that_asks_nothing_more_is_closed_though_bytes_come(page: Page, sent: bytes) -> None:
    with page.connect() as client:
        client.sendall(sent)
        began = time.monotonic()
        while not ended(client):
            assert time.monotonic() - began < 60
            if b"POST" in sent:
                try:
                    client.settimeout(5)
                    client.sendall(b"x")
                except ConnectionError:
                    break
            time.sleep(0.2)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nX: " + b"x" * 200_000,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 300,
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nGET",
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nZZ not a chunk\r\n",
    ],
    ids=["a head of 200 kB", "TLS", "a version", "an upgrade", "a chunk without its size"],
)
def test_what_is_no_request_is_refused_without_a_word_in_the_log(page: Page, sent: bytes) -> None:
    for _ in range(30):
        with page.connect() as client:
            try:
                client.sendall(sent)
                time.sleep(0.01)
                client.sendall(b"\r\n0 what?\r\n\r\n")
                client.shutdown(socket.SHUT_WR)
                while client.recv(65_536):
                    pass
            except OSError:  # closed already
                continue
    assert get(page.port, "/healthz")[0] == 200


def test_a_reader_that_takes_nothing_is_dropped_whatever_it_asked_for(page: Page) -> None:
    deaf: list[socket.socket] = []
    with ExitStack() as stack:
        for _ in range(20):
            each = stack.enter_context(socket.socket())
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            each.settimeout(60)
            each.connect(("127.0.0.1", page.port))
            each.sendall(b"GET /static/vendor/uPlot.esm.js HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 100)
            deaf.append(each)
        wait_until(lambda: page.files() >= 20)
        assert get(page.port, "/healthz")[0] == 200
        ports = {each.getsockname()[1] for each in deaf}
        wait_until(lambda: not ports & {c.raddr.port for c in page.own.net_connections() if c.raddr})


def test_event_streams_stay_open_through_a_flood(page: Page) -> None:
    with page.connect() as stream, ExitStack() as stack:
        stream.sendall(b"GET /api/events?series=meter-1 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        received = b""
        while b"event: forecast" not in received:
            received += stream.recv(65_536)
        open_many(page, 1500, HALF, stack)
        received = b""
        while b": here" not in received:  # its next sign of life
            part = stream.recv(65_536)
            assert part, "the stream was dropped for clients that asked nothing"
            received += part


def test_telemetry_answers_through_the_same_flood(page: Page) -> None:

    failures: list[BaseException] = []

    def flood(stop: threading.Event) -> None:
        try:
            while not stop.is_set():
                with ExitStack() as stack:
                    open_many(page, 100, HALF, stack, page.telemetry)
        except BaseException as error:  # noqa: BLE001  the test reports it
            failures.append(error)

    stop = threading.Event()
    flooding = threading.Thread(target=flood, args=(stop,))
    flooding.start()
    try:
        for _ in range(50):
            assert get(page.telemetry, "/readyz")[0] == 200
    finally:
        stop.set()
        flooding.join()
    assert not failures
    wait_until(lambda: page.own.num_threads() < 60)
