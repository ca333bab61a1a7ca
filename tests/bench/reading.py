"""What reading costs at size: documented queries, the monitor's hour and the page's routes, on SQLite and PostgreSQL.

A database of hourly series with a forecast of 48 steps each hour is made first, as a worker stores it, and analysed.
Then each query runs three times and the best counts: what is measured is the work, not the first look at the disk.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from alembic import command
from sqlalchemy import Engine, MetaData, text

from pipeline import database as databases
from pipeline.database import Database
from pipeline.database.engine import connect, writing
from pipeline.database.packing import FORECASTS
from pipeline.database.pages import models as model_pages
from pipeline.database.pages import series as series_pages
from pipeline.database.schema.migrate import configured
from pipeline.database.schema.pipelines import MAIN
from pipeline.database.schema.tables import pipelines, series, topics
from pipeline.database.turns.dialects import rows_of
from pipeline.database.turns.rows import enter_steps
from pipeline.quantiles import shorten
from pipeline.records import Forecasts, Observations
from pipeline.settings import Settings
from pipeline.start import open_database
from tests.bench.results import Figure, Report, say
from tests.bench.stage import DurablePostgreSQL

HOUR, HORIZON, SEASON = 3_600_000_000, 48, 24
START = 1_760_000_400_000_000 // HOUR * HOUR
RUNS = 3
QUERIES = {
    "current forecast of one series": "SELECT * FROM current_forecast WHERE series = 'meter-17' ORDER BY step",
    "latest forecasts of one series": (
        "SELECT target_time, q50 FROM latest_forecasts WHERE series = 'meter-17' ORDER BY target_time DESC LIMIT 72"
    ),
    "as of, one series": (
        "SELECT f.* FROM (SELECT h.series_id, h.origin, h.model_version FROM forecasts h"
        " JOIN series s ON s.series_id = h.series_id WHERE s.name = 'meter-17' AND h.step = 1"
        " AND h.issued_at <= '{middle}' ORDER BY h.origin DESC, h.issued_at DESC, h.model_version DESC LIMIT 1) newest"
        " JOIN forecasts f USING (series_id, origin, model_version) ORDER BY f.step"
    ),
    "one target of one series": (
        "SELECT f.origin, f.q50 FROM forecasts f JOIN series s ON s.series_id = f.series_id"
        " WHERE s.name = 'meter-17' AND f.target_time = '{middle}'"
    ),
    "judged steps of one series": (
        "SELECT AVG(pinball), AVG(inside_80) FROM forecast_vs_actual WHERE series = 'meter-17'"
    ),
    "the next day of all series": "SELECT series, target_time, q50 FROM current_forecast WHERE step <= 24",
    "twenty silent series": "SELECT series, last_observed_at FROM series_health ORDER BY last_observed_at LIMIT 20",
    "health of all series": "SELECT * FROM series_health",
}
FORMER = 100, 168  # series and origins of the database of an earlier release


@dataclass(frozen=True, slots=True)
class Size:
    """Series, and hourly forecasts of each."""

    series: int
    origins: int

    def spelled(self) -> str:
        """Say it."""
        return f"{self.series:,} hourly series, {self.origins} forecasts of {HORIZON} steps and observations each"


def run(size: Size, kinds: tuple[str, ...]) -> Path:
    """Measure, and return the file of figures."""
    report = Report("reading")
    with TemporaryDirectory(prefix="tidecast-reading-") as scratch, DurablePostgreSQL() as server:
        for kind in kinds:
            url = f"sqlite:///{scratch}/tidecast.db" if kind == "sqlite" else server.fresh_database()
            say(f"{kind}: storing {size.spelled()}")
            databases.upgrade(url)
            database = open_database(Settings(database={"url": url}))  # type: ignore[arg-type]
            try:
                fill(database.engine, size)
                for name, seconds in measure(database, size):
                    say(f"{kind}: {name}: {1000 * seconds:,.1f} ms")
                    report.write(
                        Figure(
                            bench=f"reading/{name}",
                            impl=f"tidecast, {kind}",
                            value=round(1000 * seconds, 2),
                            unit="ms",
                            protocol=f"{size.spelled()}; the best of {RUNS} runs, the monitor's of one",
                            runs=[round(1000 * seconds, 2)],
                        )
                    )
            finally:
                database.close()
            former = f"sqlite:///{scratch}/former.db" if kind == "sqlite" else server.fresh_database()
            steps = make_former(former)
            began = time.perf_counter()
            databases.upgrade(former)
            spent = (time.perf_counter() - began) / steps * 1e6
            say(f"{kind}: upgrade: {spent:.1f} s for a million steps of an earlier release")
            report.write(
                Figure(
                    bench="reading/upgrade",
                    impl=f"tidecast, {kind}",
                    value=round(spent, 2),
                    unit="s for a million steps",
                    protocol=f"{FORMER[0]} series, {FORMER[1]} forecasts of {HORIZON} steps each, a row a step",
                    runs=[round(spent, 2)],
                )
            )
    return report.path


def fill(engine: Engine, size: Size) -> None:
    """Store the forecasts and observations of an hour at a time, as turns do."""
    random, rows, count = np.random.default_rng(0), rows_of(engine), size.series
    own, ones = np.arange(1, count + 1), np.ones(count, np.int64)
    wave = 100 + 30 * np.sin(np.arange(size.origins + HORIZON + 1) / SEASON * 2 * np.pi)
    with writing(engine) as connection:
        enter_steps(connection, HORIZON)
        connection.execute(text(f"UPDATE models SET season = {SEASON}, step_seconds = 3600 WHERE version = 0"))
        connection.execute(topics.insert(), [{"topic": "readings"}])
        named = {"consumer_group": "g", "input_topic": "readings", "output_topic": "f", "dead_letter_topic": "d"}
        grid = {"name": MAIN, "frequency": "3600s", "phase": 0, "created_at": START}
        connection.execute(pipelines.insert().values(grid | named))
        names = [{"name": f"meter-{number}", "first_seen": START, "metadata": {}} for number in range(count)]
        connection.execute(series.insert(), names)
    spread = np.sqrt(1 + np.arange(HORIZON) / 9)[None, :, None]
    for hour in range(size.origins):
        at = START + hour * HOUR
        drawn = np.sort(random.normal(0, 3, (count, HORIZON, 13)), axis=-1)
        made = Forecasts(
            series=[""] * count,
            series_id=own,
            origin=np.full(count, at),
            target_times=np.tile(at + HOUR * np.arange(1, HORIZON + 1), (count, 1)),
            quantiles=shorten(wave[hour + 1 : hour + 1 + HORIZON][None, :, None] + drawn * spread),
            model_version=0 * ones,
            calibration=0 * ones,
            quality=["ok"] * count,
            issued_at=np.full(count, at + 1_234_567),
            partition=own % 8,
            offset=hour * count + own,
        )
        seen = Observations(
            series_id=own,
            observed_at=np.full(count, at),
            value=wave[hour] + random.normal(0, 3, count).round(3),
            observed=ones.astype(np.bool_),
            events=ones,
            partition=own % 8,
            offset=hour * count + own,
            fresh=ones.astype(np.bool_),
            covariates=np.empty((count, 0)),
            covariate_events=np.empty((count, 0), np.int64),
        )
        with writing(engine) as connection:
            rows.insert_forecasts(connection, made, 1)
            rows.insert_observations(connection, seen, 1, at + 2_000_000)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE" if engine.dialect.name == "sqlite" else "VACUUM ANALYZE"))


def measure(database: Database, size: Size) -> list[tuple[str, float]]:
    """Return the seconds of each query, of the page's reliability and of the monitor's hour."""
    middle = str(np.datetime64(START + size.origins // 2 * HOUR, "us").astype("datetime64[s]")).replace("T", " ")
    found = []
    with database.engine.connect() as connection:
        for name, query in QUERIES.items():
            sql = text(query.replace("{middle}", middle))
            found.append((name, best(lambda sql=sql: connection.execute(sql).fetchall())))  # type: ignore[misc]
        last = START + size.origins * HOUR
        chosen = model_pages.spread_series(connection)
        found.append(
            (
                "reliability of the page, 7 days",
                best(lambda: model_pages.count_below(connection, chosen, last - 168 * HOUR, last, None)),
            )
        )
        wanted = series_pages.Wanted()
        found.append(("a forecast of the page", best(lambda: series_pages.find_forecast(connection, 18, wanted))))
    now = START + size.origins * HOUR
    list(database.evaluations.refresh(now, margin=600.0, group=None))
    take_back_an_hour(database, size)
    began = time.process_time()
    list(database.evaluations.refresh(now + 600_000_000, margin=600.0, group=None))
    return [*found, ("the monitor's hour, CPU of the job", time.process_time() - began)]


def take_back_an_hour(database: Database, size: Size) -> None:
    """Let the monitor's marks be those of an hour ago."""
    with writing(database.engine) as connection:
        stored = connection.execute(text("SELECT state FROM job_states WHERE name = 'monitor'")).scalar_one()
        state = stored if isinstance(stored, dict) else json.loads(stored)
        state["since"] = START + (size.origins - 1) * HOUR
        state["offsets"] = dict.fromkeys(state["offsets"], (size.origins - 1) * size.series + 1)
        connection.execute(
            text("UPDATE job_states SET state = :state WHERE name = 'monitor'"), {"state": json.dumps(state)}
        )


