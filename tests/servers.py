"""Real servers for tests: Apache Kafka and PostgreSQL, started here, on free ports of 127.0.0.1, with fresh data.

Each has `missing()`, the reason why it cannot run here. Only processes started here are ever signalled, by pid.
"""

import atexit
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import psycopg
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from pipeline.database import upgrade

KAFKA_SCRIPT = Path(__file__).parents[1] / "deploy" / "kafka" / "kafka.sh"
START_SECONDS = 120.0  # the first start may fetch 44 MB of jars
STOP_SECONDS = 20.0


def required() -> bool:
    """Tell whether a server that is missing is a failure rather than a skip."""
    return os.environ.get("CI") == "true" or os.environ.get("TIDECAST_REQUIRE_SERVERS") == "1"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def create_topic(bootstrap_servers: str, name: str, partitions: int = 1, replication: int = 1, **config: str) -> str:
    """Create a topic (configuration with _ for .) and wait until it can be written to."""
    admin = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})
    settings = {key.replace("_", "."): value for key, value in config.items()}
    created = admin.create_topics([NewTopic(name, partitions, replication, config=settings)], operation_timeout=20)
    created[name].result(30)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = admin.list_topics(name, timeout=10).topics[name]
        if len(found.partitions) == partitions and all(p.leader >= 0 for p in found.partitions.values()):
            return name
        time.sleep(0.02)
    raise TimeoutError(f"the topic {name} got no leaders")


def add_partitions(bootstrap_servers: str, name: str, partitions: int) -> None:
    """Let a topic have so many partitions, and wait until all of them can be written to."""
    admin = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})
    admin.create_partitions([NewPartitions(name, partitions)])[name].result(30)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = admin.list_topics(name, timeout=10).topics[name]
        if len(found.partitions) == partitions and all(p.leader >= 0 for p in found.partitions.values()):
            return
        time.sleep(0.05)
    raise TimeoutError(f"the topic {name} got no leaders")


