"""What only the development broker promises: restarts with its data, ends on signals, survives nonsense."""

import contextlib
import signal
import socket
import struct
import subprocess
import sys
import time

import pytest
from confluent_kafka import Consumer, Producer

from pipeline.quickstart.broker import DevelopmentBroker
from tests.servers import create_topic

pytestmark = pytest.mark.timeout(60)

FOREGROUND = """
import sys
from pipeline.quickstart.broker import serve
serve(0, lambda broker: (sys.stdout.write(broker.bootstrap_servers + "\\n"), sys.stdout.flush()))
"""


def write(servers: str, topic: str, value: bytes) -> None:
    producer = Producer({"bootstrap.servers": servers, "log_level": 0})
    producer.produce(topic, value, partition=0)
    assert producer.flush(20) == 0


def read_one(servers: str, topic: str) -> bytes | None:
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "g", "auto.offset.reset": "earliest"})
    try:
        consumer.subscribe([topic])
        message = consumer.poll(20)
        return message.value() if message else None
    finally:
        consumer.close()


def test_a_broker_that_is_given_the_data_of_an_earlier_one_continues_with_it() -> None:
    with DevelopmentBroker() as first:
        create_topic(first.bootstrap_servers, "kept")
        write(first.bootstrap_servers, "kept", b"value")
    port = first.data.port
    with DevelopmentBroker(port=port, data=first.data) as second:
        assert second.bootstrap_servers == f"127.0.0.1:{port}"
        assert read_one(second.bootstrap_servers, "kept") == b"value"


def test_a_port_that_is_taken_is_reported_to_the_caller() -> None:
    with DevelopmentBroker() as first, pytest.raises(OSError, match="in use"):
        DevelopmentBroker(port=first.data.port).__enter__()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_foreground_broker_cleanly(number: signal.Signals) -> None:
    process = subprocess.Popen([sys.executable, "-c", FOREGROUND], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process, process.stdout as output:
        servers = output.readline().strip()
        create_topic(servers, "topic")
        process.send_signal(number)
        assert process.wait(10) == 0


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">i", -5),
        struct.pack(">i", 2) + b"ab",
        struct.pack(">ihhi", 8, 9999, 0, 1),
        struct.pack(">ihhi", 8, 1, 99, 1),
        struct.pack(">ihhih", 10, 3, 9, 1, 500),
        struct.pack(">ihhih", 26, 0, 9, 1, -1) + b"\xff" * 16,
    ],
)
def test_a_request_that_cannot_be_understood_closes_only_its_own_connection(sent: bytes) -> None:
    with DevelopmentBroker() as broker:
        with socket.create_connection(("127.0.0.1", broker.data.port), timeout=10) as connection:
            connection.sendall(sent)
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(100) == b""
        create_topic(broker.bootstrap_servers, "still-there")


def test_an_idle_broker_with_a_waiting_consumer_uses_no_processor_time() -> None:
    with DevelopmentBroker() as broker:
        create_topic(broker.bootstrap_servers, "quiet")
        consumer = Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": "g"})
        try:
            consumer.subscribe(["quiet"])
            consumer.poll(2)
            before = time.process_time()
            consumer.poll(3)
            assert time.process_time() - before < 0.6
        finally:
            consumer.close()