def best(ask: Callable[[], Any]) -> float:
    """Return the seconds of the fastest of some runs."""
    seconds = []
    for _ in range(RUNS):
        began = time.perf_counter()
        ask()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def make_former(url: str) -> int:
    """Make a database of the schema before 0012, and return the steps of forecasts in it."""
    engine = connect(url, timeout=60)
    random = np.random.default_rng(1)
    names = [column.name for column in FORECASTS.columns]
    former = FORECASTS.to_metadata(MetaData(), name="forecasts")
    with writing(engine) as connection:
        command.upgrade(configured(connection), "0011")
        for own in range(1, FORMER[0] + 1):
            middle = 100 + random.normal(0, 3, (FORMER[1], HORIZON, 1))
            numbers = np.sort(middle + random.normal(0, 5, (FORMER[1], HORIZON, 13)), axis=-1).round(7)
            rows = [
                dict(
                    zip(
                        names,
                        (
                            own,
                            START + origin * HOUR,
                            step + 1,
                            START + (origin + step + 1) * HOUR,
                            0,
                            START + origin * HOUR,
                            *numbers[origin, step].tolist(),
                            "ok",
                            1,
                            0,
                            origin,
                            0,
                        ),
                        strict=True,
                    )
                )
                for origin in range(FORMER[1])
                for step in range(HORIZON)
            ]
            connection.execute(former.insert(), rows)
    engine.dispose()
    return FORMER[0] * FORMER[1] * HORIZON
