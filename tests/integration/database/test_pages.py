"""The read API on both databases: every document, every refusal, and that nothing can be written through it."""

import re
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest
from sqlalchemy import event, text

from pipeline.database import Database, open_database
from pipeline.database.pages.pages import open_pages
from pipeline.errors import TidecastError, TooSlow
from tests.contracts.rows import HOUR, NOW, START, mark_requeued
from tests.integration.database.conftest import PATIENCE
from tests.integration.database.plans import read_whole
from tests.page_world import HOURS, LETTER, MARKUP, NAMES, ORIGINS, Visitor, World

DAY = "2026-01-01"
CLOCK = START + HOUR * 24 * 3
LARGE = re.compile(r"(SCAN|SEARCH) (packed_forecasts|observations|evaluations|dead_letters|job_runs|f|o)\b")
"""Steps of SQLite's plans that read a table which grows with time."""


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


@pytest.fixture(scope="module")
def settled(lasting_url: str) -> str:
    """The address of a world in which nothing changes any more."""
    with closing(open_database(lasting_url, timeout=PATIENCE)) as opened:
        World(opened)
    return lasting_url


@pytest.fixture
def visitor(settled: str) -> Iterator[Visitor]:
    with Visitor(settled, clock=CLOCK) as visiting:
        yield visiting


@pytest.fixture
def follower(world: World, url: str) -> Iterator[Visitor]:
    """A visitor of a world that a test changes."""
    with Visitor(url, clock=CLOCK) as visiting:
        yield visiting


def hour(number: int) -> str:
    return f"2026-01-{1 + number // 24:02d}T{number % 24:02d}:00:00Z"


def together(visitor: Visitor, path: str, cursor: str, limit: int, **params: Any) -> list[Any]:
    """Read page by page until there is no next."""
    found: list[Any] = []
    following: dict[str, Any] = {}
    while True:
        page = visitor.read(path, limit=limit, **params, **following)
        assert len(page["items"]) <= limit
        found += page["items"]
        if page["next"] is None:
            return found
        following = {cursor: page["next"]}


def test_the_status_says_how_far_everything_is(visitor: Visitor) -> None:
    status = visitor.read("/api/status")
    assert status["champion"] == {
        "version": 2,
        "name": "gru",
        "kind": None,
        "promoted_at": f"{DAY}T00:00:00.123458Z",
    }
    assert status["awaited"] == [], "models were fitted, and the champion has forecast every series"
    assert (status["series"], status["database"], status["since"]) == (len(NAMES), "ok", None)
    assert status["observations_newest_at"] == hour(HOURS - 1)
    assert status["forecasts_newest_issued_at"].startswith(hour(56)[:13])
    assert (status["frequency"], status["season"], status["horizon"]) == ("1h", 24, 3)
    assert (status["topic"], len(status["quantile_levels"])) == ("observations", 13)


def test_series_are_listed_with_what_arrived_last_and_found_by_any_part_of_their_name(visitor: Visitor) -> None:
    page = visitor.read("/api/series", search="METER-1")
    assert page == {
        "items": [
            {
                "name": "meter-1",
                "first_seen": f"{DAY}T00:00:00.123456Z",
                "last_observed_at": hour(HOURS - 1),
                "latest_origin": hour(ORIGINS[-1]),
                "quality": "ok",
            }
        ],
        "next": None,
        "total": 1,
    }
    assert visitor.read("/api/series")["total"] == len(NAMES)
    (silent,) = visitor.read("/api/series", search="sil")["items"]
    assert (silent["last_observed_at"], silent["latest_origin"], silent["quality"]) == (None, None, None)


