"""tidecast readings: take readings out of a series, or correct one, with who did it and why."""

import getpass
import math
from typing import TYPE_CHECKING

import click

from pipeline.commands.display import moment, read_moment, say, show_rows
from pipeline.commands.invocation import with_settings
from pipeline.commands.opened import now, opened

if TYPE_CHECKING:
    from pipeline.settings import Settings

WHY = click.option("--why", required=True, metavar="TEXT", help="The reason, kept with the repair.")
BY = click.option("--by", metavar="NAME", help="Who repairs; by default the user of this machine.")


@click.group()
def readings() -> None:
    """Remove or correct readings of a series; workers, views, accuracy and retraining follow."""


@readings.command()
@click.argument("series")
@click.option("--since", required=True, metavar="TIME", help="First time; UTC unless it has an offset.")
@click.option("--until", required=True, metavar="TIME", help="Last time, included.")
@WHY
@BY
@with_settings
def remove(settings: "Settings", series: str, since: str, until: str, why: str, by: str | None) -> None:
    """Take the readings of SERIES from --since to --until out: they become explicit nulls.

    Forecasts that were issued stay as they were. Running workers read the series again before their next turn.
    """
    from pipeline.database import Repair

    span = read_moment(since, "--since"), read_moment(until, "--until")
    with opened(settings) as database:
        count = database.repairs.remove(Repair(series, *span, by or getpass.getuser(), why, now()))
    say(f"removed {count:,} {'reading' if count == 1 else 'readings'} of {series}")


@readings.command("set")
@click.argument("series")
@click.argument("time")
@click.argument("value", type=float)
@WHY
@BY
@with_settings
def correct(settings: "Settings", series: str, time: str, value: float, why: str, by: str | None) -> None:
    """Give the reading of SERIES at TIME, which is on the grid, another VALUE."""
    from pipeline.database import Repair

    if not math.isfinite(value) or abs(value) > 1e18:
        raise click.UsageError("VALUE must be a finite number within +-1e18", click.get_current_context())
    at = read_moment(time, "TIME")
    with opened(settings) as database:
        database.repairs.correct(Repair(series, at, at, by or getpass.getuser(), why, now()), value)
    say(f"set {series} at {time} to {value:g}")


@readings.command("repairs")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="The newest so many.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@with_settings
def list_repairs(settings: "Settings", limit: int, as_json: bool) -> None:
    """List what was removed or corrected, by whom and why, the newest first."""
    with opened(settings) as database:
        rows = database.repairs.newest(limit)
    for row in rows:
        row |= {name: moment(row[name]) for name in ("since", "until", "repaired_at")}
    show_rows(rows, as_json=as_json, empty="nothing was repaired")
