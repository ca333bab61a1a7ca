"""The bad network does what it says, and reads along without losing its place; no server needed."""

import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.faults.proxy import KAFKA_END_TRANSACTION, Frames, KafkaCommits, LostReplies, PostgresCommits, Proxy


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that sends everything back."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=repeat, args=(connection,), daemon=True).start()

        def repeat(connection: socket.socket) -> None:
            with connection:
                while chunk := connection.recv(1 << 16):
                    connection.sendall(chunk)

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]


def connected(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=20)


def said(connection: socket.socket, words: bytes) -> bytes:
    connection.sendall(words)
    return connection.recv(len(words))


def test_everything_passes_until_it_is_cut_and_new_connections_pass_again(echo: int) -> None:
    with Proxy(echo) as proxy, connected(proxy) as first:
        assert said(first, b"one") == b"one"
        proxy.cut()
        assert first.recv(1) == b""
        with connected(proxy) as second:
            assert said(second, b"two") == b"two"


def test_a_network_that_refuses_closes_new_connections_until_it_accepts_again(echo: int) -> None:
    with Proxy(echo) as proxy:
        proxy.refuse()
        with connected(proxy) as refused:
            assert refused.recv(1) == b""
        proxy.accept()
        with connected(proxy) as accepted:
            assert said(accepted, b"x") == b"x"


def test_a_network_that_holds_delivers_late_and_loses_nothing(echo: int) -> None:
    with Proxy(echo) as proxy, connected(proxy) as connection:
        proxy.hold()
        connection.sendall(b"late")
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(4)
        proxy.release()
        connection.settimeout(20)
        assert connection.recv(4) == b"late"


def test_a_slow_network_takes_its_latency_and_its_time_for_every_byte(echo: int) -> None:
    with Proxy(echo) as proxy, connected(proxy) as connection:
        proxy.latency, proxy.rate = 0.1, 1000.0
        began = time.monotonic()
        assert said(connection, b"x" * 100) == b"x" * 100
        assert time.monotonic() - began >= 2 * (0.1 + 0.1)


@given(st.lists(st.binary(max_size=40), max_size=8), st.integers(1, 50))
def test_frames_are_found_however_the_stream_is_cut(payloads: Sequence[bytes], width: int) -> None:
    stream = b"".join(struct.pack(">i", len(payload)) + payload for payload in payloads)
    frames = Frames(4, lambda head: 4 + int.from_bytes(head, "big"), keep=10)
    found = [frame for at in range(0, len(stream), width) for frame in frames.read(stream[at : at + width])]
    assert found == [(struct.pack(">i", len(payload)) + payload)[:10] for payload in payloads]


def tagged(*tags: bytes) -> bytes:
    """PostgreSQL's CommandComplete messages, each after a row of data."""
    row = b"D" + struct.pack(">i", 4 + 100) + b"C" * 100
    return b"".join(row + b"C" + struct.pack(">i", 5 + len(tag)) + tag + b"\0" for tag in tags)


def test_of_postgresql_only_commits_of_something_written_count() -> None:
    replies = LostReplies(2, PostgresCommits)
    conversation = replies.conversation()
    assert conversation.arrives(tagged(b"BEGIN", b"SELECT 3", b"COMMIT"))
    assert conversation.arrives(tagged(b"BEGIN", b"UPDATE 1", b"ROLLBACK", b"BEGIN", b"COMMIT"))
    assert replies.seen == 0
    assert conversation.arrives(tagged(b"BEGIN", b"COPY 20", b"COMMIT"))
    assert conversation.arrives(tagged(b"BEGIN", b"UPDATE 1", b"SELECT 1"))
    assert not conversation.arrives(tagged(b"COMMIT"))
    assert (replies.seen, replies.lost) == (2, 1)


def request(api: int, correlation: int) -> bytes:
    body = struct.pack(">hhi", api, 3, correlation) + b"rest"
    return struct.pack(">i", len(body)) + body


def answer(correlation: int) -> bytes:
    return struct.pack(">ii", 10, correlation) + b"answer"


def test_of_kafka_only_the_answers_to_the_end_of_a_transaction_count() -> None:
    replies = LostReplies(1, KafkaCommits)
    conversation = replies.conversation()
    conversation.asked(request(0, 7) + request(KAFKA_END_TRANSACTION, 8))
    assert conversation.arrives(answer(7))
    assert not conversation.arrives(answer(8))
    assert (replies.seen, replies.lost) == (1, 1)


def test_no_reply_is_lost_once_there_is_nothing_to_lose() -> None:
    replies = LostReplies(0, PostgresCommits)
    assert replies.conversation().arrives(tagged(b"UPDATE 1", b"COMMIT"))
    assert (replies.seen, replies.lost) == (1, 0)
