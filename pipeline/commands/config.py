"""tidecast config: what the settings are and whether they hold together."""

from typing import TYPE_CHECKING

import click

from pipeline.commands.display import say, show_json
from pipeline.commands.invocation import with_settings

if TYPE_CHECKING:
    from pipeline.settings import Settings


@click.group()
def config() -> None:
    """Show and check the settings."""


@config.command()
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@with_settings
def show(settings: "Settings", as_json: bool) -> None:
    """Show every setting as it is in force, as TOML; secrets are masked."""
    from pipeline.settings.sources import shown

    values = shown(settings)
    if as_json:
        show_json(values)
        return
    for section, keys in values.items():
        say(f"[{section}]")
        for key, value in keys.items():
            say(f"{key} = {toml(value)}" if value is not None else f"# {key} is not set")
        say()


@config.command()
@with_settings
def check(settings: "Settings") -> None:
    """Check the settings without connecting to anything; exit 2 and one line when they are wrong."""
    from jobs.catalog import timetable
    from jobs.clock.timetable import check_timing
    from pipeline.forecasting.windows import model_config
    from pipeline.grid.frequency import Frequency
    from pipeline.messages.codec import check_horizon
    from pipeline.settings.sources import masked

    model_config(settings, Frequency.of(settings.series), 0)
    check_horizon(settings.series.horizon)
    for timing in timetable(settings).values():
        if timing is not None:
            check_timing(timing)
    database = masked(settings.database.url.get_secret_value())
    kafka = settings.kafka
    say(f"settings are valid: {kafka.input_topic} on {kafka.bootstrap_servers} -> {database}")


def toml(value: object) -> str:
    """Write a plain value as TOML."""
    import json

    if isinstance(value, list):
        return "[" + ", ".join(toml(part) for part in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(part)}" for key, part in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False)
