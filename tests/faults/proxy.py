"""A network on loopback that can be slow, silent or gone, and that can lose the one reply that matters.

`Proxy` forwards TCP to a server; what it does to new and to open connections may change at any time. A `Conversation`
reads along: enough of PostgreSQL's and of Kafka's protocol to cut a connection after the server has done what was asked
and before the reply to it arrives.
"""

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Protocol, Self

CHUNK = 1 << 16  # bytes
KAFKA_END_TRANSACTION = 26
WRITES = (b"INSERT", b"UPDATE", b"DELETE", b"COPY", b"MERGE")


class Conversation(Protocol):
    """What one connection says, read along."""

    def asked(self, chunk: bytes) -> None:
        """Take note of what the client sent."""

    def arrives(self, chunk: bytes) -> bool:
        """Tell whether this part of the server's answers may reach the client; if not, the connection is cut."""


class Silent:
    """Reads nothing and cuts nothing."""

    def asked(self, chunk: bytes) -> None:
        pass

    def arrives(self, chunk: bytes) -> bool:
        return True


class Proxy:
    """Forwards connections from a free port of 127.0.0.1 to `target`, a port there; use it as a context.

    `latency` is in seconds and for each piece of at most 64 kB in each direction, `rate` in bytes per second for each
    connection and direction, 0 for no limit.
    """

    def __init__(self, target: int, conversation: Callable[[], Conversation] = Silent) -> None:
        self.target = target
        self.conversation = conversation
        self.latency = 0.0
        self.rate = 0.0
        self._open = threading.Event()
        self._open.set()
        self._refusing = False
        self._ended = False
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, name=f"proxy-{self.port}", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._open.set()
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Close every connection that is open now."""
        with self._lock:
            sockets, self._sockets = self._sockets, set()
        for each in sockets:
            _close(each)

    def refuse(self) -> None:
        """Cut, and close every new connection at once, as if nobody listened."""
        self._refusing = True
        self.cut()

    def accept(self) -> None:
        """Forward again."""
        self._refusing = False

    def hold(self) -> None:
        """Swallow everything: connections stay open, and nothing arrives, as when a network is parted."""
        self._open.clear()

    def release(self) -> None:
        """Let what was held arrive."""
        self._open.set()

    def _accept(self) -> None:
        while not self._ended:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._refusing:
                _close(client)
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self.target), timeout=5)
            except OSError:
                _close(client)
                continue
            server.settimeout(None)
            with self._lock:
                self._sockets |= {client, server}
            conversation = self.conversation()

            def pass_on(chunk: bytes, conversation: Conversation = conversation) -> bool:
                conversation.asked(chunk)
                return True

            for source, target, passes in ((client, server, pass_on), (server, client, conversation.arrives)):
                threading.Thread(target=self._pump, args=(source, target, passes), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, passes: Callable[[bytes], bool]) -> None:
        with suppress(OSError):
            while chunk := source.recv(CHUNK):
                pause = self.latency + (len(chunk) / self.rate if self.rate else 0.0)
                if pause:
                    time.sleep(pause)
                self._open.wait()
                if not passes(chunk):
                    break
                target.sendall(chunk)
        with self._lock:
            self._sockets -= {source, target}
        _close(source)
        _close(target)


class LostReplies:
    """Loses every `every`-th reply to a commit, over all connections: `conversation` is for a `Proxy`."""

    def __init__(self, every: int, conversation: Callable[["LostReplies"], Conversation]) -> None:
        self.every = every
        self.seen = 0
        self.lost = 0
        self._conversation = conversation
        self._lock = threading.Lock()

    def conversation(self) -> Conversation:
        return self._conversation(self)

    def loses(self) -> bool:
        """Count a reply and tell whether it is lost; none is while `every` is 0."""
        with self._lock:
            self.seen += 1
            lost = bool(self.every) and self.seen % self.every == 0
            self.lost += lost
            return lost


class PostgresCommits:
    """Reads the server's command tags: a COMMIT after something was written is a commit. Needs sslmode=disable."""

    def __init__(self, replies: LostReplies) -> None:
        self._replies = replies
        self._answers = Frames(5, lambda head: 1 + int.from_bytes(head[1:5], "big"), keep=32)
        self._wrote = False

    def asked(self, chunk: bytes) -> None:
        pass

    def arrives(self, chunk: bytes) -> bool:
        for answer in self._answers.read(chunk):
            if answer[:1] != b"C":
                continue
            tag = answer[5:].rstrip(b"\0")
            if tag.startswith(WRITES):
                self._wrote = True
            elif tag in (b"COMMIT", b"ROLLBACK"):
                wrote, self._wrote = self._wrote, False
                if tag == b"COMMIT" and wrote and self._replies.loses():
                    return False
        return True


class KafkaCommits:
    """Notes the correlation id of every EndTxn and knows its reply by it."""

    def __init__(self, replies: LostReplies) -> None:
        self._replies = replies
        self._requests = Frames(4, lambda head: 4 + int.from_bytes(head, "big"), keep=12)
        self._answers = Frames(4, lambda head: 4 + int.from_bytes(head, "big"), keep=8)
        self._ends: set[int] = set()

    def asked(self, chunk: bytes) -> None:
        for request in self._requests.read(chunk):
            api, _, correlation = struct.unpack(">hhi", request[4:12])
            if api == KAFKA_END_TRANSACTION:
                self._ends.add(correlation)

    def arrives(self, chunk: bytes) -> bool:
        for answer in self._answers.read(chunk):
            (correlation,) = struct.unpack(">i", answer[4:8])
            if correlation in self._ends:
                self._ends.discard(correlation)
                if self._replies.loses():
                    return False
        return True


class Frames:
    """Cuts a stream into frames and keeps the first `keep` bytes of each; `size` is a frame's length by its `head`."""

    def __init__(self, head: int, size: Callable[[bytes], int], keep: int) -> None:
        self._head = head
        self._size = size
        self._keep = keep
        self._held = b""
        self._skip = 0

    def read(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the beginning of every frame that has (enough of it) come with this chunk."""
        self._held += chunk
        while True:
            skipped = min(self._skip, len(self._held))
            self._held, self._skip = self._held[skipped:], self._skip - skipped
            if self._skip or len(self._held) < self._head:
                return
            size = self._size(self._held[: self._head])
            if len(self._held) < min(size, self._keep):
                return
            self._skip = size
            yield self._held[: min(size, self._keep)]


def _close(each: socket.socket) -> None:
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()
