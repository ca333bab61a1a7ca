"""The database as the read API sees it: it can only read, and no query takes longer than it may.

Every method is one transaction. It may raise Unavailable, TooSlow or ConfigError.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from difflib import get_close_matches
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine

from pipeline.database.jobs.job_facts import newest_day, sum_accuracy
from pipeline.database.pages import models as model_pages
from pipeline.database.pages import series as series_pages
from pipeline.database.pages import service as service_pages
from pipeline.database.pages.models import Reliability
from pipeline.database.pages.read_only import asking, connect_reading
from pipeline.database.pages.series import Head, Wanted
from pipeline.database.schema.migrate import check, require_file
from pipeline.errors import Unavailable
from pipeline.job_facts import AccuracyFacts

Row = dict[str, Any]
P = ParamSpec("P")
R = TypeVar("R")
DAY = 86_400_000_000  # microseconds


class UnknownSeries(LookupError):
    """No series has this name; `near` are names that look like it."""

    def __init__(self, name: str, near: Sequence[str]) -> None:
        super().__init__(name)
        self.name, self.near = name, tuple(near)


@dataclass(frozen=True, slots=True)
class ForecastRows:
    """A forecast with its actuals: steps are rows of step, target_time and the 13 quantiles; actuals are by time."""

    head: Head
    model: str
    steps: Sequence[Row]
    actuals: dict[int, float]


@dataclass(frozen=True, slots=True)
class AccuracyRows:
    """Accuracy by model and horizon over the UTC days `first` to `last`, and the models' names."""

    first: date | None
    last: date | None
    cells: Sequence[AccuracyFacts]
    names: dict[int, str]


@dataclass(frozen=True, slots=True)
class ReliabilityRows:
    """Reliability by model over targets in (first, last], microseconds UTC, counted over `series` series."""

    first: int | None
    last: int | None
    series: int
    models: Sequence[Reliability]


class Pages:
    """Reads what a page requests; any number of threads may ask at once."""

    def __init__(self, engine: Engine, seconds: float) -> None:
        self._engine = engine
        self._seconds = seconds

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def answers(self) -> None:
        """Ask the database for as little as possible."""
        self.ask(service_pages.read_partitions)

    def ask(self, read: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function of this package's pages on a connection that cannot write."""
        with asking(self._engine, self._seconds) as connection:
            return read(connection, *args, **kwargs)

    def of_series(
        self, name: str, read: Callable[Concatenate[Connection, int, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Call a function of `series_pages` with the id of a series; UnknownSeries for a name that there is not."""
        with asking(self._engine, self._seconds) as connection:
            return read(connection, _require_series(connection, name), *args, **kwargs)

    def forecast(self, name: str, wanted: Wanted) -> ForecastRows | None:
        """Return the newest forecast of a series that fits, None if there is none."""
        with asking(self._engine, self._seconds) as connection:
            series_id = _require_series(connection, name)
            found = series_pages.find_forecast(connection, series_id, wanted)
            if found is None:
                return None
            head, steps = found
            first, last = steps[0]["target_time"], steps[-1]["target_time"]
            actuals = series_pages.read_actuals(connection, series_id, first, last)
            named = series_pages.model_names(connection, [head.model_version])
            return ForecastRows(head, named.get(head.model_version, "unknown"), steps, actuals)

    def status(self, topic: str) -> Row:
        """Return how many series there are, the newest times, and the champion."""
        with asking(self._engine, self._seconds) as connection:
            observed, issued = service_pages.read_newest(connection, topic)
            stored = [row["updated_at"] for row in service_pages.read_partitions(connection)]
            return {
                "champion": model_pages.read_champion(connection),
                "series": series_pages.count_series(connection),
                "observations_newest_at": observed,
                "forecasts_newest_issued_at": issued,
                "stored_at": max(stored, default=None),
            }

    def accuracy(self, name: str | None, days: int) -> AccuracyRows:
        """Return live accuracy over the newest UTC days that have any: a history that is replayed has its own."""
        with asking(self._engine, self._seconds) as connection:
            own = None if name is None else _require_series(connection, name)
            last = newest_day(connection, own)
            if last is None:
                return AccuracyRows(None, None, (), {})
            first = last - timedelta(days=days - 1)
            cells = sum_accuracy(connection, first, own)
            versions = sorted({cell.model_version for cell in cells})
            return AccuracyRows(first, last, cells, dict(series_pages.model_names(connection, versions)))

    def reliability(self, name: str | None, days: int, version: int | None) -> ReliabilityRows:
        """Count over one series, or over some spread over all, back from their newest observation."""
        with asking(self._engine, self._seconds) as connection:
            chosen = model_pages.spread_series(connection) if name is None else [_require_series(connection, name)]
            last = series_pages.newest_observed(connection, chosen)
            if last is None:
                return ReliabilityRows(None, None, len(chosen), ())
            first = last - days * DAY
            return ReliabilityRows(
                first, last, len(chosen), model_pages.count_below(connection, chosen, first, last, version)
            )


def open_pages(url: str, *, connections: int, timeout: float) -> Pages:
    """Open a database for reading; one that is away now may come back, one with another schema is a ConfigError."""
    engine = connect_reading(url, timeout=timeout, connections=connections)
    try:
        require_file(engine)
        with asking(engine, timeout) as connection:
            check(connection)
    except Unavailable:
        return Pages(engine, timeout)
    except BaseException:
        engine.dispose()
        raise
    return Pages(engine, timeout)


def _require_series(connection: Connection, name: str) -> int:
    found = series_pages.find_series(connection, name)
    if found is None:
        raise UnknownSeries(name, get_close_matches(name, series_pages.names_near(connection, name), n=3, cutoff=0.5))
    return found
