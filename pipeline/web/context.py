"""What the routes work with, put together once."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from models.config import QUANTILE_LEVELS
from pipeline.database.pages.awaited import read_awaited
from pipeline.database.pages.pages import Pages
from pipeline.errors import TidecastError
from pipeline.grid.frequency import Frequency
from pipeline.settings import Settings
from pipeline.version import installed_version
from pipeline.web.documents import Answer, At
from pipeline.web.query_queue import Away, QueryQueue

STATUS_SECONDS = 2.0
AWAITED_SECONDS = 10.0
ENDS_SECONDS = 5.0
ENDS_PATIENCE = 4.0
"""Seconds that a broker may take to say where its partitions end."""


class Champion(Answer):
    """The model in use, and since when."""

    version: int
    name: str
    kind: str | None
    promoted_at: At | None


class Status(Answer):
    """The whole service at a glance; `since` says when the database went away, if it is.

    Without a champion seasonal naive serves, version 0. `awaited` says in words what comes next: the first retraining,
    or forecasts of every series by a new champion.
    """

    version: str
    topic: str
    frequency: str
    season: int
    horizon: int
    quantile_levels: list[float]
    database: Literal["ok", "away"]
    since: At | None = None
    champion: Champion | None
    awaited: list[str]
    series: int
    observations_newest_at: At | None
    forecasts_newest_issued_at: At | None
    stored_at: At | None


@dataclass(frozen=True, slots=True)
class Context:
    """Settings, and the database behind its query queue.

    `read_ends` asks the broker for the end offset of each partition of the input topic; `clock` returns microseconds
    UTC.
    """

    settings: Settings
    pages: Pages
    queries: QueryQueue
    read_ends: Callable[[], dict[int, int]]
    clock: Callable[[], int]
    ends: "Ends" = field(init=False)
    frequency: Frequency = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ends", Ends(self.queries, self.read_ends))
        object.__setattr__(self, "frequency", Frequency.of(self.settings.series))

    async def status(self) -> Status:
        """Say how the service is; also when the database is away."""
        read = partial(self.pages.status, self.settings.kafka.input_topic)
        look = partial(self.pages.ask, read_awaited, self.settings, self.clock())
        try:
            found = await self.queries.remembered("status", STATUS_SECONDS, read)
            found = found | {"awaited": await self.queries.remembered("awaited", AWAITED_SECONDS, look)}
        except Away as error:
            nothing = dict.fromkeys(("champion", "observations_newest_at", "forecasts_newest_issued_at", "stored_at"))
            found = {**nothing, "series": 0, "awaited": [], "database": "away", "since": error.since}
        own, frequency = self.settings.series, self.frequency
        return Status.model_validate(
            {
                "version": installed_version(),
                "topic": self.settings.kafka.input_topic,
                "frequency": frequency.text,
                "season": own.season or frequency.season,
                "horizon": own.horizon,
                "quantile_levels": list(QUANTILE_LEVELS),
                "database": "ok",
                **found,
            }
        )


class Ends:
    """End offsets of the input topic, requested at most every few seconds, never waited for long."""

    def __init__(self, queries: QueryQueue, read: Callable[[], dict[int, int]]) -> None:
        self._queries = queries
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
                    ends = await self._queries.within(ENDS_PATIENCE, self._read)
                except TimeoutError:
                    why = f"the broker did not answer within {ENDS_PATIENCE:g} s"
                except TidecastError as error:
                    why = str(error)
                self._found = asyncio.get_running_loop().time() + ENDS_SECONDS, ends, why
            return self._found[1], self._found[2]
