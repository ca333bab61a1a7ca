"""The broker as a socket server: in a thread for tests and the demo, in the foreground for `tidecast broker`."""

import asyncio
import ipaddress
import logging
import signal
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from pipeline.quickstart.broker.dispatch import answer
from pipeline.quickstart.broker.node import Node

log = logging.getLogger(__name__)

LARGEST_FRAME = 100 * 1024 * 1024
TICK_SECONDS = 0.1  # how late a session, a rebalance or a transaction may expire
START_SECONDS = 10.0


class DevelopmentBroker:
    """A Kafka broker for development and tests: one node, on loopback, in memory; nothing survives it.

    `with DevelopmentBroker() as broker: connect(broker.bootstrap_servers)`. A second broker that is given the
    `data` of one that has ended serves the same topics, groups and transactions, as after a restart.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0, data: Node | None = None) -> None:
        if host != "localhost" and not _is_loopback(host):
            raise ValueError(f"the development broker binds to loopback only, not to {host!r}")
        self.data = data or Node()
        self.data.host, self.data.port = host, port
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def bootstrap_servers(self) -> str:
        """The address for clients; the port is known once the broker runs."""
        host = f"[{self.data.host}]" if ":" in self.data.host else self.data.host
        return f"{host}:{self.data.port}"

    def __enter__(self) -> Self:
        """Serve in a thread of its own; returns when the port answers, raises OSError if it is taken."""
        started = threading.Event()
        failure: list[OSError] = []

        def run() -> None:
            try:
                asyncio.run(self._serve(started.set))
            except OSError as error:
                failure.append(error)
                started.set()

        self._thread = threading.Thread(target=run, name="development-broker", daemon=True)
        self._thread.start()
        if not started.wait(START_SECONDS):
            raise TimeoutError("the development broker did not start")
        if failure:
            raise failure[0]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections at once, as a crash would, and wait for the thread."""
        assert self._thread is not None
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(START_SECONDS)

    def serve(self, on_ready: Callable[[Self], None]) -> None:
        """Serve in the foreground until SIGTERM or SIGINT."""

        def ready() -> None:
            loop = asyncio.get_running_loop()
            assert self._stop is not None
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._stop.set)
            on_ready(self)

        asyncio.run(self._serve(ready))

    async def _serve(self, on_ready: Callable[[], None]) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._accept, self.data.host, self.data.port, limit=1 << 20)
        self.data.port = server.sockets[0].getsockname()[1]
        ticker = asyncio.create_task(self._tick())
        on_ready()
        await self._stop.wait()
        server.close()
        running = [ticker, *self._connections]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self.data.tick()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._converse(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client is gone
        except (ValueError, struct.error, IndexError) as error:
            log.warning("closed a connection after a request that cannot be answered: %s", error)
        except asyncio.CancelledError:
            pass  # the broker ends
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer requests in their order, one at a time, as Kafka does for each connection."""
        host = str(writer.get_extra_info("peername")[0])
        while True:
            (size,) = struct.unpack(">i", await reader.readexactly(4))
            if not 0 < size <= LARGEST_FRAME:
                raise ValueError(f"a frame of {size} bytes")
            response = await answer(self.data, await reader.readexactly(size), host)
            if response is not None:
                writer.write(response)
                await writer.drain()


def serve(port: int, on_ready: Callable[[DevelopmentBroker], None], host: str = "127.0.0.1") -> None:
    """Run a broker in the foreground until SIGTERM or SIGINT; `on_ready` is called when the port answers."""
    DevelopmentBroker(host, port).serve(on_ready)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
