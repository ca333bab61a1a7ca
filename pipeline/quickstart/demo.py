"""The demo: a broker, a database and a worker on this machine; real series replayed; forecasts and actuals.

1 start    broker on a free port, empty directory, `tidecast stream` as a child process
2 ingest   every series up to 49 hours before its end
3 train    the job `retrain`, as `tidecast job run retrain` does it
4 stream   the last 49 hours, hour by hour: each hour is sent when the one before is in SQL
5 result   the job `monitor`, and the forecasts issued 48 hours before each series' end, against the actuals
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd

from models.config import QUANTILE_NAMES
from pipeline.database import Database, open_database, upgrade
from pipeline.errors import Corrupt, Unavailable
from pipeline.kafka.topics import check_topics, read_topic, send
from pipeline.quickstart.broker import DevelopmentBroker
from pipeline.quickstart.demo_directory import DATABASE, LOG, PAGE_LOG, Service, prepared, write_settings
from pipeline.quickstart.demo_series import HORIZON, Figures, Issued, load, measure
from pipeline.quickstart.produce import messages
from pipeline.settings import Settings
from pipeline.settings.address import check_free, listen
from pipeline.settings.sources import load as load_settings

PATIENCE = 60.0  # seconds without any progress before the demo gives up
SWAP_SECONDS = 60.0  # a worker looks for a new champion every 2 s; a loaded machine may take longer
LOOK_SECONDS = 0.02
FIXED = ("series.frequency=1h", f"series.horizon={HORIZON}")  # what the comparison assumes
ISSUED = f"""
SELECT f.step, f.model_version, {", ".join(f"f.{name}" for name in QUANTILE_NAMES)}
FROM forecasts f JOIN series s ON s.series_id = f.series_id
WHERE s.name = :series AND f.origin = :origin
ORDER BY f.step
"""

Job = Callable[[Settings, Database], str]
Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


@dataclass(frozen=True, slots=True)
class Screen:
    """Where the demo shows itself: headed sections, lines under them, progress of long steps."""

    section: Callable[[str, str], None]
    line: Callable[[str], None]
    progress: Progress


@dataclass(frozen=True, slots=True)
class Summary:
    """What the demo counted and measured; all of `--json`."""

    events: int
    observations: int
    forecasts_in_sql: int
    messages_on_topic: int
    mase: float
    mase_zero_shot: float
    mase_seasonal_naive: float
    coverage_80: float
    coverage_80_zero_shot: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Running:
    """A demo whose broker and worker are alive."""

    directory: Path
    settings_file: Path
    settings: Settings
    database: Database
    worker: Service
    table: pd.DataFrame
    page: str | None

    @property
    def series(self) -> int:
        """How many series there are."""
        return int(self.table["series_id"].nunique())

    def count(self, query: str) -> int:
        """Run a query for one number."""
        (row,) = self.database.reader.query(query)
        (number,) = row.values()
        return int(number)


@contextmanager
def started(directory: Path, series: int, sets: Sequence[str], screen: Screen, *, with_page: bool) -> Iterator[Running]:
    """1 start: everything ends with the block."""
    table = load(series)
    with prepared(directory), DevelopmentBroker() as broker:
        file = write_settings(directory, broker.bootstrap_servers)
        url = f"sqlite:///{(directory / DATABASE).absolute()}"
        own = [f"kafka.bootstrap_servers={broker.bootstrap_servers}", f"database.url={url}", *FIXED]
        settings = load_settings(file, [*sets, *own])
        listening = page_address(settings) if with_page else None
        upgrade(url)
        check_topics(settings.kafka)
        database = open_database(url, timeout=settings.database.timeout)
        arguments = ["--config", str(file)]
        for text in [*sets, *own]:
            arguments += ["--set", text]
        worker = Service(directory, arguments)
        serving = ["--set", f"serve.listen={listening}"]
        page = Service(directory, [*arguments, *serving], "serve", PAGE_LOG) if listening else None
        try:
            screen.section("Start", f"{series} series of M4-Hourly (CC BY 4.0), real data; nothing leaves this machine")
            screen.line(f"broker    {broker.bootstrap_servers}  (Kafka protocol, for development)")
            screen.line(f"database  {directory / DATABASE}")
            screen.line(f"worker    tidecast stream, process {worker.pid}")
            if listening:
                screen.line(f"page      http://{listening}/  (read only)")
            yield Running(directory, file, settings, database, worker, table, listening and f"http://{listening}/")
        finally:
            worker.end()
            if page is not None:
                page.end()
            database.close()


def page_address(settings: Settings) -> str | None:
    """Choose where the page listens: at serve.listen, or at a free port if another program does; None for no page."""
    if settings.serve.listen is None or find_spec("fastapi") is None or find_spec("uvicorn") is None:
        return None
    host = settings.serve.listen.rpartition(":")[0]
    try:
        check_free(settings.serve.listen, "serve.listen")
    except Unavailable:
        with listen(f"{host}:0", "serve.listen") as free:
            return f"{host}:{free.getsockname()[1]}"
    return settings.serve.listen


def ingest(running: Running, screen: Screen) -> None:
    """2 ingest: send all but the last 49 hours of every series, and wait until they are in SQL."""
    began = time.monotonic()
    table = running.table[running.table["left"] > HORIZON]
    with screen.progress("events to SQL", len(table)) as advance:
        produce(running, table)
        await_observations(running, len(table), advance)
    seconds = time.monotonic() - began
    screen.section("Ingest", f"{len(table):,} events are rows in SQL after {seconds:.1f} s")
    forecast = running.count("SELECT COUNT(DISTINCT series_id) FROM forecasts WHERE model_version > 0")
    if forecast:
        screen.line(f"{forecast} series have forecasts already, by the pretrained network: nothing is trained yet")


def train(running: Running, job: Job, screen: Screen) -> None:
    """3 train: run the job, which returns its reason, and wait until the worker uses the new champion."""
    began = time.monotonic()
    reason = job(running.settings, running.database)
    screen.section("Train", f"tidecast job run retrain took {time.monotonic() - began:.1f} s")
    screen.line(reason)
    deadline = time.monotonic() + SWAP_SECONDS
    while (champion := running.database.registry.champion()) is not None:
        if running.worker.said('"champion in use"', f'"version": {champion},'):
            return
        running.worker.check()
        if time.monotonic() > deadline:
            raise Unavailable(f"the worker does not take the new champion; see {running.directory / LOG}")
        time.sleep(LOOK_SECONDS)


def stream(running: Running, screen: Screen) -> None:
    """4 stream: send one hour of every series at a time; the forecasts of the first are the ones that are scored."""
    began = time.monotonic()
    stored = int((running.table["left"] > HORIZON).sum())
    waits = []
    with screen.progress("hours", HORIZON + 1) as advance:
        for left in range(HORIZON, -1, -1):
            hour = running.table[running.table["left"] == left]
            sent = time.monotonic()
            produce(running, hour)
            stored += len(hour)
            await_observations(running, stored)
            waits.append(time.monotonic() - sent)
            advance(1)
    seconds, slowest = time.monotonic() - began, max(waits)
    screen.section("Stream", f"the last {HORIZON + 1} hours, one at a time, in {seconds:.1f} s")
    screen.line(
        f"an hour's {running.series} events to {running.series} new forecasts in SQL: "
        f"{statistics.median(waits):.2f} s at the median, {slowest:.2f} s at most"
    )


def evaluate(running: Running, job: Job) -> None:
    """5 result: sum up what has matured, which the leaderboard reads."""
    job(running.settings, running.database)


def summarize(running: Running, began: float) -> tuple[Summary, Issued]:
    """5 result: count what arrived on both sides, and score the forecasts that were issued at the cut."""
    forecasts = running.count("SELECT COUNT(*) FROM forecasts WHERE step = 1")
    on_topic = await_messages(running, forecasts)
    issued = read_issued(running)
    figures: Figures = measure(running.table, issued, context=running.settings.series.context)
    summary = Summary(
        events=len(running.table),
        observations=running.count("SELECT COUNT(*) FROM observations"),
        forecasts_in_sql=forecasts,
        messages_on_topic=on_topic,
        mase=round(figures.mase, 4),
        mase_zero_shot=round(figures.mase_zero_shot, 4),
        mase_seasonal_naive=round(figures.mase_seasonal_naive, 4),
        coverage_80=round(figures.coverage_80, 4),
        coverage_80_zero_shot=round(figures.coverage_80_zero_shot, 4),
        seconds=round(time.monotonic() - began, 1),
    )
    return summary, issued


def produce(running: Running, table: pd.DataFrame) -> None:
    """Send rows to the input topic."""
    kafka = running.settings.kafka
    send(kafka, kafka.input_topic, messages(table, running.settings.input))


def await_observations(running: Running, expected: int, advance: Callable[[int], None] = lambda _: None) -> None:
    """Wait until so many observations are in SQL."""
    seen, moved = 0, time.monotonic()
    while True:
        count = running.count("SELECT COUNT(*) FROM observations")
        if count > seen:
            advance(count - seen)
            seen, moved = count, time.monotonic()
        if count >= expected:
            return
        running.worker.check()
        if time.monotonic() - moved > PATIENCE:
            raise Unavailable(
                f"the worker has stored {count} of {expected} observations and goes on no more; "
                f"see {running.directory / LOG}"
            )
        time.sleep(LOOK_SECONDS)


def await_messages(running: Running, expected: int) -> int:
    """Count the committed messages on the output topic; the last transaction may still be on its way."""
    deadline = time.monotonic() + PATIENCE
    while True:
        kafka = running.settings.kafka
        count = sum(1 for _ in read_topic(kafka, kafka.output_topic))
        if count >= expected or time.monotonic() > deadline:
            return count
        time.sleep(0.5)


def read_issued(running: Running) -> Issued:
    """Read the forecasts whose origin is 48 hours before their series' end."""
    cuts = running.table[running.table["left"] == HORIZON].set_index("series_id")["timestamp"]
    quantiles, versions = [], []
    for name, cut in cuts.items():
        rows = running.database.reader.query(ISSUED, {"series": name, "origin": f"{cut:%Y-%m-%d %H:%M:%S}"})
        if len(rows) != HORIZON:
            raise Corrupt(f"series {name} has {len(rows)} forecast steps from {cut}, not {HORIZON}")
        quantiles.append([[row[column] for column in QUANTILE_NAMES] for row in rows])
        versions.append(rows[0]["model_version"])
    return Issued(tuple(cuts.index), np.array(quantiles), np.array(versions, np.int64))
