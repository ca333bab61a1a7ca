"""tidecast models: what was trained, and which model serves."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from pipeline.commands.display import moment, say, show_json, show_rows, show_table
from pipeline.commands.invocation import with_settings
from pipeline.commands.opened import now, opened
from pipeline.errors import ConfigError
from pipeline.health.logs import start_logging
from pipeline.settings.secrets import list_secrets

if TYPE_CHECKING:
    from pipeline.database.models.registry import ModelRow, Registry
    from pipeline.forecasting.calibration import Calibration
    from pipeline.settings import Settings

TIMES = ("train_from", "train_to", "created_at")


@click.group()
def models() -> None:
    """List, show, compare, promote and roll back models, and end a shadow period."""


@models.command("list")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="The newest so many.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@with_settings
def list_models(settings: "Settings", limit: int, as_json: bool) -> None:
    """List the newest models and what their backtests said; version 0 is the seasonal naive."""
    with opened(settings) as database:
        champion, shadow = database.registry.champion(), database.registry.shadow()
        rows = [_summary(row, champion, shadow) for row in database.registry.models(limit)]
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
        champion, shadowing = database.registry.champion(), database.registry.shadowing()
    facts["champion"] = version == champion
    facts["shadow_since"] = moment(shadowing.since) if shadowing and shadowing.version == version else None
    facts |= {name: moment(facts[name]) for name in TIMES}
    facts["calibration"] = _calibration(calibration) if calibration else {"version": 0}
    if as_json:
        show_json(facts)
        return
    parts = {name: facts.pop(name) for name in ("config", "metrics", "calibration")}
    show_table(["model", ""], list(facts.items()))
    for name, values in parts.items():
        say()
        show_table([name, ""], _flat(values))


@models.command()
@click.argument("version", type=click.IntRange(0))
@click.argument("other", type=click.IntRange(0))
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@with_settings
def compare(settings: "Settings", version: int, other: int, as_json: bool) -> None:
    """Show the backtest figures of VERSION and OTHER side by side: the newest on the same windows, if any, else each
    one's newest. 0 is the seasonal naive.
    """
    with opened(settings) as database:
        pair = [_find_backtests(database.registry, each) for each in (version, other)]
    one, two = pair_up(*pair)
    same = bool(one["created_at"] == two["created_at"])
    columns = [_figures(row) for row in (one, two)]
    gain = _find_gain(one["wql"], two["wql"]) if same else None
    if as_json:
        show_json({"same_windows": same, "gain": gain, "models": columns})
        return
    header, *names = columns[0]
    show_table(
        [header, *(str(column[header]) for column in columns)], [[n, *(c.get(n) for c in columns)] for n in names]
    )
    say()
    if not same:
        say(f"{version} and {other} were never backtested together: their windows may differ")
    elif gain is None:
        say("on the same windows, without a loss (WQL) to compare")
    else:
        worse = "below" if gain >= 0.0 else "above"
        say(f"on the same windows: the loss (WQL) of {version} is {abs(gain):.1%} {worse} that of {other}")


@models.command()
@click.argument("version", type=click.IntRange(0))
@click.option("--reason", default="promoted by hand", show_default=True, help="Kept in the history.")
@with_settings
def promote(settings: "Settings", version: int, reason: str) -> None:
    """Make a model VERSION the champion; running workers swap to it within seconds. 0 is the seasonal naive."""
    start_logging(list_secrets(settings))
    with opened(settings) as database:
        champion = database.registry.champion()
        if champion == version:
            say(f"model {version} is the champion already")
            return
        if not database.registry.promote(version, expected=champion, reason=reason, now=now()):
            raise click.ClickException("the champion changed meanwhile; look at tidecast models list and repeat")
    say(f"model {version} is the champion now" + (f"; it was {champion}" if champion else ""))


@models.command()
@with_settings
def rollback(settings: "Settings") -> None:
    """Make the champion before the present one champion again."""
    start_logging(list_secrets(settings))
    with opened(settings) as database:
        version = database.registry.rollback(now())
    say(f"model {version} is the champion again")


@models.command("drop-shadow")
@click.option("--reason", default="dropped by hand", show_default=True, help="Kept in the history.")
@with_settings
def drop_shadow(settings: "Settings", reason: str) -> None:
    """End the shadow period without a verdict; `tidecast models promote` ends it too, for the shadow's version."""
    with opened(settings) as database:
        version = database.registry.shadow()
        if version is None:
            say("there is no shadow")
            return
        if not database.registry.drop_shadow(version, reason=reason, now=now()):
            raise click.ClickException("the shadow changed meanwhile; look at tidecast models list and repeat")
    say(f"model {version} is no shadow any more")


def pair_up(rows: list[dict[str, Any]], others: list[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Find the newest backtest that two models share, by its time, or take the newest of each; rows newest first."""
    there = {row["created_at"]: row for row in reversed(others)}
    shared = next((row for row in rows if row["created_at"] in there), None)
    return (shared, there[shared["created_at"]]) if shared else (rows[0], others[0])


def _find_backtests(registry: "Registry", version: int) -> list[dict[str, Any]]:
    registry.model(version)
    rows = registry.backtests(version, limit=1000)
    if not rows:
        raise ConfigError(f"model {version} has no backtest; a retraining makes one for each model that it compares")
    return rows


def _figures(row: dict[str, Any]) -> dict[str, Any]:
    own = {name: row[name] for name in ("wql", "mase", "coverage_80", "origins")}
    more = {name: value for name, value in row["metrics"].items() if name not in own and name != "steps"}
    times = {"compared_to": row["compared_to"], "backtest_at": moment(row["created_at"])}
    return {"version": row["model_version"], **own, "targets": row["n"], **more, **times}


def _find_gain(loss: float | None, reference: float | None) -> float | None:
    return 1.0 - loss / reference if loss is not None and reference else None


def _summary(row: "ModelRow", champion: int | None, shadow: int | None) -> dict[str, Any]:
    return {
        "version": row.version,
        "champion": row.version == champion,
        "shadow": row.version == shadow,
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