def test_a_name_with_markup_is_a_name_like_any_other(visitor: Visitor) -> None:
    (found,) = visitor.read("/api/series", search=">/\"'&%_")["items"]
    assert found["name"] == MARKUP
    assert visitor.read("/api/history", series=MARKUP, limit=1)["points"] == [{"at": hour(59), "value": 59.0}]
    assert visitor.read("/api/forecast", series=MARKUP)["series"] == MARKUP
    assert visitor.read("/api/series", search="%")["total"] == 1, "a pattern's signs are plain text"
    status, error = visitor.error("/api/history", series=MARKUP + "x")
    assert (status, error["code"]) == (404, "unknown_series")
    answer = visitor.ask("/api/history", series=MARKUP)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_pages_put_together_are_the_whole_and_nothing_twice(visitor: Visitor, limit: int) -> None:
    names = [row["name"] for row in together(visitor, "/api/series", "after", limit)]
    assert sorted(names) == sorted(NAMES)
    origins = together(visitor, "/api/origins", "before", limit, series="meter-1")
    keys = [(row["origin"], row["model_version"]) for row in origins]
    assert len(keys) == len(set(keys)) == len(ORIGINS) + 1
    assert keys == sorted(keys, reverse=True)
    versions = [row["version"] for row in together(visitor, "/api/models", "after", limit)]
    assert versions == [2, 1, 0]
    runs = [row["id"] for row in together(visitor, "/api/jobs/runs", "before", limit)]
    assert (len(runs), runs) == (4, sorted(runs, reverse=True))
    letters = [row["offset"] for row in together(visitor, "/api/dead-letters", "after", limit)]
    assert letters == [9, 7]


def test_history_is_the_newest_in_a_range_ascending_with_nulls_as_nulls(visitor: Visitor) -> None:
    points = visitor.read("/api/history", series="meter-1", limit=10)["points"]
    assert [point["at"] for point in points] == [hour(number) for number in range(50, 60)]
    assert [point["value"] for point in points] == [None, *map(float, range(51, 60))]
    some = visitor.read("/api/history", series="meter-1", from_=hour(3), to=hour(6), limit=2)["points"]
    assert [point["at"] for point in some] == [hour(4), hour(5)]
    assert visitor.read("/api/history", series="silent")["points"] == []


def test_the_newest_forecast_comes_with_what_has_come(visitor: Visitor) -> None:
    found = visitor.read("/api/forecast", series="meter-1")
    assert (found["origin"], found["model_version"], found["model"]) == (hour(56), 2, "gru")
    assert found["quantile_levels"][6] == 0.5
    assert [(step["step"], step["target_time"], step["quantiles"][6], step["actual"]) for step in found["steps"]] == [
        (1, hour(57), 56.0, 57.0),
        (2, hour(58), 56.0, 58.0),
        (3, hour(59), 56.0, 59.0),
    ]
    assert len(found["steps"][0]["quantiles"]) == 13
    nulls = visitor.read("/api/forecast", series="meter-1", origin=hour(48))
    assert [step["actual"] for step in nulls["steps"]] == [49.0, None, 51.0]


def test_a_past_forecast_is_found_by_origin_by_model_and_as_of_a_moment(visitor: Visitor) -> None:
    def seen(**params: Any) -> tuple[str, int]:
        found = visitor.read("/api/forecast", series="meter-1", **params)
        return found["origin"], found["model_version"]

    assert seen(origin=hour(24)) == (hour(24), 1)
    assert seen(origin=hour(20)) == (hour(20), 2)
    assert seen(origin=hour(20), model_version=1) == (hour(20), 1)
    assert seen(model_version=1) == (hour(48), 1)
    assert seen(as_of=f"{DAY}T23:59:00Z") == (hour(20), 2)
    assert visitor.error("/api/forecast", series="meter-1", origin=hour(21))[1]["code"] == "no_forecast"
    assert visitor.error("/api/forecast", series="meter-1", as_of=hour(0))[0] == 404
    assert visitor.error("/api/forecast", series="silent")[0] == 404


def test_a_forecast_of_another_horizon_than_the_settings_is_whole(world: World, url: str) -> None:
    for horizon in (1, 2, 7):
        with Visitor(url) as visiting:
            object.__setattr__(visiting.settings.series, "horizon", horizon)
            assert len(visiting.read("/api/forecast", series="meter-1", origin=hour(20))["steps"]) == 3


