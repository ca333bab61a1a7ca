"""Bytes on disk: of an observation, of a forecast of 48 steps, of a model, on SQLite and PostgreSQL."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from sqlalchemy import text

from models.artifact import pack
from models.network.forecasters import build
from pipeline import database as databases
from pipeline.database import Database
from pipeline.forecasting.windows import model_config
from pipeline.grid.frequency import Frequency
from pipeline.quantiles import shorten
from pipeline.records import Advance, Forecasts, Observations, Turn, no_forecasts, no_observations
from pipeline.settings import Settings
from pipeline.start import clock, open_database
from tests.bench.results import Figure, Report, say
from tests.bench.stage import DurablePostgreSQL

SERIES, STEPS, ROUNDS = 500, 720, 20
HOUR = 3_600_000_000
START = 1_760_000_400_000_000 // HOUR * HOUR
PAGES = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
RELATIONS = "SELECT sum(pg_total_relation_size(relid)) FROM pg_stat_user_tables"
PROTOCOL = (
    f"{SERIES} hourly series; {STEPS} observations each, stored {SERIES} rows a turn in the order of time; then "
    f"{ROUNDS} forecasts of 48 steps each, a turn for each origin; growth of the database, indexes included, after a "
    "checkpoint (SQLite: file; PostgreSQL: tables and indexes), over the rows; the model is the default network of 500 "
    "series"
)


def run() -> Path:
    """Measure both databases, and return the file of figures."""
    report = Report("sizing")
    artifact = len(_artifact())
    with TemporaryDirectory(prefix="tidecast-sizing-") as scratch, DurablePostgreSQL() as server:
        urls = {"sqlite": f"sqlite:///{scratch}/tidecast.db", "postgresql": server.fresh_database()}
        for kind, url in urls.items():
            databases.upgrade(url)
            database = open_database(Settings(database={"url": url}))  # type: ignore[arg-type]
            try:
                sizes = _measure(database)
            finally:
                database.close()
            say(f"{kind}: {sizes}")
            report.write(
                Figure(
                    bench="sizing/forecast",
                    impl=f"tidecast, {kind}",
                    value=sizes["forecast"],
                    unit="bytes",
                    protocol=PROTOCOL,
                    runs=[sizes["forecast"]],
                    more={"observation_bytes": sizes["observation"], "artifact_bytes": artifact},
                )
            )
    return report.path


def _measure(database: Database) -> dict[str, float]:
    store = database.store("observations", "last", clock)
    claim = store.claim(0, "sizing")
    names = [f"plant-{number % 7}/meter-{number:05d}" for number in range(SERIES)]
    ids = store.recent(names, 1).series_id
    random, offset = np.random.default_rng(0), 0
    sizes = [_size(database)]
    for step in range(STEPS):
        rows = _observations(ids, START + HOUR * step, random, offset)
        store.commit(Turn((Advance(0, claim.epoch, offset, offset + SERIES),), rows, no_forecasts(48), ()))
        offset += SERIES
    sizes.append(_size(database))
    for step in range(ROUNDS):
        rows = _forecasts(names, ids, START + HOUR * (STEPS + step), random, offset)
        store.commit(Turn((Advance(0, claim.epoch, offset, offset + SERIES),), no_observations(), rows, ()))
        offset += SERIES
    sizes.append(_size(database))
    before, filled, full = sizes
    return {"observation": (filled - before) / (SERIES * STEPS), "forecast": (full - filled) / (SERIES * ROUNDS)}


def _observations(ids: np.ndarray, at: int, random: np.random.Generator, offset: int) -> Observations:
    ones = np.ones(SERIES, np.int64)
    return Observations(
        series_id=ids,
        observed_at=np.full(SERIES, at),
        value=random.normal(100.0, 20.0, SERIES).round(3),
        observed=ones.astype(np.bool_),
        events=ones,
        partition=0 * ones,
        offset=offset + np.arange(SERIES),
        fresh=ones.astype(np.bool_),
        covariates=np.empty((SERIES, 0)),
        covariate_events=np.empty((SERIES, 0), np.int64),
    )


def _forecasts(names: list[str], ids: np.ndarray, at: int, random: np.random.Generator, offset: int) -> Forecasts:
    ones = np.ones(SERIES, np.int64)
    return Forecasts(
        series=names,
        series_id=ids,
        origin=np.full(SERIES, at),
        target_times=at + HOUR * np.arange(1, 49) + np.zeros((SERIES, 1), np.int64),
        quantiles=shorten(np.sort(random.normal(100.0, 20.0, (SERIES, 48, 13)), axis=2)),
        model_version=0 * ones,
        calibration=0 * ones,
        quality=["ok"] * SERIES,
        issued_at=np.full(SERIES, at),
        partition=0 * ones,
        offset=offset + np.arange(SERIES),
    )


def _size(database: Database) -> int:
    with database.engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
            return int(connection.execute(text(PAGES)).scalar_one())
        return int(connection.execute(text(RELATIONS)).scalar_one())


def _artifact() -> bytes:
    settings = Settings()
    model = build(model_config(settings, Frequency("1h"), SERIES))
    return pack(model, series=[f"s{number}" for number in range(SERIES)], provenance={"frequency": "1h"})
