"""Every query of README and docs/ on both databases, and the views beneath, against pandas on the same rows."""

import re
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pandas as pd
import pytest

from pipeline.database import Database, open_database
from pipeline.database.pages.reader import Row
from pipeline.records import Forecasts
from tests.contracts.rows import HOUR, NOW, START, turn_of, wide_observations
from tests.documents import TEXT, blocks
from tests.integration.database.conftest import PATIENCE

QUERIES = {
    caption.strip(): sql.strip().rstrip(";")
    for caption, sql in re.findall(r"^([^\n]+:)\n\n```sql\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
}
NAMES = ("meter-17", "meter-18", "silent")
LENGTH, HORIZON, SEASON = 12 * 24, 6, 24
QUANTILES = ["q025", "q05", *(f"q{tens}0" for tens in range(1, 10)), "q95", "q975"]
LEVELS = np.array([0.025, 0.05, *np.arange(0.1, 1, 0.1), 0.95, 0.975])


@pytest.fixture(scope="module")
def database(lasting_url: str) -> Iterator[Database]:
    """Nine days of two series with gaps and nulls; model 1 forecasts from hour 48 on, at times model 2 as well."""
    with closing(open_database(lasting_url, timeout=PATIENCE)) as opened:
        fill(opened)
        yield opened


def fill(database: Database) -> None:
    random = np.random.default_rng(5)
    database.registry.describe_baseline({}, season=SEASON, step_seconds=3600.0)
    for _ in range(2):
        database.registry.register(
            name="gru", config={}, metrics={}, train_from=START, train_to=NOW, seed=0, code="", artifact=b"x", now=NOW
        )
    database.registry.promote(1, expected=None, reason="first", now=NOW)
    for due, outcome in enumerate(["ok", "failed"]):
        run = database.ledger.begin("retrain", START + due, "me", NOW)
        assert run is not None
        database.ledger.finish(run, outcome, "because", NOW + due)  # type: ignore[arg-type]
    store = database.store("meters", "last", lambda: NOW, ("temperature",))
    claim = store.claim(0, "me")
    ids = store.recent(NAMES, 1).series_id.tolist()
    cells = [
        (own, START + HOUR * hour, None if draw < 0.1 else float(hour + random.normal()), (draw,), hour, True)
        for own in ids[:2]
        for hour in range(LENGTH)
        if (draw := random.random()) < 0.9
    ]
    made = [
        (place, hour, version)
        for hour in range(48, LENGTH)
        for place in range(2)
        for version in ((1, 2) if hour % 5 == 0 else (1,))
        if random.random() < 0.9
    ]
    at, origin, version = np.array(made, np.int64).T
    middle = origin[:, None] + np.arange(1, HORIZON + 1) + random.normal(0, 2, (len(made), HORIZON))
    new = Forecasts(
        series=[NAMES[place] for place in at],
        series_id=np.array(ids)[at],
        origin=START + HOUR * origin,
        target_times=START + HOUR * (origin[:, None] + np.arange(1, HORIZON + 1)),
        quantiles=middle[:, :, None] + np.sort(random.normal(0, 1.5, (len(made), HORIZON, 13)), axis=2),
        model_version=version,
        calibration=np.zeros(len(version), np.int64),
        quality=["ok"] * len(made),
        issued_at=START + HOUR * origin + 1_000_000 * version,
        partition=np.zeros(len(made), np.int64),
        offset=np.arange(len(made)),
    )
    store.commit(turn_of(claim, LENGTH, observations=wide_observations(cells), forecasts=new))
    list(database.evaluations.refresh(NOW, margin=0.0, group=None))


def times(frame: pd.DataFrame, *columns: str) -> pd.DataFrame:
    return frame.assign(**{column: pd.to_datetime(frame[column], format="ISO8601") for column in columns})


@pytest.fixture(scope="module")
def forecasts(database: Database) -> pd.DataFrame:
    """Every stored forecast step."""
    return times(pd.DataFrame(database.reader.forecasts()), "target_time", "origin", "issued_at")


@pytest.fixture(scope="module")
def actuals(database: Database) -> pd.DataFrame:
    """Every observation with a value."""
    return times(pd.DataFrame(database.reader.observations()), "observed_at").dropna(subset="value")


@pytest.fixture(scope="module")
def matured(forecasts: pd.DataFrame, actuals: pd.DataFrame) -> pd.DataFrame:
    """Forecast steps joined with their actuals and with the seasonal naive, by pandas alone."""
    known = actuals[["series", "observed_at", "value"]]
    joined = forecasts.merge(known.rename(columns={"observed_at": "target_time", "value": "actual"}))
    season = known.assign(target_time=known["observed_at"] + pd.Timedelta(hours=SEASON)).drop(columns="observed_at")
    joined = joined.merge(season.rename(columns={"value": "naive"}), how="left")
    return joined.assign(
        error=joined["q50"] - joined["actual"],
        inside_80=joined["actual"].between(joined["q10"], joined["q90"]).astype(int),
        inside_90=joined["actual"].between(joined["q05"], joined["q95"]).astype(int),
        inside_95=joined["actual"].between(joined["q025"], joined["q975"]).astype(int),
        day=joined["target_time"].dt.date.astype(str),
    )


def newest(frame: pd.DataFrame, *keys: str) -> pd.DataFrame:
    order = ["origin", "issued_at", "model_version"]
    return frame.sort_values(order).groupby(list(keys), as_index=False).tail(1)


def same(rows: list[Row], expected: pd.DataFrame, *columns: str) -> None:
    """The same rows in the same order; times as the database exports them."""
    found = pd.DataFrame(rows, columns=list(columns))
    wanted = expected[list(columns)].reset_index(drop=True)
    for column in columns:
        if isinstance(wanted[column].dtype, np.dtype) and wanted[column].dtype.kind == "M":
            found[column] = pd.to_datetime(found[column], format="ISO8601")
    pd.testing.assert_frame_equal(found, wanted, check_dtype=False, check_exact=False, rtol=1e-9)


def ask(database: Database, words: str) -> list[Row]:
    (sql,) = [sql for caption, sql in QUERIES.items() if words in caption]
    rows = database.reader.query(sql)
    assert rows, "a query that shows nothing shows nothing"
    return rows


def test_every_query_of_the_documents_has_a_caption_of_its_own() -> None:
    assert len(QUERIES) == len(blocks("sql")) >= 13


@pytest.mark.parametrize("caption", QUERIES)
def test_every_query_of_the_documents_answers(database: Database, caption: str) -> None:
    assert database.reader.query(QUERIES[caption]) != []


def test_the_next_day_is_the_newest_forecast(database: Database, forecasts: pd.DataFrame) -> None:
    own = forecasts[forecasts["series"] == "meter-17"]
    head = newest(own, "series")
    expected = own.merge(head[["origin", "model_version"]]).sort_values("step")
    same(ask(database, "The next day"), expected, "target_time", "q10", "q50", "q90")


def test_the_recipe_for_a_past_moment_is_what_the_command_shows(database: Database, forecasts: pd.DataFrame) -> None:
    rows = ask(database, "at a past moment")
    moment = pd.Timestamp(re.findall(r"issued_at <= '([^']+)'", QUERIES[_caption("at a past moment")])[0])
    own = forecasts[(forecasts["series"] == "meter-17") & (forecasts["issued_at"] <= moment)]
    head = newest(own, "series")
    expected = own.merge(head[["origin", "model_version"]]).sort_values("step")
    columns = ("target_time", "q10", "q50", "q90", "origin", "issued_at", "model_version")
    same(rows, expected, *columns)
    at = int(moment.value // 1000)
    shown = database.reader.forecasts_as_of(at, "meter-17")
    assert rows == [{column: row[column] for column in columns} for row in shown]


def _caption(words: str) -> str:
    return next(caption for caption in QUERIES if words in caption)


def test_one_target_as_it_came_nearer(database: Database, forecasts: pd.DataFrame) -> None:
    at = pd.Timestamp(re.findall(r"target_time = '([^']+)'", QUERIES[_caption("as it came nearer")])[0])
    own = forecasts[(forecasts["series"] == "meter-17") & (forecasts["target_time"] == at)]
    expected = own.sort_values(["origin", "issued_at"])
    same(ask(database, "as it came nearer"), expected, "issued_at", "origin", "step", "q10", "q50", "q90")


def test_the_best_known_ahead_is_the_newest_of_each_target(database: Database, forecasts: pd.DataFrame) -> None:
    own = newest(forecasts[forecasts["series"] == "meter-17"], "target_time")
    expected = own.sort_values("target_time", ascending=False).head(72)
    same(ask(database, "The best that was known"), expected, "target_time", "q50", "step", "model_version")


def test_weeks_are_counted_back_from_the_newest_day(database: Database, matured: pd.DataFrame) -> None:
    ago = (matured["day"].rank(method="dense", ascending=False) - 1) // 7
    weeks = matured.assign(size=1, mae=matured["error"].abs()).groupby(ago)
    expected = weeks.agg(
        first_day=("day", "min"),
        last_day=("day", "max"),
        n=("size", "sum"),
        mae=("mae", "mean"),
        coverage_80=("inside_80", "mean"),
    )
    assert len(expected) == 2
    same(ask(database, "by week"), expected, *expected.columns)


def test_the_worst_series_come_first(database: Database, matured: pd.DataFrame) -> None:
    beside = matured.dropna(subset="naive")
    errors = beside.assign(own=beside["error"].abs(), other=(beside["naive"] - beside["actual"]).abs())
    expected = errors.groupby("series", as_index=False).agg(
        n=("own", "size"), mae=("own", "mean"), own=("own", "sum"), other=("other", "sum")
    )
    expected["of_naive"] = expected["own"] / expected["other"]
    expected = expected.sort_values("of_naive", ascending=False)
    same(ask(database, "forecast worst"), expected, "series", "n", "mae", "of_naive")


def test_coverage_by_day(database: Database, matured: pd.DataFrame) -> None:
    days = matured.groupby("day", as_index=False).agg(
        n=("error", "size"), held_80=("inside_80", "mean"), held_95=("inside_95", "mean")
    )
    expected = days.sort_values("day", ascending=False)
    assert 0.1 < expected["held_80"].mean() < 0.9
    same(ask(database, "The coverage of the intervals"), expected, *expected.columns)


def test_forecast_vs_actual_row_by_row(database: Database, matured: pd.DataFrame) -> None:
    keys = ["series", "target_time", "origin", "model_version"]
    rows = database.reader.query(f"SELECT * FROM forecast_vs_actual ORDER BY {', '.join(keys)}")
    expected = matured.sort_values(keys).assign(
        absolute_error=matured["error"].abs(), naive_error=matured["naive"] - matured["actual"]
    )
    gap = expected["actual"].to_numpy()[:, None] - expected[QUANTILES].to_numpy()  # (N, Q)
    expected["pinball"] = np.maximum(gap * LEVELS, gap * (LEVELS - 1)).mean(axis=1)
    columns = (*keys, "day", "step", "actual", "naive", "error", "absolute_error", "pinball", "naive_error")
    same(rows, expected, *columns, "inside_80", "inside_90", "inside_95")


def test_the_scale_of_every_series(database: Database, actuals: pd.DataFrame) -> None:
    wide = actuals.pivot_table(index="observed_at", columns="series", values="value").asfreq("h")
    apart = wide.diff(SEASON).abs()
    expected = pd.DataFrame({"scale": apart.mean(), "pairs": apart.count()}).sort_index()
    query = "SELECT c.scale, c.pairs FROM seasonal_scale c JOIN series s ON s.series_id = c.series_id ORDER BY s.name"
    same(database.reader.query(query), expected, "scale", "pairs")


def test_health_of_every_series(database: Database, forecasts: pd.DataFrame) -> None:
    seen = pd.DataFrame(database.reader.observations())
    expected = seen.groupby("series").agg(
        first_observed_at=("observed_at", "min"),
        last_observed_at=("observed_at", "max"),
        observations=("events", "size"),
        missing=("value", lambda values: values.isna().sum()),
        events=("events", "sum"),
    )
    last = newest(forecasts, "series").set_index("series")
    rows = {row["series"]: row for row in database.reader.query("SELECT * FROM series_health")}
    for series in NAMES[:2]:
        assert {name: rows[series][name] for name in expected.columns} == expected.loc[series].to_dict()
        assert pd.Timestamp(rows[series]["last_origin"]) == last["origin"][series]
        assert rows[series]["model_version"] == last["model_version"][series]
    assert [rows["silent"][name] for name in ("observations", "missing", "last_origin")] == [0, 0, None]


def test_the_other_queries_show_what_is_stored(database: Database, forecasts: pd.DataFrame) -> None:
    lineage = ask(database, "Where a forecast came from")
    own = forecasts[(forecasts["series"] == "meter-17") & (forecasts["step"] == 1)]
    assert pd.Timestamp(lineage[0]["origin"]) == own["origin"].max()
    assert {row["sha256"] for row in lineage} == {database.registry.model(1).sha256}
    assert [row["series"] for row in ask(database, "went silent")].count("silent") == 1
    (job,) = ask(database, "did not end well")
    assert (job["job"], job["outcome"], job["reason"], job["not_ok"]) == ("retrain", "failed", "because", 1)
    beside = ask(database, "A covariate beside")
    assert len(beside) == 24
    assert all(0 <= row["temperature"] < 0.9 for row in beside)
    assert [row["champion"] for row in ask(database, "Which model is better")] == [0, 1, 0]