def test_an_answer_that_has_not_changed_is_not_sent_again(world: World, follower: Visitor) -> None:
    first = follower.ask("/api/forecast", series="meter-1", origin=hour(56))
    assert first.headers["cache-control"] == "private, max-age=60"  # all its actuals are there
    assert follower.ask("/api/forecast", series="meter-1").headers["cache-control"] == "private, no-cache"
    etag = first.headers["etag"]
    again = follower.ask(
        "/api/forecast", series="meter-1", origin=hour(56), headers={"If-None-Match": f'"x", W/{etag}'}
    )
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    world.observe((world.ids["meter-1"], 58, -1.0), fresh=False)
    corrected = follower.ask("/api/forecast", series="meter-1", origin=hour(56), headers={"If-None-Match": etag})
    assert corrected.status_code == 200
    assert corrected.json()["steps"][1]["actual"] == -1.0


def test_accuracy_is_that_of_the_view(world: World, follower: Visitor) -> None:
    rows = follower.read("/api/accuracy", days=366)["items"]
    assert {(row["model_version"], row["model"], row["horizon_from"], row["horizon_to"]) for row in rows} == {
        (version, "gru", first, last) for version in (1, 2) for first, last in ((1, 1), (2, 6))
    }
    view = world.database.reader.query("SELECT SUM(n) AS n FROM forecast_accuracy")
    assert sum(row["n"] for row in rows) == view[0]["n"]
    assert all(row["coverage_80"] == 1.0 for row in rows)  # the actual lies 1 to 3 above the median, 4 is the bound
    own = follower.read("/api/accuracy", days=366, series=MARKUP)["items"]
    assert [(row["model_version"], row["n"]) for row in own] == [(1, 1), (1, 2)]
    newest = follower.read("/api/accuracy", days=1, series="meter-1")
    assert (newest["first_day"], newest["last_day"]) == ("2026-01-03", "2026-01-03")  # of the data, not of the clock
    assert sum(row["n"] for row in newest["items"]) == 8
    nothing = follower.read("/api/accuracy", series="silent")
    assert (nothing["first_day"], nothing["items"]) == (None, [])


def test_reliability_counts_the_actuals_below_each_quantile(visitor: Visitor) -> None:
    answer = visitor.read("/api/reliability", days=366, model_version=2)
    assert answer["series"] == len(NAMES)
    # model 2 forecast hours 20, 52 and 56: its actuals lie 1, 2 and 3 above the median, each three times
    assert [(row["level"], row["observed"], row["n"]) for row in answer["items"]][6:10] == [
        (0.5, 0.0, 9),
        (0.6, pytest.approx(1 / 3), 9),
        (0.7, pytest.approx(2 / 3), 9),
        (0.8, 1.0, 9),
    ]
    assert len(visitor.read("/api/reliability", days=366)["items"]) == 26
    day = visitor.read("/api/reliability", days=1, series="meter-1", model_version=2)
    assert (day["after"], day["last"], day["items"][0]["n"]) == (hour(35), hour(59), 6)
    silent = visitor.read("/api/reliability", days=366, series="silent")
    assert silent == {"days": 366, "after": None, "last": None, "series": 1, "items": []}


def test_models_carry_aliases_figures_and_the_verdict_in_words(visitor: Visitor) -> None:
    newest = visitor.read("/api/models")["items"][0]
    assert (newest["version"], newest["aliases"], newest["seed"], newest["code"]) == (2, ["champion"], 3, "0.1.0")
    assert (newest["mase"], newest["wql"], newest["verdict"]) == (0.9, None, "gain 2 % on 4 origins")
    moves = visitor.read("/api/promotions")["items"]
    assert [(move["alias"], move["action"], move["version"], move["previous"]) for move in moves] == [
        ("champion", "promote", 2, 1),
        ("champion", "promote", 1, None),
    ]


