"""Real processes of tidecast that start at once: forked from one that has imported what they need.

A process that imports torch and pandas takes two seconds of CPU before its first line, and the tests start hundreds.
`Popen` and `run` are those of subprocess, and what they start is a process like any other: a child of this one with a
pid, a file descriptor table, an environment and a folder of its own, which can be frozen, killed and waited for. But a
`python -m module` or `python -c code` is forked by the fork server, one process without threads for each test process.
A process that is started with `forking` has such a server itself, as a child, and so has whatever it starts.
The test processes of pytest-xdist are forked, too, and come with their servers: `fork_test_processes`.

What is about the start itself is started by subprocess as ever: a preloaded library, another interpreter. So is
everything while TIDECAST_TEST_FORK=off, as in `make faults`.
"""

import atexit
import ctypes
import fcntl
import gc
import io
import itertools
import json
import os
import pkgutil
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FORK = "TIDECAST_TEST_FORK"
LONGEST_REQUEST = 1 << 20
PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 15, 36
NAME = "fork-server"
"""What the system calls a fork server that is a child of a process under test."""
MOST_ENDS = 16
FREE = 500
"""The lowest number of a descriptor that no process asks for."""
DATABASES = ("psycopg", "sqlalchemy.dialects.sqlite", "sqlalchemy.dialects.postgresql", "alembic.command")
BESIDE = (*DATABASES, "uvicorn", "torch._dynamo")  # the last comes with an optimiser, in a second of CPU
TESTING = ("pytest", "confluent_kafka", "httpx", "playwright.sync_api", "schemathesis", "scoringrules", "yaml")
"""What the tests themselves import, beside their own modules, which pytest must read first."""
FLAGS = ("-P", "-u", "-B")
"""Of the interpreter, as far as a fork can follow them."""


PLAIN = subprocess.Popen


class Popen(subprocess.Popen[Any]):
    """subprocess.Popen, whose process the fork server forks where it can."""

    def __init__(self, args: Any, *rest: Any, forking: bool = False, **options: Any) -> None:
        self._forking: bool | str = TESTS if SERVER.for_tests else forking or SERVER.inherited
        super().__init__(args, *rest, **options)

    def _execute_child(  # type: ignore[override]
        self, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, *rest
    ) -> None:
        environment = {**(os.environ if env is None else env)}
        plain = executable is preexec_fn is None and "LD_PRELOAD" not in environment
        if not plain or not forks(args):
            super()._execute_child(args, executable, preexec_fn, close_fds, pass_fds, cwd, env, *rest)  # type: ignore[misc]
            return
        p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite = rest[3:9]
        ends = [given if given != -1 else own for given, own in ((p2cread, 0), (c2pwrite, 1), (errwrite, 2))]
        request = {
            "arguments": [str(each) for each in args[1:]],
            "folder": str(cwd or Path.cwd()),
            "env": environment,
            "session": rest[14],
            "passed": list(pass_fds),
            "forking": self._forking,
        }
        self.pid = SERVER.fork(request, [*ends, *pass_fds])
        self._child_created = True
        self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)  # type: ignore[attr-defined]


def forks(command: Any) -> bool:
    """Tell whether a command is one of this interpreter that the fork server understands."""
    if os.environ.get(FORK) == "off" or isinstance(command, str) or command[0] != sys.executable:
        return False
    _, words = split_flags(command[1:])
    return len(words) > 1 and words[0] in ("-m", "-c")


def split_flags(arguments: list[str]) -> tuple[set[str], list[str]]:
    """Split the arguments of an interpreter into flags and what is to be run."""
    flags = set(itertools.takewhile(FLAGS.__contains__, arguments))
    return flags, list(itertools.dropwhile(FLAGS.__contains__, arguments))


def run(
    command: Any, *, timeout: float | None = None, check: bool = False, capture_output: bool = False, **options: Any
) -> subprocess.CompletedProcess[Any]:
    """subprocess.run, without `input`."""
    if capture_output:
        options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with Popen(command, **options) as process:
        try:
            output, errors = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    done = subprocess.CompletedProcess(command, process.returncode, output, errors)
    if check:
        done.check_returncode()
    return done


