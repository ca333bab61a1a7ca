"""A small world for the read API, and a reader that asks it in this process, as a browser would over HTTP."""

import asyncio
from collections.abc import Callable
from typing import Any, Self

import httpx
import numpy as np

from pipeline.database import Database
from pipeline.database.pages.pages import open_pages
from pipeline.errors import Unavailable
from pipeline.records import Claim, DeadLetter, Forecasts
from pipeline.settings import Settings
from pipeline.web.server import build_app
from tests.contracts.rows import HOUR, NOW, START, observations, turn_of

MARKUP = "<img src=x onerror=alert(1)>/\"'&%_ é"
NAMES = ("meter-1", "meter-2", "meter-3", MARKUP, "silent")
HOURS = 60  # observed, from START on; hour 50 of meter-1 is an explicit null
ORIGINS = tuple(range(20, 60, 4))  # hours of the forecasts of meter-1, three steps each, the last two by model 2
LETTER = DeadLetter(0, 7, "it is not JSON", b"k\xff", b"<script>" + b"x" * 5000)


def forecast(series_id: int, name: str, hour: int, *, version: int, offset: int, issued: int) -> Forecasts:
    """A forecast of three steps whose median is the hour."""
    quantiles = np.arange(13.0) - 6 + hour
    return Forecasts(
        series=[name],
        series_id=np.array([series_id]),
        origin=np.array([START + HOUR * hour]),
        target_times=(START + HOUR * (hour + np.arange(1, 4)))[None],
        quantiles=np.tile(quantiles, (1, 3, 1)),
        model_version=np.array([version]),
        calibration=np.array([0]),
        quality=["ok"],
        issued_at=np.array([issued]),
        partition=np.array([0]),
        offset=np.array([offset]),
    )


class World:
    """Writes what a worker and the jobs would, and goes on when a test says so."""

    def __init__(self, database: Database) -> None:
        self.database = database
        database.registry.describe_baseline({}, season=24, step_seconds=3600.0)
        self.store = database.store("observations", "last", lambda: NOW)
        self.claim = self.store.claim(0, "worker-0")
        self.ids = dict(zip(NAMES, self.store.recent(NAMES, 1).series_id.tolist(), strict=True))
        for version in (1, 2):
            metrics = {"mase": 0.9, "wql": None, "verdict": f"gain {version} % on 4 origins"}
            self.database.registry.register(
                name="gru",
                config={},
                metrics=metrics,
                train_from=START,
                train_to=NOW,
                seed=3,
                code="0.1.0",
                artifact=b"x",
                now=NOW + version,
            )
            database.registry.promote(version, expected=version - 1 or None, reason="better", now=NOW + version)
        cells = [(self.ids[name], hour, float(hour)) for name in NAMES[:-1] for hour in range(HOURS)]
        self.observe(*(cell if cell[:2] != (self.ids["meter-1"], 50) else (*cell[:2], None) for cell in cells))
        for hour in ORIGINS:
            self.forecast("meter-1", hour, version=2 if hour > 50 else 1)
        self.forecast("meter-1", ORIGINS[0], version=2)
        self.forecast(MARKUP, 40)
        self.turn(dead_letters=(LETTER, DeadLetter(0, 9, "no key", None, None)))
        for number, outcome in enumerate(("ok", "failed", "ok")):
            run = database.ledger.begin("monitor", START + HOUR * number, "scheduler", NOW)
            assert run is not None
            database.ledger.finish(run, outcome, "summed up", NOW + 2_000_000)  # type: ignore[arg-type]
        running = database.ledger.begin("retrain", START, "scheduler", NOW)
        assert running is not None
        database.ledger.heartbeat(running, NOW + 1, {"name": "fit", "done": 3, "total": 9, "words": "loss 0.1"})
        database.ledger.pause("retention", "me", "a test", NOW)
        list(database.evaluations.refresh(NOW, margin=60.0, group=None))

    def turn(self, **parts: Any) -> None:
        """Store one turn of one message."""
        stop = self.claim.next_offset + 1
        self.store.commit(turn_of(self.claim, stop, **parts))
        self.claim = Claim(0, self.claim.epoch, stop)

    def observe(self, *cells: tuple[int, int, float | None], fresh: bool = True) -> None:
        """Store observations (series_id, hour, value)."""
        rows = [(own, START + HOUR * hour, value, int(value is not None), 0, fresh) for own, hour, value in cells]
        self.turn(observations=observations(rows))

    def forecast(self, name: str, hour: int, version: int = 1) -> None:
        """Store a forecast."""
        made = forecast(
            self.ids[name], name, hour, version=version, offset=self.claim.next_offset, issued=NOW + HOUR * hour
        )
        self.turn(forecasts=made)


def no_broker() -> dict[int, int]:
    """A broker that is away."""
    raise Unavailable("Kafka does not answer")


class Visitor:
    """Asks the application in this process, on one event loop; everything is closed with the block."""

    def __init__(
        self, url: str, *, read_ends: Callable[[], dict[int, int]] = no_broker, clock: int = NOW, **serve: Any
    ) -> None:
        self.settings = Settings(serve=serve, series={"horizon": 3})  # type: ignore[arg-type]
        self.pages = open_pages(url, connections=2, timeout=self.settings.serve.query_timeout)
        self.app, self.feed = build_app(self.settings, self.pages, clock=lambda: clock, read_ends=read_ends)
        self.loop = asyncio.Runner()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.close()
        self.pages.close()

    def ask(
        self, path: str, *, method: str = "GET", headers: dict[str, str] | None = None, **params: Any
    ) -> httpx.Response:
        """Send one request to 127.0.0.1 and return the whole answer; a parameter may end in _ to be no keyword."""
        given = {name.removesuffix("_"): str(value) for name, value in params.items()}

        async def call() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8321") as client:
                return await client.request(method, path, params=given, headers=headers)

        return self.loop.run(call())

    def read(self, path: str, **params: Any) -> Any:
        """Return the JSON of an answer that must be good."""
        answer = self.ask(path, **params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def error(self, path: str, **params: Any) -> tuple[int, dict[str, Any]]:
        """Return status and body of an answer that must be a refusal."""
        answer = self.ask(path, **params)
        return answer.status_code, answer.json()["error"]
