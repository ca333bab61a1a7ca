"""Open what a command reads, and close it again."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.database import Database
    from pipeline.settings import Settings


@contextmanager
def opened(settings: "Settings") -> Iterator["Database"]:
    """Open the database of the settings for the length of a block."""
    from pipeline.database import open_database

    database = open_database(settings.database.url.get_secret_value(), timeout=settings.database.timeout)
    try:
        yield database
    finally:
        database.close()


def now() -> int:
    """Read the clock: microseconds UTC."""
    return time.time_ns() // 1000