def test_jobs_show_their_latest_run_and_how_far_it_is(visitor: Visitor) -> None:
    jobs = {job["job"]: job for job in visitor.read("/api/jobs")["items"]}
    assert set(jobs) == {"retrain", "monitor", "calibrate", "retention", "promote"}
    assert jobs["retrain"]["running"]
    assert jobs["retrain"]["progress"] == {"stage": "fit", "step": 3, "steps": 9, "words": "loss 0.1"}
    assert (jobs["retention"]["paused"], jobs["monitor"]["paused"]) == (True, False)
    last = jobs["monitor"]["last"]
    assert (last["outcome"], last["seconds"], last["reason"], last["cause"]) == ("ok", 2.0, "summed up", "timetable")
    assert jobs["monitor"]["timetable"] == "*/5 * * * *"
    assert jobs["calibrate"]["last"] is None
    runs = visitor.read("/api/jobs/runs", job="monitor")["items"]
    assert [run["outcome"] for run in runs] == ["ok", "failed", "ok"]
    status, error = visitor.error("/api/jobs/runs", job="cleaning")
    assert (status, error["code"]) == (404, "unknown_job")
    assert "monitor" in error["hint"]


def test_partitions_have_a_lag_when_the_broker_answers_and_a_reason_when_not(world: World, url: str) -> None:
    end = world.claim.next_offset + 5
    with Visitor(url, read_ends=lambda: {0: end}) as visiting:
        answer = visiting.read("/api/partitions")
    (row,) = answer["items"]
    assert (row["lag"], row["end_offset"], row["owner"], row["partition"]) == (5, end, "worker-0", 0)
    assert answer["lag_unknown_because"] is None
    with Visitor(url) as visiting:
        answer = visiting.read("/api/partitions")
    assert (answer["items"][0]["lag"], answer["lag_unknown_because"]) == (None, "Kafka does not answer")
    with Visitor(url, read_ends=lambda: {1: 3}) as visiting:
        answer = visiting.read("/api/partitions")
    why = "no broker leads partition 0 of observations"
    assert (answer["items"][0]["lag"], answer["lag_unknown_because"]) == (None, why)


def test_dead_letters_are_shown_as_text_and_cut(world: World, follower: Visitor) -> None:
    empty, long = follower.read("/api/dead-letters")["items"]
    assert (empty["key"], empty["value"], empty["cut"]) == (None, None, False)
    assert (long["id"], long["reason"], long["key"], long["cut"]) == ("observations/0/7", LETTER.reason, "k\\xff", True)
    assert long["value"].startswith("<script>xxx")
    assert len(long["value"]) == 4000
    mark_requeued(world.database, "observations", 0, 9, NOW)
    (waiting,) = follower.read("/api/dead-letters", waiting="true")["items"]
    assert waiting["offset"] == 7


def test_an_unknown_series_is_told_with_names_that_look_like_it(visitor: Visitor) -> None:
    for path in ("/api/history", "/api/origins", "/api/forecast", "/api/accuracy", "/api/reliability", "/api/events"):
        status, error = visitor.error(path, series="meter-11")
        assert (status, error["code"]) == (404, "unknown_series")
        assert "'meter-1'" in error["hint"]
    assert "/api/series" in visitor.error("/api/history", series="q" * 300)[1]["hint"]


