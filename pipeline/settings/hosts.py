"""Under which names a server is asked: the check of the Host header against DNS rebinding.

A page elsewhere can let a name of its own point to this machine, and a browser inside then asks us under that name. So
we answer only to names that no stranger can own.
"""

import socket
from collections.abc import Iterable
from ipaddress import ip_address

from pipeline.settings.address import split_address

INNER = ("svc", "cluster.local", "local", "internal", "localhost")
"""Domains that cannot be registered: names of services in a cluster or a network end so."""


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