class Server:
    """A server process: what Apache Kafka and PostgreSQL have in common."""

    stop_signal = signal.SIGKILL

    def __init__(self) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix=f"tidecast-{type(self).__name__.lower()}-"))
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def command(self) -> list[str]:
        raise NotImplementedError

    def answers(self) -> bool:
        """Tell whether the server does its work, not only that its port is open."""
        raise NotImplementedError

    def options(self) -> dict[str, Any]:
        """More arguments for Popen."""
        return {}

    def start(self) -> None:
        with (self.folder / "output.log").open("ab") as output:
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=output, stderr=output, **self.options()
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            if self._port_is_open() and self.answers():
                return
            time.sleep(0.1)
        tail = (self.folder / "output.log").read_text(errors="replace")[-2000:]
        raise RuntimeError(f"{type(self).__name__} did not start:\n{tail}")

    def kill(self) -> None:
        """End at once, as a crash does; the data stays for `start`."""
        self._end(self.stop_signal)

    def restart(self) -> None:
        """Crash if it still runs, and start again on the same port and data."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """Freeze: the port stays open and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """End and delete the data."""
        self._end(self.stop_signal)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _signal(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        self.resume()  # a frozen process would take only SIGKILL
        self._signal(number)
        if self.process is not None:
            self.process.wait(STOP_SECONDS)

    def _port_is_open(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class ApacheKafka(Server):
    """One node of Apache Kafka, started by deploy/kafka/kafka.sh (about 6 s, 400 MB of memory).

    With a `proxy`, a port, a client that asks there is told of no other address; `behind` is what it must forward to.
    Unless it is `lasting`, Java compiles quickly rather than well: half of the CPU of the first minutes is Java's own.
    """

    def __init__(self, proxy: int | None = None, behind: int | None = None, *, lasting: bool = False) -> None:
        super().__init__()
        self._java = {} if lasting else {"KAFKA_JAVA_OPTIONS": "-XX:TieredStopAtLevel=1"}
        self._controller_port = free_port()
        self._proxy = proxy
        self._behind = behind

    @staticmethod
    def missing() -> str | None:
        if shutil.which("java") is None:
            return "Apache Kafka needs Java 17 or later, and there is no java"
        if os.environ.get("KAFKA_HOME") or shutil.which("mvn"):
            return None
        return "Apache Kafka needs KAFKA_HOME or Maven, and there is neither"

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        return [str(KAFKA_SCRIPT), "--port", str(self.port), "--data", str(self.folder / "data")]

    def options(self) -> dict[str, Any]:
        environment = self._java | os.environ | {"TIDECAST_KAFKA_CONTROLLER_PORT": str(self._controller_port)}
        if self._proxy is not None:
            environment["TIDECAST_KAFKA_PROPERTIES"] = (
                f"listeners=PLAINTEXT://127.0.0.1:{self.port},PROXIED://127.0.0.1:{self._behind},"
                f"CONTROLLER://127.0.0.1:{self._controller_port}\n"
                f"advertised.listeners=PLAINTEXT://127.0.0.1:{self.port},PROXIED://127.0.0.1:{self._proxy}\n"
                "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT"
            )
        return {"env": environment}

    def shut_down(self) -> None:
        """End in order, so that the next start takes the log as it is; the data stays for `start`."""
        self._end(signal.SIGTERM)

    def answers(self) -> bool:
        create_topic(self.bootstrap_servers, f"ready-{uuid4().hex[:8]}")
        return True


class PostgreSQL(Server):
    """A PostgreSQL server without fsync: a crash of the server loses nothing, one of the machine would."""

    stop_signal = signal.SIGQUIT  # "immediate shutdown": no checkpoint, so the next start recovers as after a crash

    def __init__(self) -> None:
        super().__init__()
        self._owner = "postgres" if os.geteuid() == 0 else None
        if self._owner:
            shutil.chown(self.folder, self._owner)
        binaries = self._binaries()
        assert binaries is not None, "ask missing() first"
        self._binaries_folder = binaries

    @classmethod
    def missing(cls) -> str | None:
        return None if cls._binaries() else "there is no initdb in PATH or in /usr/lib/postgresql"

    @staticmethod
    def _binaries() -> Path | None:
        installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: float(p.parts[-3]))
        found = shutil.which("initdb")
        initdb = installed[-1] if installed else Path(found) if found else None
        return initdb.parent if initdb else None

    def command(self) -> list[str]:
        settings = {"fsync": "off", "full_page_writes": "off", "max_connections": "50"}
        settings |= {"listen_addresses": "127.0.0.1", "shared_buffers": "64MB", "logging_collector": "off"}
        settings |= {"jit": "off"}  # LLVM takes a second of CPU for a query over a view, however few rows there are
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        data = str(self.folder / "data")
        return [str(self._binaries_folder / "postgres"), "-D", data, "-p", str(self.port), "-k", "", *options]

    def options(self) -> dict[str, Any]:
        owner = {"user": self._owner, "group": self._owner, "extra_groups": []} if self._owner else {}
        return {"cwd": self.folder, **owner}

    def start(self) -> None:
        if not (self.folder / "data").exists():
            words = ["-D", str(self.folder / "data"), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"]
            initdb = [str(self._binaries_folder / "initdb"), *words, "--no-locale"]
            done = subprocess.run(initdb, capture_output=True, timeout=60, check=False, **self.options())
            if done.returncode:
                raise RuntimeError(f"initdb failed: {done.stderr.decode(errors='replace')[-2000:]}")
        super().start()

    def crash(self) -> None:
        """kill -9 of the server's first process; those of its sessions end when they notice."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(STOP_SECONDS)

    def recover(self) -> None:
        """Start after a crash, as soon as the sessions of before have ended."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                return self.start()
            except RuntimeError:  # "pre-existing shared memory block is still in use"
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def answers(self) -> bool:
        return postgresql_answers(self.port)

    def url(self, database: str) -> str:
        """Return the SQLAlchemy address of a database."""
        return postgresql_url(self.port, database)

    def fresh_database(self) -> str:
        """Create an empty database and return its address."""
        return fresh_database(self.port)


def postgresql_url(port: int, database: str) -> str:
    return f"postgresql+psycopg://postgres@127.0.0.1:{port}/{database}"


def postgresql_answers(port: int) -> bool:
    try:
        psycopg.connect(host="127.0.0.1", port=port, user="postgres", dbname="postgres", connect_timeout=5).close()
    except psycopg.OperationalError:  # starting up or recovering
        return False
    return True


def fresh_database(port: int) -> str:
    with _operating(port) as connection:
        return postgresql_url(port, _create_database(connection, "template1"))


def upgraded_database(port: int) -> str:
    """Create a database as an upgrade leaves an empty one, in a tenth of the time, and return its address."""
    with _operating(port) as connection:
        connection.execute("SELECT pg_advisory_lock(1)")  # of other test processes, one makes the template
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = 'upgraded'").fetchall():
            made = _create_database(connection, "template1")
            upgrade(postgresql_url(port, made))
            connection.execute(f"ALTER DATABASE {made} RENAME TO upgraded")
        return postgresql_url(port, _create_database(connection, "upgraded"))


def _operating(port: int) -> "psycopg.Connection[Any]":
    return psycopg.connect(host="127.0.0.1", port=port, user="postgres", dbname="postgres", autocommit=True)


def _create_database(connection: "psycopg.Connection[Any]", template: str) -> str:
    name = f"test_{uuid4().hex[:12]}"
    connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    return name


@cache
def upgraded_file() -> bytes:
    """What an upgrade leaves of an empty SQLite database."""
    with tempfile.TemporaryDirectory() as folder:
        upgrade(f"sqlite:///{folder}/upgraded.db")
        return Path(folder, "upgraded.db").read_bytes()


_started: list[Server] = []  # kept alive: another test process may still use a server that this one started


@atexit.register
def _leave_running() -> None:
    """A server that another test process still uses, and will stop, is not ours to wait for; Popen would complain."""
    for server in _started:
        if server.process is not None and server.process.poll() is None:
            server.process.returncode = 0


@contextmanager
def shared(build: Callable[[], Server], folder: Path) -> Iterator[int]:
    """Run one server for all test processes of a run and yield its port; the last one out stops it."""
    name = getattr(build, "__name__", "server")
    register, lock = folder / f"{name}.json", folder / f"{name}.lock"
    with _locked(lock):
        entry: dict[str, Any] = json.loads(register.read_text()) if register.exists() else {}
        if not entry:
            server = build().__enter__()
            assert server.process is not None
            _started.append(server)
            entry = {"port": server.port, "pid": server.process.pid, "folder": str(server.folder), "users": 0}
        entry["users"] += 1
        register.write_text(json.dumps(entry))
    try:
        yield int(entry["port"])
    finally:
        with _locked(lock):
            entry = json.loads(register.read_text())
            entry["users"] -= 1
            if entry["users"]:
                register.write_text(json.dumps(entry))
            else:
                register.unlink()
                _stop_shared(entry)


def _stop_shared(entry: dict[str, Any]) -> None:
    ours = next((s for s in _started if s.process is not None and s.process.pid == entry["pid"]), None)
    if ours is not None:
        ours.stop()
        return
    # Another test process started it. Its pid cannot have been reused: the starter has not waited for it yet.
    folder = Path(entry["folder"])
    os.kill(entry["pid"], PostgreSQL.stop_signal if "postgresql" in folder.name else ApacheKafka.stop_signal)
    deadline = time.monotonic() + STOP_SECONDS
    while time.monotonic() < deadline and not _has_ended(entry["pid"]):
        time.sleep(0.05)
    shutil.rmtree(folder, ignore_errors=True)


def _has_ended(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
