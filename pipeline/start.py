"""What every process that stays has: a clock, the settings' database, and an end when it is told to.

Nothing here needs torch, which takes seconds of CPU and half a gigabyte of memory to import.
"""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from pipeline import database as databases
from pipeline.database import Binding, Database
from pipeline.database.engine import Guard, unguarded
from pipeline.errors import Unavailable
from pipeline.formats.opened import open_decoder
from pipeline.grid.frequency import Frequency
from pipeline.messages.decoder import Decoder
from pipeline.registry.client import RegistryClient
from pipeline.registry.schemas import RegistrySchemas
from pipeline.settings import Settings

log = structlog.get_logger()


def clock() -> int:
    """Read the processing time: microseconds since 1970 in UTC."""
    return time.time_ns() // 1000


def timer() -> int:
    """Read microseconds that nobody sets, for pauses: a clock that is moved must not make them longer."""
    return time.monotonic_ns() // 1000


def open_database(settings: Settings, guard: Guard = unguarded) -> Database:
    """Open the settings' database, every transaction under `guard`; ConfigError if its rows are on another grid."""
    url, timeout = settings.database.url.get_secret_value(), settings.database.timeout
    database = databases.open_database(url, timeout=timeout, guard=guard)
    try:
        database.pipelines.check_frequency(Frequency.of(settings.series).canonical, settings.series.phase)
    except BaseException:
        database.close()
        raise
    return database


def decoder_of(settings: Settings) -> Decoder:
    """Make the decoder of input messages, which asks the schema registry if there is one."""
    if not settings.registry.url:
        return open_decoder(settings.input)
    client = RegistryClient(settings.registry, timer)
    return open_decoder(settings.input, RegistrySchemas(client, timer, serialized=settings.input.format == "protobuf"))


def binding_of(settings: Settings) -> Binding:
    """Say which deployment these settings are of."""
    kafka = settings.kafka
    grid, phase = Frequency.of(settings.series).canonical, settings.series.phase
    return Binding(kafka.group, kafka.input_topic, kafka.output_topic, kafka.dead_letter_topic, grid, phase)


@contextmanager
def ending_well(stopping: Callable[[], bool]) -> Iterator[None]:
    """Forgive what was waited for and did not come, once the process has been told to end."""
    try:
        yield
    except Unavailable as error:
        if not stopping():
            raise
        log.info("stopped while it started", waiting_for=str(error))


def stop_signal() -> Callable[[], bool]:
    """Catch SIGTERM and SIGINT and return a function that tells whether one came."""
    caught: list[int] = []

    def catch(number: int, frame: object) -> None:
        caught.append(number)

    signal.signal(signal.SIGTERM, catch)
    signal.signal(signal.SIGINT, catch)
    return lambda: bool(caught)
