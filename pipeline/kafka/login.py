"""SASL towards the brokers: log in once before the client does, because it would hide why it was refused.

kafka-python 3.0.12 takes a refused login for a broker that is away, and tries again until its time is over.
"""

import socket
import struct

from kafka.net.sasl import get_sasl_mechanism

from pipeline.errors import ConfigError
from pipeline.settings import KafkaSettings

HANDSHAKE, AUTHENTICATE = 17, 36
HANDSHAKE_VERSION, AUTHENTICATE_VERSION = 1, 0
REFUSED = 58  # SASL_AUTHENTICATION_FAILED
UNSUPPORTED = 33  # UNSUPPORTED_SASL_MECHANISM


def log_in(connection: socket.socket, address: str, settings: KafkaSettings) -> None:
    """Log in as the settings say; ConfigError when the broker refuses the mechanism, the user or the password."""
    name, password = str(settings.sasl_mechanism), settings.sasl_password
    assert password is not None, "the settings were checked"
    said = name.encode()
    reply = _ask(connection, HANDSHAKE, HANDSHAKE_VERSION, struct.pack(">h", len(said)) + said)
    if _code(reply) == UNSUPPORTED:
        raise ConfigError(f"Kafka at {address} does not offer {name}; check kafka.sasl_mechanism")
    mechanism = get_sasl_mechanism(name)(
        host=address.rpartition(":")[0],
        sasl_mechanism=name,
        sasl_plain_username=settings.sasl_username,
        sasl_plain_password=password.get_secret_value(),
        security_protocol=settings.security_protocol,
    )
    while not mechanism.is_done():
        token = mechanism.auth_bytes()
        reply = _ask(connection, AUTHENTICATE, AUTHENTICATE_VERSION, struct.pack(">i", len(token)) + token)
        if _code(reply) == REFUSED:
            raise ConfigError(
                f"Kafka at {address} refuses the user {settings.sasl_username}; "
                "check kafka.sasl_username, sasl_password and sasl_mechanism"
            )
        if _code(reply):
            raise OSError(f"error {_code(reply)} while logging in")
        mechanism.receive(_token(reply))


def _ask(connection: socket.socket, key: int, version: int, body: bytes) -> bytes:
    """Send a request without a client's name and return its reply after the correlation id."""
    head = struct.pack(">hhih", key, version, 1, -1)
    connection.sendall(struct.pack(">i", len(head) + len(body)) + head + body)
    (size,) = struct.unpack(">i", _read(connection, 4))
    return _read(connection, size)[4:]


def _read(connection: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        part = connection.recv(size - len(found))
        if not part:
            raise OSError("the broker hung up while this client logged in")
        found += part
    return found


def _code(reply: bytes) -> int:
    return int(struct.unpack_from(">h", reply)[0])


def _token(reply: bytes) -> bytes:
    (words,) = struct.unpack_from(">h", reply, 2)
    return reply[4 + max(0, words) + 4 :]
