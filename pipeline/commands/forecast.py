"""tidecast forecast: read, export and plot what is stored."""

import csv
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from pipeline.commands.display import read_moment, say, show_near, show_rows, write_json
from pipeline.commands.invocation import with_settings
from pipeline.commands.opened import opened
from pipeline.visible import csv_cell

if TYPE_CHECKING:
    from pipeline.settings import Settings

NEAR = ("q10", "q50", "q90")
SHOWN = ("series", "target_time", "step", *NEAR, "model_version", "quality", "origin", "issued_at")
SERIES = click.option("--series", metavar="NAME", help="Only this series.")
LIMIT = click.option("--limit", type=click.IntRange(1), default=48, show_default=True, help="At most so many rows.")
JSON = click.option("--json", "as_json", is_flag=True, help="Write JSON, with every quantile.")


@click.group()
def forecast() -> None:
    """Read, export and plot forecasts."""


@forecast.command()
@SERIES
@LIMIT
@JSON
@with_settings
def latest(settings: "Settings", series: str | None, limit: int, as_json: bool) -> None:
    """Show the newest forecast of every series, or of one."""
    with opened(settings) as database:
        rows = database.reader.forecasts_latest(series, limit)
    _show(rows, as_json)


@forecast.command("as-of")
@click.argument("time")
@SERIES
@LIMIT
@JSON
@with_settings
def as_of(settings: "Settings", time: str, series: str | None, limit: int, as_json: bool) -> None:
    """Show what `latest` would have shown at a past TIME: nothing issued after it."""
    at = read_moment(time, "TIME")
    with opened(settings) as database:
        rows = database.reader.forecasts_as_of(at, series)
    _show(rows[:limit], as_json)


@forecast.command()
@SERIES
@click.option("--since", metavar="TIME", help="First target time; UTC unless it has an offset.")
@click.option("--until", metavar="TIME", help="Stop before this target time.")
@click.option(
    "--format", "form", type=click.Choice(["csv", "json"]), default="csv", show_default=True, help="json: a row a line."
)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Instead of stdout.")
@with_settings
def export(
    settings: "Settings", series: str | None, since: str | None, until: str | None, form: str, output: Path | None
) -> None:
    """Write every stored forecast step, with its quantiles and lineage."""
    bounds = {name: read_moment(text, f"--{name}") for name, text in (("since", since), ("until", until)) if text}
    with opened(settings) as database, click.open_file(str(output) if output else "-", "w", encoding="utf-8") as file:
        count, lines = 0, csv_lines(file)
        for count, row in enumerate(database.reader.forecasts(series, **bounds), start=1):
            if form == "json":
                file.write(write_json(row) + "\n")
                continue
            if count == 1:
                lines(row)
            lines(row.values())
    if output:
        say(f"wrote {count:,} forecast steps to {output}")


@forecast.command()
@click.argument("series")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="A PNG, SVG or PDF.")
@click.option("--at", metavar="TIME", help="The forecast that was newest at this time; now if left away.")
@with_settings
def plot(settings: "Settings", series: str, output: Path | None, at: str | None) -> None:
    """Draw the forecast of one SERIES with its past and its actuals: in the terminal, or to a file."""
    from pipeline import charts as chart
    from pipeline.charts import read_fan
    from pipeline.errors import ConfigError

    with opened(settings) as database:
        fan = read_fan(database.reader, series, read_moment(at, "--at") if at else None)
    if fan is None:
        raise ConfigError(f"series {series} has no forecast; see tidecast forecast latest")
    if output:
        chart.save([fan], output)
        say(f"wrote {output}")
    else:
        for line in chart.text(fan):
            say(line)


def _show(rows: list[dict[str, Any]], as_json: bool) -> None:
    if not as_json:
        rows = [{name: row[name] for name in SHOWN} | _write_near(row) for row in rows]
    show_rows(rows, as_json=as_json, empty="no forecast yet; run tidecast stream, or look at tidecast doctor")


def _write_near(row: dict[str, Any]) -> dict[str, Any]:
    return dict(zip(NEAR, show_near([row[name] for name in NEAR]), strict=True))


def csv_lines(file: IO[str]) -> Callable[[Iterable[Any]], None]:
    """Return what writes a line of CSV, which a spreadsheet may open."""
    lines = csv.writer(file, lineterminator="\n")

    def write(fields: Iterable[Any]) -> None:
        lines.writerow([csv_cell(field) for field in fields])

    return write
