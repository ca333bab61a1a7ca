"""Where a server listens, as text (host:port, or [host]:port for IPv6), and under which names it is asked.

A page elsewhere can let a name of its own point to this machine, and a browser inside then asks us under that name (DNS
rebinding). So we answer only to names that no stranger can own: the Host header is checked.
"""

import os
import socket
from collections.abc import Iterable
from ipaddress import ip_address

from pipeline.errors import ConfigError, Unavailable
from pipeline.settings.values import parse_off

MOST_PORT = 65_535
INNER = ("svc", "cluster.local", "local", "internal", "localhost")
"""Domains that cannot be registered: names of services in a cluster or a network end so."""


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


def name_in(host: str) -> str:
    """Return the name in a Host header, in lower case, without its port, the brackets of IPv6 and a last dot."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    return name.removeprefix("[").removesuffix("]").removesuffix(".").lower()


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine's own, as a name or as an address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def is_inner(name: str) -> bool:
    """Tell whether a name is an address, or one that nobody can register: a single word, or in one of INNER."""
    try:
        ip_address(name)
    except ValueError:
        return bool(name) and ("." not in name or name.endswith(tuple(f".{domain}" for domain in INNER)))
    return True


class KnownHosts:
    """The names under which a listener without a password is asked.

    On loopback: this machine's own. Elsewhere, where scrapes and probes come from other machines: any address, names
    that nobody can register, and this host's name. Everywhere: `names`, which the settings give.
    """

    def __init__(self, listen: str, names: Iterable[str] = ()) -> None:
        self._loopback = is_loopback(split_address(listen)[0])
        own = [] if self._loopback else [socket.gethostname()]
        self._names = {name.lower() for name in (*names, *own)}

    def knows(self, host: str) -> bool:
        """Tell whether a request with this Host header is meant for us."""
        name = name_in(host)
        return name in self._names or (is_loopback(name) if self._loopback else is_inner(name))
