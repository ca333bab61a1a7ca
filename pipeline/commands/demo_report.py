"""The demo's last page: what arrived, how good it was, a fan chart, and SQL with its results."""

from collections.abc import Callable
from dataclasses import dataclass

from pipeline import charts as chart
from pipeline.commands.display import table
from pipeline.quickstart.demo import Running, Summary
from pipeline.quickstart.demo_directory import CHART
from pipeline.quickstart.demo_series import HORIZON, Issued, fans

UNTRAINED = {"seasonal-naive", "zero-shot"}
"""Names of models that have learned nothing of these series."""
Section = Callable[[str, str], None]
Line = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Query:
    """SQL that the demo shows with its result."""

    title: str
    sql: str


QUERIES = (
    Query(
        "The next hours of one series",
        """\
SELECT target_time, q10, q50, q90, model_version
FROM current_forecast WHERE series = '{series}' ORDER BY step LIMIT 4""",
    ),
    Query(
        "Forecasts and actuals",
        """\
SELECT step, target_time, q10, q50, q90, actual, naive
FROM forecast_vs_actual WHERE series = '{series}' AND origin = '{origin}' ORDER BY step LIMIT 4""",
    ),
    Query(
        "Every model on all matured forecasts (version 0 is the seasonal naive)",
        """\
SELECT model_version, name, n, ROUND(mase, 3) AS mase, ROUND(coverage_80, 3) AS coverage_80, ROUND(skill, 3) AS skill
FROM model_leaderboard""",
    ),
    Query(
        "The source of a forecast",
        """\
SELECT origin, issued_at, model_version, source_partition, source_offset
FROM forecasts JOIN series USING (series_id) WHERE name = '{series}' AND step = 1 ORDER BY origin DESC LIMIT 2""",
    ),
)


def show(running: Running, summary: Summary, issued: Issued, width: int, section: Section, line: Line) -> None:
    """Write the page, and the chart as a file."""
    section("Arrived", "the two sides agree" if summary.forecasts_in_sql == summary.messages_on_topic else "")
    _lines(
        line,
        ["", "count"],
        [
            ["events sent to the input topic", f"{summary.events:,}"],
            ["observations in SQL", f"{summary.observations:,}"],
            ["forecasts in SQL", f"{summary.forecasts_in_sql:,}"],
            ["messages on the output topic (read_committed)", f"{summary.messages_on_topic:,}"],
        ],
    )
    versions = ", ".join(str(version) for version in sorted(set(issued.model_version.tolist())))
    section(
        "Accuracy",
        f"each series' forecast issued {HORIZON} hours before its end (model version {versions}), against the actuals",
    )
    _lines(
        line,
        ["", "tidecast", "pretrained, as it came", "seasonal naive"],
        [
            [
                "MASE (as M4: lower is better)",
                *(f"{mase:.3f}" for mase in (summary.mase, summary.mase_zero_shot, summary.mase_seasonal_naive)),
            ],
            [
                "share of actuals in the 80 % interval",
                *(f"{100 * share:.1f} %" for share in (summary.coverage_80, summary.coverage_80_zero_shot)),
                "-",
            ],
        ],
    )
    served = {running.database.registry.model(version).name for version in set(issued.model_version.tolist())}
    if not served - UNTRAINED:
        line("no trained model was promoted, see Train above: what it says of it is what a service would do")
    drawn = fans(running.table, issued)
    chart.save(drawn, running.directory / CHART)
    section("Chart", f"series {drawn[0].series}; more in {running.directory / CHART}")
    for text in chart.text(drawn[0], width):
        line(text)
    section("SQL", f"any SQLite client can ask {running.settings.database.url.get_secret_value()[len('sqlite:///') :]}")
    _queries(running, drawn[0], line)


def _queries(running: Running, fan: chart.Fan, line: Line) -> None:
    origin = f"{chart.clock(fan.history_times)[-1]:%Y-%m-%d %H:%M:%S}"
    for query in QUERIES:
        sql = query.sql.format(series=fan.series, origin=origin)
        rows = running.database.reader.query(sql)
        line(f"-- {query.title}")
        for text in sql.splitlines():
            line(text)
        _lines(line, list(rows[0]), [list(row.values()) for row in rows])
        line("")


def farewell(running: Running, line: Line) -> None:
    """Say what runs on and how to ask it."""
    prefix = f"tidecast --config {running.settings_file}"
    for text in (
        f"{prefix} forecast latest --series H1",
        f"{prefix} models list",
        f"{prefix} doctor",
    ):
        line(text)


def _lines(line: Line, header: list[str], rows: list[list[object]] | list[list[str]]) -> None:
    for text in table(header, rows):
        line(text)
