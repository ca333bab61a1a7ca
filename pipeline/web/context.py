"""What the routes work with, put together once."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from models.config import QUANTILE_LEVELS
from pipeline.database.pages import Pages
from pipeline.errors import TidecastError
from pipeline.grid import Frequency
from pipeline.settings import Settings
from pipeline.web.answers import Status
from pipeline.web.desk import Away, Desk

STATUS_SECONDS = 2.0
ENDS_SECONDS = 5.0
ENDS_PATIENCE = 4.0
"""Seconds that a broker may take to say where its partitions end."""


@dataclass(frozen=True, slots=True)
class Context:
    """Settings, and the database behind its desk.

    `read_ends` asks the broker for the end offset of each partition of the input topic.
    """

    settings: Settings
    pages: Pages
    desk: Desk
    read_ends: Callable[[], dict[int, int]]
    frequency: Frequency
    ends: "Ends" = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ends", Ends(self.desk, self.read_ends))

    def targets(self, origin: int) -> Sequence[int]:
        """List the target times after an origin that the settings' horizon has, and one more."""
        one = np.array([origin])
        if not self.frequency.holds(one).all():
            return []
        steps = int(self.frequency.step_of(one)[0]) + np.arange(1, self.settings.series.horizon + 2)
        times: list[int] = self.frequency.time_of(steps).tolist()
        return times

    async def status(self) -> Status:
        """Say how the service is; also when the database is away."""
        read = partial(self.pages.status, self.settings.kafka.input_topic)
        try:
            found = await self.desk.remembered("status", STATUS_SECONDS, read)
        except Away as error:
            nothing = dict.fromkeys(("champion", "observations_newest_at", "forecasts_newest_issued_at", "stored_at"))
            found = {**nothing, "series": 0, "database": "away", "since": error.since}
        own = self.settings.series
        return Status.model_validate(
            {
                "version": installed_version(),
                "topic": self.settings.kafka.input_topic,
                "frequency": self.frequency.text,
                "season": own.season or self.frequency.season,
                "horizon": own.horizon,
                "quantile_levels": list(QUANTILE_LEVELS),
                "database": "ok",
                **found,
            }
        )


class Ends:
    """End offsets of the input topic, asked for at most every few seconds, never waited for long."""

    def __init__(self, desk: Desk, read: Callable[[], dict[int, int]]) -> None:
        self._desk = desk
        self._read = read
        self._lock = asyncio.Lock()
        self._found: tuple[float, dict[int, int], str | None] = (0.0, {}, None)

    async def find(self) -> tuple[dict[int, int], str | None]:
        """Return the end offsets by partition, and why there are none."""
        async with self._lock:
            now = asyncio.get_running_loop().time()
            if now >= self._found[0]:
                ends: dict[int, int] = {}
                why = None
                try:
                    ends = await self._desk.within(ENDS_PATIENCE, self._read)
                except TimeoutError:
                    why = f"the broker did not answer within {ENDS_PATIENCE:g} s"
                except TidecastError as error:
                    why = str(error)
                self._found = asyncio.get_running_loop().time() + ENDS_SECONDS, ends, why
            return self._found[1], self._found[2]


def installed_version() -> str:
    """Name the release that runs."""
    try:
        return version("tidecast")
    except PackageNotFoundError:
        return "not installed"
