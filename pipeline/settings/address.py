"""Addresses to listen on, as text: host:port, or [host]:port for IPv6."""

import os
import socket

from pipeline.errors import ConfigError, Unavailable
from pipeline.settings.values import parse_off

MOST_PORT = 65_535


def parse_address(text: object) -> object:
    """Check 'host:port', and read 'off' as no address, which TOML cannot say."""
    if parse_off(text) is None:
        return None
    host, _, port = str(text).rpartition(":")
    if not host.strip("[]") or not (port.isdecimal() and int(port) <= MOST_PORT):
        raise ValueError(f"{text!r} is not an address; write 127.0.0.1:9464, or off")
    return text


def split_address(address: str) -> tuple[str, int]:
    """Split what `parse_address` has checked into host and port."""
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def number_address(address: str, number: int) -> str:
    """Return the address `number` ports above this one; port 0, any free one, stays."""
    host, _, port = address.rpartition(":")
    if int(port) and int(port) + number > MOST_PORT:
        raise ConfigError(f"metrics.listen: {address} leaves no {number} ports above it; choose a lower one")
    return f"{host}:{int(port) + number}" if int(port) else address


def check_free(address: str, setting: str) -> None:
    """Raise Unavailable in the words of `setting` when this machine does not let us listen there."""
    listen(address, setting).close()


def listen(address: str, setting: str) -> socket.socket:
    """Listen at an address; Unavailable in the words of `setting` when this machine does not let us."""
    host, port = split_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise cannot_listen(address, setting, error) from error


def address_of(listening: socket.socket) -> str:
    """Write where a socket listens as the address of a page, with the port that the system chose for port 0."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def cannot_listen(address: str, setting: str, error: OSError) -> Unavailable:
    """Say in one line why nothing can listen at an address, and what to do."""
    system = error.errno is not None and error.errno > 0  # a name that is not found has a number below 0
    why = os.strerror(error.errno or 0) if system else error.strerror or str(error)
    return Unavailable(f"{setting}: cannot listen on {address} ({why}); choose another address, or off")
