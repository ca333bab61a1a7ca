"""`tidecast serve` as a process: it listens, says why it cannot, tells an outage with since, and ends at once."""

import json
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from jobs.catalog import CATALOG
from pipeline.database import open_database, upgrade
from tests.integration.conftest import KafkaAddress, require
from tests.integration.test_jobs import ran, tidecast, wait_until
from tests.page_world import World
from tests.servers import PostgreSQL, free_port

END_SECONDS = 90.0


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Write settings of a small world, whose broker is away."""
    url = f"sqlite:///{tmp_path / 'tidecast.db'}"
    write_settings(tmp_path, url)
    fill(url)
    return tmp_path


def write_settings(folder: Path, url: str) -> None:
    kafka = f'[kafka]\nbootstrap_servers = "127.0.0.1:{free_port()}"\n'
    (folder / "tidecast.toml").write_text(f'{kafka}[database]\nurl = "{url}"\ntimeout = 5.0\n')


def fill(url: str) -> None:
    upgrade(url)
    database = open_database(url, timeout=20.0)
    World(database)
    database.close()


def get(port: int, path: str) -> tuple[int, Any, Any]:
    """Return status, JSON and headers of an answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
            return answer.status, json.load(answer), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error), error.headers


def answers(port: int) -> bool:
    try:
        return get(port, "/healthz")[0] == 200
    except OSError:
        return False


@contextmanager
def serving(folder: Path, port: int) -> "Iterator[subprocess.Popen[str]]":
    with tidecast(folder, "--set", f"serve.listen=127.0.0.1:{port}", "serve") as process:
        try:
            wait_until(lambda: answers(port))
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=END_SECONDS)


def test_the_command_prints_its_address_answers_and_ends_at_once_though_a_stream_is_open(place: Path) -> None:
    port = free_port()
    process = tidecast(place, "--set", f"serve.listen=127.0.0.1:{port}", "serve")
    with process:
        wait_until(lambda: answers(port))
        status, found, headers = get(port, "/api/forecast?series=meter-1")
        assert (status, found["origin"]) == (200, "2026-01-03T08:00:00Z")
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert get(port, "/readyz")[0] == 200
        assert get(port, "/api/partitions")[1]["items"][0]["lag"] is None
        with socket.create_connection(("127.0.0.1", port), timeout=60) as stream:
            stream.sendall(f"GET /api/events?series=meter-1 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
            received = b""
            while b"event: forecast" not in received:
                received += stream.recv(65_536)
            assert b"content-type: text/event-stream" in received.lower()
            process.send_signal(signal.SIGTERM)
            output, errors = process.communicate(timeout=END_SECONDS)
    assert process.returncode == 0, errors
    assert output == f"the page is at http://127.0.0.1:{port}/\n"
    assert "Traceback" not in errors


def test_a_new_actual_arrives_on_an_open_stream(place: Path) -> None:
    port = free_port()
    with serving(place, port), socket.create_connection(("127.0.0.1", port), timeout=60) as stream:
        stream.sendall(f"GET /api/events?series=meter-1 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        received = b""
        while b"event: forecast" not in received:
            received += stream.recv(65_536)
        with sqlite3.connect(place / "tidecast.db") as connection:  # what the transaction of a turn changes
            connection.execute(
                "INSERT INTO observations SELECT series_id, '2026-01-05 00:00:00', 42.5, 1, 1, 0, 9, first_seen"
                " FROM series WHERE name = 'meter-1'"
            )
            connection.execute("UPDATE ingest_state SET next_offset = next_offset + 1")
        connection.close()
        while b'data: {"at":"2026-01-05T00:00:00Z","value":42.5}' not in received:
            part = stream.recv(65_536)
            assert part, received[-500:]
            received += part


@pytest.mark.slow
def test_tidecast_run_serves_the_page_beside_worker_and_scheduler(
    place: Path, development_broker: KafkaAddress
) -> None:
    port = free_port()
    jobs = [part for name in CATALOG for part in ("--set", f"jobs.{name}=off")]
    broker = f"kafka.bootstrap_servers={development_broker.bootstrap_servers}"
    own = ("--set", broker, "--set", f"kafka.input_topic={uuid4().hex}")  # the world's own topic is not on this broker
    with tidecast(place, *own, *jobs, "--set", f"serve.listen=127.0.0.1:{port}", "run") as process:
        wait_until(lambda: answers(port))
        assert get(port, "/api/status")[1]["champion"]["version"] == 2
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=END_SECONDS)
    assert (process.returncode, output) == (0, f"the page is at http://127.0.0.1:{port}/\n"), errors
    assert not answers(port)


def test_a_port_that_is_taken_is_one_line_and_exit_code_1(place: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, output, errors = ran(place, "--set", f"serve.listen={address}", "serve")
    words = "(Address already in use); choose another address, or off"
    assert (code, output, errors) == (1, "", f"tidecast: serve.listen: cannot listen on {address} {words}\n")


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (("serve.listen=0.0.0.0:8321",), "is not loopback: set token"),
        (("serve.listen=off",), "serve.listen is off"),
        (("database.url=sqlite:///none.db",), "does not exist: run tidecast db upgrade"),
    ],
)
def test_settings_that_cannot_work_are_one_line_and_exit_code_2(place: Path, sets: tuple[str, ...], words: str) -> None:
    code, output, errors = ran(place, *(part for text in sets for part in ("--set", text)), "serve")
    assert (code, output, errors.count("\n")) == (2, "", 1)
    assert words in errors