class ForkServer:
    """The process that forks, seen from the test process, which starts it with the first request."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None
        self._pid = 0
        self.inherited = False
        """Whether this process was forked, with a server that it did not start and whatever it starts has one, too."""
        self.for_tests = False
        """Whether the server forks test processes."""

    def inherit(self, line: socket.socket, pid: int, *, tests: bool) -> None:
        """Use the server at the other end of the line; but in a test process also for what calls subprocess.Popen."""
        self._line = line
        if tests:
            self._pid = pid
            atexit.register(self._stop)
        else:
            self.inherited = True
            subprocess.Popen = Popen  # type: ignore[misc]

    def fork(self, request: dict[str, Any], ends: list[int]) -> int:
        """Return the pid of a new child of this process, which becomes what the request says."""
        with self._lock:
            line = self._line or self._start()
            # An orphan is given to the next ancestor that wants orphans: this process, for this moment.
            _want_orphans(True)
            try:
                socket.send_fds(line, [json.dumps(request).encode()], ends)
                pid = int(line.recv(100))
                assert line.recv(100) == b"orphaned"
            finally:
                _want_orphans(False)
            return pid

    def _start(self) -> socket.socket:
        self._line, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LONGEST_REQUEST)
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        with other:
            self._process = PLAIN(
                [sys.executable, "-m", "tests.processes", str(other.fileno()), *(TESTING if self.for_tests else ())],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                pass_fds=[other.fileno()],
                env=kept | {"OPENBLAS_NUM_THREADS": "1"},  # no thread, so that a fork finds no lock held
            )
        atexit.register(self._stop)
        return self._line

    def _stop(self) -> None:
        if self._line is not None:
            self._line.close()
        if self._process is not None:
            self._process.wait(60)
        if self._pid:
            os.waitpid(self._pid, 0)


SERVER = ForkServer()
TESTS = "tests"


def fork_test_processes() -> None:
    """Let this process, which runs no tests, fork those that do: each would import for six seconds of CPU."""
    SERVER.for_tests = True
    subprocess.Popen = Popen  # type: ignore[misc]


def _want_orphans(wanted: bool) -> None:
    _prctl(PR_SET_CHILD_SUBREAPER, int(wanted))


def _prctl(option: int, value: int | bytes) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def import_everything(beside: Iterable[str] = ()) -> None:
    """Import what a process of tidecast may import, and what else is named."""
    gc.disable()
    for package in map(import_module, ("models", "pipeline", "jobs")):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if "migrations" not in module.name and not module.name.endswith("__main__"):
                import_module(module.name)
    for name in (*BESIDE, *beside):
        import_module(name)
    gc.freeze()
    gc.enable()
    assert threading.active_count() == 1, threading.enumerate()


def serve(line: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Fork whenever the line says so; return in the fork, with what it is to be. The end of the line is the end."""
    while True:
        message, ends, _, _ = socket.recv_fds(line, LONGEST_REQUEST, MOST_ENDS)
        if not message:
            os._exit(0)
        between = os.fork()
        if not between:
            parent, request = os.getpid(), json.loads(message)
            settled, settles = os.pipe()
            child = os.fork()
            if child:
                os.close(settles)
                os.read(settled, 1)  # its end, once the child leads its own session
                line.send(str(child).encode())
                os._exit(0)
            if request["session"]:
                os.setsid()
            os.close(settles)
            os.close(settled)
            line.close()
            while os.getppid() == parent:  # it has the pid of its child to tell, and ends
                time.sleep(0.001)
            return request, ends
        os.waitpid(between, 0)
        line.send(b"orphaned")
        for end in ends:
            os.close(end)


def settle(request: dict[str, Any], ends: list[int], path: list[str]) -> None:
    """Take the descriptors, the folder, the environment and the path that a new interpreter would have."""
    free = [fcntl.fcntl(end, fcntl.F_DUPFD, FREE) for end in ends]
    for end in ends:
        os.close(end)
    for number, end in zip([0, 1, 2, *request["passed"]], free, strict=True):
        os.dup2(end, number)
        os.close(end)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _prctl(PR_SET_NAME, b"python")
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["env"])
    time.tzset()
    flags, _ = split_flags(request["arguments"])
    sys.dont_write_bytecode = "-B" in flags or bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
    if "-u" in flags or os.environ.get("PYTHONUNBUFFERED"):
        for name in ("stdout", "stderr"):
            written: io.TextIOWrapper = getattr(sys, name)
            end = io.FileIO(written.fileno(), "w", closefd=False)
            setattr(sys, name, io.TextIOWrapper(end, written.encoding, written.errors, write_through=True))  # type: ignore[type-var]
    first = [] if "-P" in flags else [request["folder"]]
    sys.path[:] = [*first, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)), *path]


def split_off(request: dict[str, Any]) -> socket.socket | None:
    """Fork a fork server for this process; in the server return the line that it is to serve."""
    own, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    server = os.fork()
    if server:
        other.close()
        SERVER.inherit(own, server, tests=request["forking"] == TESTS)
        return None
    own.close()
    for number in request["passed"]:
        os.close(number)
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nothing, number)
    os.close(nothing)
    for number in (signal.SIGINT, signal.SIGTERM):  # it ends when its parent has, whatever its group is told
        signal.signal(number, signal.SIG_IGN)
    _prctl(PR_SET_NAME, NAME.encode())
    return other


def become(arguments: list[str]) -> None:
    """Run `-m module words` or `-c code words`, as the interpreter would."""
    _, (kind, what, *words) = split_flags(arguments)
    if kind == "-m":
        sys.argv = ["-m", *words]
        sys.modules.pop(what, None)  # imported, and about to be run: runpy would warn
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        sys.argv = ["-c", *words]
        sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(what, "<string>", "exec"), sys.modules["__main__"].__dict__)


class Exit:
    """How a fork ends: as an interpreter does, but for taking 2,500 modules apart, a third of a second of CPU.

    Made before anything is imported, because what was registered first is called last.
    """

    def __init__(self) -> None:
        self.code: int | None = None
        atexit.register(self._leave)

    def run(self, arguments: list[str]) -> None:
        """Run what was asked for, and note with which code it ended; other ends are left to the interpreter."""
        try:
            become(arguments)
        except SystemExit as end:
            if end.code is None or isinstance(end.code, int):
                self.code = (end.code or 0) & 0xFF
            raise
        self.code = 0

    def _leave(self) -> None:
        if self.code is not None:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(self.code)


def main() -> None:
    """be the fork server, and then what was asked for."""
    end = Exit()
    own = {str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)}
    path = [each for each in sys.path if each not in own]
    import_everything(sys.argv[2:])
    sys.modules["tests.processes"] = sys.modules["__main__"]  # a test process that imports it finds its server
    line: socket.socket | None = socket.socket(fileno=int(sys.argv[1]))
    while line is not None:
        request, ends = serve(line)
        settle(request, ends, path)
        line = split_off(request) if request["forking"] else None
    end.run(request["arguments"])


if __name__ == "__main__":
    main()
