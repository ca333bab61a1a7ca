"""Who must act when something is wrong.

TidecastError
├── ConfigError    the operator: settings, topics or schema do not fit; exit 2, never retried
├── Unavailable    nobody: a broker, database or registry is away; back off and claim again; exit 1 from a command
│   └── TooSlow    who asked: a query of the read API was stopped at its time limit; ask for less
├── Unloadable     the operator: a registered model is broken; roll back. The worker goes on without it
├── Refused        nobody: a topic does not take some messages; note them, leave them out, publish the rest
├── Regridded      nobody: the grid's phase was found; the worker is built again with it
├── TooFew         nobody: too few events have arrived to find the grid's phase; wait a moment for more
├── Fenced         nobody: another worker owns the partition now; forget it and go on
├── Replaced       nobody, or the operator: another process runs under this worker's name; exit 1
└── Corrupt        the developers: an invariant broke; exit 1

Every message is one line that says what to do.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.records import Left


class TidecastError(Exception):
    """An error whose message is meant for a person; `exit_code` is what a command ends with."""

    exit_code = 1


class ConfigError(TidecastError):
    """The configuration cannot work; retrying will not help."""

    exit_code = 2


class Service(StrEnum):
    """What may be away."""

    BROKER = "broker"
    DATABASE = "database"
    REGISTRY = "registry"
    OTHER = "other"


class Unavailable(TidecastError):
    """A service outside this process is away or did not answer in time; whoever asked it knows which."""

    def __init__(self, line: str, service: Service = Service.OTHER) -> None:
        super().__init__(line)
        self.service = service


class TooSlow(Unavailable):
    """A query took longer than it may, and was stopped."""


class Unloadable(TidecastError):
    """A registered model is missing, was changed, or cannot be built, whatever the settings say."""


class Refused(TidecastError):
    """Some messages of a publication will never be taken; nothing was published. `left` are they, at least one."""

    def __init__(self, left: "Sequence[Left]") -> None:
        first = left[0]
        super().__init__(f"{len(left)} messages were refused, first {first.message} by {first.topic}: {first.reason}")
        self.left = left


class Regridded(TidecastError):
    """The grid has another phase than this worker was built for."""


class TooFew(TidecastError):
    """The events so far do not tell the grid's phase yet, and more may arrive at once."""


class Fenced(TidecastError):
    """The partition's epoch has moved on: another worker claimed it."""


class Replaced(TidecastError):
    """Another process has joined the group under this worker's instance name; this one must end."""


class Corrupt(TidecastError):
    """An invariant of ours does not hold; going on would make it worse."""
