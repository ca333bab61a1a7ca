"""What a role tells over HTTP: the paths, the states, slow clients, and a port that is taken."""

import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.errors import ConfigError, Unavailable
from pipeline.health.probes import MOST_CLIENTS, Checks, Probes, serving
from pipeline.health.prometheus import Collector, Metric, gauge
from pipeline.roles import place_telemetry
from pipeline.settings.address import number_address
from tests.faults.fleet import holds_within


class Answering(Collector):
    """A collector of one gauge."""

    def collect(self) -> Iterator[Metric]:
        yield gauge("answer", "It.", [((), 42.0)])


def watched(unwell: list[str], unready: list[str], secrets: tuple[str, ...] = ()) -> Probes:
    probes = Probes("worker", secrets)
    probes.watch(Checks(lambda: unwell, lambda: unready), Answering())
    return probes


def get(address: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(address, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def answering() -> int:
    return sum("process_request" in thread.name for thread in threading.enumerate())


def test_a_role_that_starts_is_healthy_and_not_ready() -> None:
    with serving("127.0.0.1:0", Probes("worker")) as address:
        code, text = get(f"{address}/readyz")
        assert (code, json.loads(text)) == (
            503,
            {"role": "worker", "status": "not ready", "reasons": ["it is starting"]},
        )
        code, text = get(f"{address}/healthz")
        assert (code, json.loads(text)) == (200, {"role": "worker", "status": "healthy", "reasons": []})


def test_both_states_are_told_with_their_reasons_and_as_metrics() -> None:
    unwell: list[str] = []
    unready: list[str] = []
    probes = watched(unwell, unready)

    def states() -> tuple[int, int, float, float]:
        answers = [probes.answer(path) for path in ("/healthz", "/readyz", "/metrics")]
        health, ready, text = (answer for answer in answers if answer is not None)
        found = {
            each.name: each.value
            for family in text_string_to_metric_families(text.body.decode())
            for each in family.samples
        }
        assert found["tidecast_answer"] == 42.0
        return health.status, ready.status, found["tidecast_healthy"], found["tidecast_ready"]

    assert states() == (200, 200, 1.0, 1.0)
    unready.append("the database has not answered for 31 s")
    assert states() == (200, 503, 1.0, 0.0)
    unwell.append("the loop has not turned for 400 s")
    assert states() == (503, 503, 0.0, 0.0)
    answer = probes.answer("/readyz")
    assert answer is not None
    assert json.loads(answer.body)["reasons"] == unwell + unready


def test_a_secret_in_a_reason_is_masked() -> None:
    answer = watched([], ["claiming again: cannot reach me:hunter2@db"], ("hunter2",)).answer("/readyz")
    assert answer is not None
    assert json.loads(answer.body)["reasons"] == ["claiming again: cannot reach me:***@db"]


def test_the_process_is_measured_and_an_unknown_path_says_which_there_are() -> None:
    with serving("127.0.0.1:0", watched([], [])) as address:
        code, text = get(f"{address}/metrics?debug=1")
        names = {family.name for family in text_string_to_metric_families(text)}
        assert code == 200
        assert {"process_resident_memory_bytes", "process_open_fds", "tidecast_process_threads"} <= names
        assert get(f"{address}/") == (404, '{"error":"there are /metrics, /healthz and /readyz here"}')


def test_clients_that_never_finish_their_request_keep_nobody_from_being_answered() -> None:
    with serving("127.0.0.1:0", watched([], [])) as address:
        assert address is not None
        port = int(address.rpartition(":")[2])
        slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(3 * MOST_CLIENTS)]
        try:
            for each in slow:
                each.sendall(b"GET /metrics HTTP/1.1\r\n")
            assert get(f"{address}/healthz")[0] == 200
            slow[0].settimeout(30)
            assert slow[0].recv(1) == b"", "the oldest was dropped"
            assert holds_within(lambda: answering() <= MOST_CLIENTS, 60.0)
        finally:
            for each in slow:
                each.close()


def ask(port: int, *lines: str) -> bytes:
    """Send a request as it is written, and return its whole answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall("\r\n".join([*lines, "", ""]).encode())
        answer = b""
        while part := client.recv(65_536):
            answer += part
        return answer


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz"])
@pytest.mark.parametrize(
    ("listen", "known", "strange"),
    [
        (
            "127.0.0.1:0",
            ["127.0.0.1", "127.0.0.1:9464", "LocalHost:1", "[::1]:9464", "Known.example", "known.example.:80"],
            ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "worker-0", ""],
        ),
        (
            "0.0.0.0:0",
            [
                "10.1.2.3:9464",
                "[fd00::1]:9464",
                "localhost",
                "worker-0:9464",
                "worker-0.tidecast-worker.prod.svc:9464",
                "x.svc.cluster.local",
                "tide.internal",
                "printer.local",
                "known.example:9464",
                socket.gethostname(),
            ],
            ["evil.example", "svc.evil.example", "10.1.2.3.evil.example", "x.svc.evil", "evil.com:80", "", ":9464"],
        ),
    ],
)
def test_only_a_host_that_no_stranger_can_own_is_answered(
    listen: str, known: list[str], strange: list[str], path: str
) -> None:
    with serving(listen, watched([], []), ["known.example"]) as address:
        assert address is not None
        port = int(address.rpartition(":")[2])
        for host in known:
            assert b" 200 " in ask(port, f"GET {path} HTTP/1.1", f"Host: {host}").partition(b"\r\n")[0], host
        for host in strange:
            answer = ask(port, f"GET {path} HTTP/1.1", f"Host: {host}")
            assert b" 421 " in answer.partition(b"\r\n")[0], host
            assert b"metrics.hosts" in answer and b"tidecast_answer" not in answer
        assert b" 421 " in ask(port, f"GET {path} HTTP/1.1", "Host: 127.0.0.1", "Host: evil.example")
        assert b" 421 " in ask(port, f"GET {path} HTTP/1.1")
        assert b" 200 " in ask(port, f"GET {path} HTTP/1.0"), "a check of a load balancer, never a browser"


def test_a_head_that_comes_in_drops_or_never_ends_is_dropped() -> None:
    with serving("127.0.0.1:0", watched([], [])) as address:
        assert address is not None
        port = int(address.rpartition(":")[2])
        with pytest.raises(OSError), socket.create_connection(("127.0.0.1", port), timeout=30) as slow:
            slow.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
            began = time.monotonic()
            while time.monotonic() - began < 60:
                slow.sendall(b"x")
                time.sleep(0.2)
        with socket.create_connection(("127.0.0.1", port), timeout=30) as large:
            large.sendall(b"GET /metrics HTTP/1.1\r\n")
            with pytest.raises(OSError):
                for _ in range(100):
                    large.sendall(b"X: " + b"x" * 4000 + b"\r\n")
                    time.sleep(0.01)
        assert holds_within(lambda: answering() == 0, 60.0)


def test_a_scrape_that_is_being_answered_is_not_dropped_for_clients_that_ask_nothing() -> None:
    release = threading.Event()
    probes = Probes("worker")
    probes.watch(Checks(list, lambda: [] if release.wait(60) else ["never"]), Answering())
    with serving("127.0.0.1:0", probes) as address:
        assert address is not None
        port = int(address.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=60) as scrape:
            scrape.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            others = [socket.create_connection(("127.0.0.1", port)) for _ in range(4 * MOST_CLIENTS)]
            for each in others:
                each.settimeout(30)
            assert others[0].recv(1) == b"", "the oldest of those was dropped"
            release.set()
            assert scrape.recv(65_536).startswith(b"HTTP/1.0 200 ")
            for each in others:
                each.close()


def test_it_answers_while_the_main_thread_computes() -> None:
    with serving("127.0.0.1:0", watched([], [])) as address:
        answers: list[int] = []
        asking = threading.Thread(target=lambda: answers.extend(get(f"{address}/metrics")[0] for _ in range(3)))
        asking.start()
        deadline = time.monotonic() + 60
        while len(answers) < 3 and time.monotonic() < deadline:
            sum(range(100_000))  # never waits for anything
        asking.join()
    assert answers == [200, 200, 200]


def test_the_port_is_taken_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        near = f"{port - 1}|{port}|{port + 1}"  # another test may listen beside it
        with pytest.raises(Unavailable, match=rf"metrics\.listen: cannot listen on 127\.0\.0\.1:({near}) "):
            place_telemetry(f"127.0.0.1:{port - 1}", 3)


def test_every_role_of_a_host_has_its_own_port() -> None:
    assert place_telemetry(None, 3) == [[], [], []]
    assert place_telemetry("127.0.0.1:0", 2) == [["--set", "metrics.listen=127.0.0.1:0"]] * 2
    assert [number_address("[::1]:9464", number) for number in (0, 1)] == ["[::1]:9464", "[::1]:9465"]
    with pytest.raises(ConfigError, match=r"127\.0\.0\.1:65535 leaves no 1 ports above it"):
        number_address("127.0.0.1:65535", 1)