@pytest.mark.parametrize(
    ("path", "params", "words"),
    [
        ("/api/history", {"series": "meter-1", "limit": 10_001}, "limit: .*less than or equal to 10000"),
        ("/api/history", {"series": "meter-1", "limit": 0}, "limit: .*greater than or equal to 1"),
        ("/api/history", {}, "series: Field required"),
        ("/api/history", {"series": "meter-1", "from_": hour(5), "to": hour(5)}, "from .* must lie before to"),
        ("/api/history", {"series": "meter-1", "from_": "yesterday"}, "from: write a time as 2026-01-01T00:00:00Z"),
        ("/api/history", {"series": "meter-1", "from_": "2026-01-01T00:00:00"}, "needs its offset"),
        ("/api/history", {"series": "meter-1", "to": "0001-01-01T00:00:00+23:59"}, "from 1900-01-01T00:00:00Z to 2190"),
        ("/api/history", {"series": "meter-1", "to": "9999-12-31T23:59:59-23:59"}, "from 1900-01-01T00:00:00Z to 2190"),
        ("/api/history", {"series": "meter\0"}, "NUL"),
        ("/api/series", {"search": "x" * 257}, "search: .*256"),
        ("/api/series", {"colour": "red"}, "unknown parameter 'colour'"),
        ("/api/status", {"x": 1}, "unknown parameter 'x'"),
        ("/api/origins", {"series": "meter-1", "before": f"{hour(1)}/x"}, "`next` of an earlier page"),
        ("/api/forecast", {"series": "meter-1", "model_version": 2**31}, "model_version: "),
        ("/api/accuracy", {"days": 367}, "days: .*366"),
        ("/api/dead-letters", {"after": "2026"}, "`next` of an earlier page"),
        ("/api/dead-letters", {"after": f"{hour(1)}/0/9223372036854775808/t"}, "`next` of an earlier page"),
        ("/api/models", {"after": -1}, "after: "),
    ],
)
@pytest.mark.parametrize("lasting_url", ["sqlite"], indirect=True)
def test_what_cannot_be_asked_is_refused_with_the_limits(
    visitor: Visitor, path: str, params: dict[str, Any], words: str
) -> None:
    answer = visitor.ask(path, **params)
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert error["code"] in ("bad_parameter", "impossible_range")
    assert re.search(words, error["message"]), error["message"]


def test_answers_are_counted_by_route(visitor: Visitor) -> None:
    for series in ("meter-1", "meter-2", "meter-x"):
        visitor.ask("/api/history", series=series)
    visitor.ask("/wp-login.php")
    assert visitor.app.traffic.answers == {("/api/history", 200): 2, ("/api/history", 404): 1, ("other", 404): 1}


def test_nothing_can_be_written(world: World, follower: Visitor, url: str) -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        answer = follower.ask("/api/series", method=method)
        assert (answer.status_code, answer.json()["error"]["code"]) == (405, "read_only")
    pages = open_pages(url, connections=1, timeout=10.0)
    with pytest.raises(TidecastError, match=r"readonly|read-only"):
        pages.ask(lambda connection: connection.execute(text("DELETE FROM series")))
    pages.close()
    assert world.database.reader.counts()["series"] == len(NAMES)


def test_a_query_that_takes_too_long_is_stopped_and_the_next_one_answered(world: World, url: str) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT MAX(i) FROM n"
    pages = open_pages(url, connections=1, timeout=1.0)
    with pytest.raises(TooSlow, match="stopped after 1 s"):
        pages.ask(lambda connection: connection.execute(text(endless)).all())
    pages.answers()
    pages.close()


def questions_of(name: str, letters: str) -> list[tuple[str, dict[str, Any]]]:
    """Every document, asked in every way."""
    return [
        ("/api/status", {}),
        ("/api/series", {"after": name}),
        ("/api/history", {"series": name, "to": hour(5)}),
        ("/api/origins", {"series": name, "before": f"{hour(50)}/1"}),
        ("/api/forecast", {"series": name}),
        ("/api/forecast", {"series": name, "origin": hour(24)}),
        ("/api/forecast", {"series": name, "as_of": hour(30)}),
        ("/api/accuracy", {"series": name}),
        ("/api/accuracy", {}),
        ("/api/reliability", {"series": name}),
        ("/api/reliability", {}),
        ("/api/dead-letters", {}),
        ("/api/dead-letters", {"waiting": "true", "after": letters}),
        ("/api/jobs", {}),
        ("/api/jobs/runs", {}),
        ("/api/jobs/runs", {"job": "retrain"}),
        ("/api/models", {}),
        ("/api/promotions", {}),
        ("/api/partitions", {}),
    ]


