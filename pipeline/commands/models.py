"""tidecast models: what was trained, and which model serves."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from pipeline.commands.display import moment, show_json, show_rows, show_table
from pipeline.commands.invocation import with_settings
from pipeline.commands.opened import now, opened

if TYPE_CHECKING:
    from pipeline.calibration import Calibration
    from pipeline.database.registry import ModelRow
    from pipeline.settings import Settings

TIMES = ("train_from", "train_to", "created_at")


@click.group()
def models() -> None:
    """List, show, promote and roll back models."""


@models.command("list")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="The newest so many.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@with_settings
def list_models(settings: "Settings", limit: int, as_json: bool) -> None:
    """List the newest models and what their backtests said; version 0 is the seasonal naive."""
    with opened(settings) as database:
        champion = database.registry.champion()
        rows = [_summary(row, champion) for row in database.registry.models(limit)]
    show_rows(rows, as_json=as_json, empty="no model yet; run tidecast job run retrain")


@models.command()
@click.argument("version", type=click.IntRange(0))
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@with_settings
def show(settings: "Settings", version: int, as_json: bool) -> None:
    """Show everything that is known about a model VERSION, and the calibration that corrects its quantiles."""
    with opened(settings) as database:
        facts = asdict(database.registry.model(version))
        calibration = database.calibrations.newest(version)
    facts |= {name: moment(facts[name]) for name in TIMES}
    facts["calibration"] = _calibration(calibration) if calibration else {"version": 0}
    if as_json:
        show_json(facts)
        return
    parts = {name: facts.pop(name) for name in ("config", "metrics", "calibration")}
    show_table(["model", ""], list(facts.items()))
    for name, values in parts.items():
        click.echo()
        show_table([name, ""], _flat(values))


@models.command()
@click.argument("version", type=click.IntRange(0))
@click.option("--reason", default="promoted by hand", show_default=True, help="Kept in the history.")
@with_settings
def promote(settings: "Settings", version: int, reason: str) -> None:
    """Make a model VERSION the champion; running workers swap to it within seconds. 0 is the seasonal naive."""
    with opened(settings) as database:
        champion = database.registry.champion()
        if champion == version:
            click.echo(f"model {version} is the champion already")
            return
        if not database.registry.promote(version, expected=champion, reason=reason, now=now()):
            raise click.ClickException("the champion changed meanwhile; look at tidecast models list and repeat")
    click.echo(f"model {version} is the champion now" + (f"; it was {champion}" if champion else ""))


@models.command()
@with_settings
def rollback(settings: "Settings") -> None:
    """Make the champion before the present one champion again."""
    with opened(settings) as database:
        version = database.registry.rollback(now())
    click.echo(f"model {version} is the champion again")


def _summary(row: "ModelRow", champion: int | None) -> dict[str, Any]:
    return {
        "version": row.version,
        "champion": row.version == champion,
        "name": row.name,
        "created_at": moment(row.created_at),
        "train_to": moment(row.train_to),
        **{name: row.metrics.get(name) for name in ("mase", "wql", "coverage_80")},
        "verdict": row.metrics.get("verdict"),
    }


def _calibration(row: "Calibration") -> dict[str, Any]:
    return {
        "version": row.version,
        "created_at": moment(row.created_at),
        "from": moment(row.first),
        "to": moment(row.last),
        "n": row.n,
        "metrics": dict(row.metrics),
    }


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in values.items():
        rows += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(prefix + key, value)]
    return rows