def test_without_the_extra_one_line_says_what_to_install(place: Path) -> None:
    hidden = "import sys; sys.modules['fastapi'] = None; from pipeline.cli import main; main(['serve'])"
    done = subprocess.run(
        [sys.executable, "-c", hidden], cwd=place, capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "tidecast: tidecast serve needs fastapi: pip install 'tidecast[serve]'\n"


@pytest.fixture
def server() -> Iterator[PostgreSQL]:
    require(PostgreSQL.missing())
    with PostgreSQL() as own:
        yield own


def test_an_outage_is_told_with_since_and_ends_by_itself(server: PostgreSQL, tmp_path: Path) -> None:
    url = server.fresh_database()
    write_settings(tmp_path, url)
    fill(url)
    port = free_port()
    with serving(tmp_path, port):
        assert get(port, "/api/history?series=meter-1")[0] == 200
        server.kill()
        wait_until(lambda: get(port, "/api/history?series=meter-1")[0] == 503)
        status, first, headers = get(port, "/api/series")
        assert (status, first["error"]["code"], headers["retry-after"]) == (503, "database_away", "5")
        assert get(port, "/api/origins?series=meter-1")[1]["error"]["since"] == first["error"]["since"] is not None
        assert get(port, "/readyz")[0] == 503
        assert get(port, "/healthz")[0] == 200
        server.start()
        wait_until(lambda: get(port, "/readyz")[0] == 200)
        assert get(port, "/api/history?series=meter-1")[0] == 200


def test_a_server_starts_though_the_database_is_away_and_answers_when_it_comes(
    server: PostgreSQL, tmp_path: Path
) -> None:
    url = server.fresh_database()
    write_settings(tmp_path, url)
    fill(url)
    server.kill()
    port = free_port()
    with serving(tmp_path, port):
        assert get(port, "/api/status")[0] == 503
        server.start()
        wait_until(lambda: get(port, "/api/status")[0] == 200)


def test_the_page_tells_of_itself_where_workers_do(place: Path) -> None:
    port, telemetry = free_port(), free_port()
    options = ("--set", f"serve.listen=127.0.0.1:{port}", "--set", f"metrics.listen=127.0.0.1:{telemetry}")
    with tidecast(place, *options, "serve") as process:
        try:
            wait_until(lambda: answers(port))
            assert get(port, "/api/series")[0] == 200
            assert get(port, "/api/forecast?series=nobody")[0] == 404
            assert (get(telemetry, "/readyz")[0], get(telemetry, "/healthz")[0]) == (200, 200)
            with urllib.request.urlopen(f"http://127.0.0.1:{telemetry}/metrics", timeout=60) as answer:
                samples = {
                    line.rpartition(" ")[0]: line.rpartition(" ")[2] for line in answer.read().decode().splitlines()
                }
            assert samples['tidecast_page_answers_total{route="/api/series",status="200"}'] == "1.0"
            assert samples['tidecast_page_answers_total{route="/api/forecast",status="404"}'] == "1.0"
            assert float(samples['tidecast_page_answer_seconds_total{route="/api/series"}']) > 0.0
            assert samples["tidecast_page_streams"] == "0.0"
            assert samples['tidecast_ready{role="page"}'] == "1.0"
            (place / "tidecast.db").rename(place / "away.db")
            wait_until(lambda: get(telemetry, "/readyz")[0] == 503)
            assert "the database does not answer" in get(telemetry, "/readyz")[1]["reasons"][0]
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=END_SECONDS)