@pytest.mark.parametrize("lasting_url", ["sqlite"], indirect=True)
def test_every_query_of_what_grows_goes_through_an_index(visitor: Visitor) -> None:
    """On SQLite: PostgreSQL reads a small table whole, whatever there is."""
    questions = questions_of("meter-1", visitor.read("/api/dead-letters", limit=1)["next"])
    asked: list[tuple[str, Any]] = []

    def note(_: object, __: object, statement: str, parameters: Any, *___: object) -> None:
        asked.append((statement, parameters))

    documented = {path for path in visitor.read("/openapi.json")["paths"] if path.startswith("/api/")}
    assert {path for path, _ in questions} == documented - {"/api/events"}, "each one has its plans looked at"
    engine = visitor.pages._engine
    event.listen(engine, "before_cursor_execute", note)
    for path, params in questions:
        visitor.read(path, **params)
    event.remove(engine, "before_cursor_execute", note)
    plans: list[tuple[str, list[str]]] = []
    with engine.connect() as connection:
        for statement, parameters in asked:
            if "SELECT" in statement:
                rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
                plans.append((statement, [row[3] for row in rows]))
    large = {found[2] for _, steps in plans for step in steps if (found := LARGE.match(step))}
    assert large >= {"packed_forecasts", "observations", "evaluations", "dead_letters", "job_runs"}
    assert [plan for plan in plans if reads_whole(*plan)] == []


def reads_whole(statement: str, steps: list[str]) -> bool:
    """Tell whether a query reads all rows of a table that grows, and not only up to a LIMIT in an index's order."""
    scanned = any((found := LARGE.match(step)) and found[1] == "SCAN" for step in steps)
    sorted_first = any("TEMP B-TREE" in step for step in steps)
    of_series = any(step.startswith("SEARCH forecasts USING PRIMARY KEY (series_id=?)") for step in steps)
    return of_series or (scanned and (sorted_first or "LIMIT" not in statement))


MANY = (
    "INSERT INTO evaluations SELECT s, 0, date '2025-12-20' + d, h, 9, 1, 2, 3, 1, 9, 8, 9, 9, 3, 2, 9, 2, 1"
    " FROM generate_series(1, 200) s, generate_series(0, 14) d, unnest(ARRAY[1, 2, 7, 25]) h",
    "INSERT INTO daily_accuracy SELECT day, 0, horizon_from, 'all', SUM(n), 1, 2, 3, 1, 9, 8, 9, 9, 3, 2, 9, 2"
    " FROM evaluations GROUP BY day, horizon_from",
    "INSERT INTO dead_letters SELECT 'meters', 0, n, 'empty', '', '', timestamptz '2026-01-01' + n * interval '1 s'"
    " FROM generate_series(1, 9000) n",
    "INSERT INTO job_runs (job, scheduled_for, owner, started_at, heartbeat_at, finished_at, outcome)"
    " SELECT j, t.at, 'me', t.at, t.at, t.at, 'ok' FROM unnest(ARRAY['retrain', 'monitor']) j,"
    " (SELECT timestamptz '2025-12-01' + n * interval '5 minutes' AS at FROM generate_series(1, 9000) n) t",
)


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_no_document_reads_a_large_table_whole_on_postgresql(many: Database, url: str, owner_url: str) -> None:
    with psycopg.connect(owner_url.replace("+psycopg", ""), autocommit=True) as owner:
        for statement in (*MANY, "ANALYZE"):
            owner.execute(statement.encode())
    asked: list[tuple[str, Any]] = []

    def note(_: object, __: object, statement: str, parameters: Any, *___: object) -> None:
        asked.append((statement, parameters))

    with Visitor(url, clock=CLOCK) as visitor:
        letters = visitor.read("/api/dead-letters", limit=1)["next"]
        engine = visitor.pages._engine
        event.listen(engine, "before_cursor_execute", note)
        for path, params in questions_of("s17", letters):
            visitor.read(path, **params)
        event.remove(engine, "before_cursor_execute", note)
        found = {}
        with engine.connect() as connection:
            for statement, parameters in asked:
                if statement.startswith("SELECT"):
                    plan = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters).scalar()
                    found[statement] = read_whole(plan[0]["Plan"])
    assert len(found) > 30
    grow = {"packed_forecasts", "observations", "evaluations", "dead_letters", "job_runs"}
    assert {statement: tables & grow for statement, tables in found.items() if tables & grow} == {}
