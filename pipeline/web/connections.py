"""Open connections of the page, and when one is dropped, so that clients which never finish keep nobody out.

    who                                          dropped
    no whole head of a request                   HEAD_SECONDS after it was opened, IDLE_SECONDS after the last answer
    an answer that is not read                   STUCK_SECONDS after the last part that was
    too many, in all or from one address         the one that has waited longest; one that is being answered never

The deadlines are absolute: a byte now and then moves none of them. uvicorn has none of these; its own for an idle
connection is put off by every byte.
"""

import asyncio
import resource
from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from typing import Any

import h11
import structlog
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

HEAD_SECONDS = 10.0
IDLE_SECONDS = 20.0
"""uvicorn closes a connection that is quite silent before that, after KEEP_SECONDS."""
KEEP_SECONDS = 15
STUCK_SECONDS = 20.0
HEAD_BYTES = 16_384
BACKLOG = 128
"""Connections that may wait to be accepted; so many may be open for a moment beyond the limit."""
OTHER_FILES = 128
"""Files that the process opens besides connections: the database, telemetry, libraries."""
log = structlog.get_logger()


class Connections(ServerState):
    """All open connections of a server; for one event loop. `most` may be open, `most_of_one` from one address."""

    def __init__(self, most: int, most_of_one: int) -> None:
        super().__init__()
        self._most = most
        self._most_of_one = most_of_one
        self._told = 0
        self.dropped = 0

    def __len__(self) -> int:
        return len(self.connections)

    def admit(self, new: "Connection") -> None:
        """Make room for a connection that was just opened."""
        same = [each for each in self._open() if each.address == new.address]
        if len(same) > self._most_of_one:
            self._drop_one(same)
        elif len(self.connections) > self._most:
            self._drop_one(self._open())

    def expire(self, now: float) -> None:
        """Drop every connection whose time is up."""
        for each in self._open():
            if each.expired(now):
                self._drop(each)

    def tell(self) -> None:
        """Log how many were dropped since this was called last."""
        if self.dropped > self._told:
            log.info("connections dropped", count=self.dropped - self._told, open=len(self))
            self._told = self.dropped

    def _open(self) -> "list[Connection]":
        return [each for each in self.connections if isinstance(each, Connection)]

    def _drop_one(self, among: "Iterable[Connection]") -> None:
        waiting = [each for each in among if each.waiting]
        self._drop(min(waiting, key=lambda each: each.since))

    def _drop(self, one: "Connection") -> None:
        self.dropped += 1
        self.connections.discard(one)
        one.transport.abort()


class Connection(H11Protocol):
    """One connection; `since` is when it began to wait for what it waits for, in the event loop's seconds."""

    server_state: Connections

    def __init__(self, *options: Any, **named: Any) -> None:
        super().__init__(*options, **named)
        self.since = self.loop.time()
        self.address = ""
        self._closing = False

    @property
    def waiting(self) -> bool:
        """Whether nothing is being answered: the client is to ask, or to take the rest of what was answered."""
        return self.cycle is None or self.cycle.response_complete or self._closing

    def expired(self, now: float) -> bool:
        """Tell whether its time is up; a connection that is being answered and is read has no limit."""
        if self.transport.is_closing() and not self._closing:  # what was written is still to be taken
            self._closing, self.since = True, now
        if self.flow.write_paused or self._closing:
            return now - self.since > STUCK_SECONDS
        return self.waiting and now - self.since > (HEAD_SECONDS if self.cycle is None else IDLE_SECONDS)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take it up, and drop another if there are too many."""
        super().connection_made(transport)
        self.address = network_of(self.client[0]) if self.client else ""
        self.server_state.admit(self)

    def on_response_complete(self) -> None:
        """Wait for the next request, which may be here already."""
        self.since = self.loop.time()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Begin to wait until the client reads."""
        self.since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """Count anew: the client has read."""
        self.since = self.loop.time()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request; within a request there is an answer on its way, and no second one."""
        if self.cycle is None or (self.cycle.response_complete and self.conn.our_state is h11.IDLE):
            super().send_400_response(msg)
            return
        self.cycle.disconnected = True
        self.transport.abort()


def network_of(address: str) -> str:
    """Return whom an address stands for: itself, or for IPv6 the network of 64 bits that one host may have whole."""
    host = address.partition("%")[0]
    own = ip_address(host)
    if own.version == 6 and own.ipv4_mapped is None:
        return str(ip_network(f"{host}/64", strict=False))
    return host


def allow_files(connections: int) -> int:
    """Let this process open so many connections, and return how many it may: the system's hard limit goes before."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + BACKLOG + OTHER_FILES
    most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if most == needed:
        return connections
    allowed = max(most - BACKLOG - OTHER_FILES, 16)
    log.warning("the limit of open files allows fewer connections", allowed=allowed, open_files=hard)
    return allowed
