"""tidecast db: the schema of the database."""

from typing import TYPE_CHECKING

import click

from pipeline.commands.display import show_json
from pipeline.commands.invocation import with_settings

if TYPE_CHECKING:
    from pipeline.settings import Settings


@click.group()
def db() -> None:
    """Upgrade the database schema, show its revision, let a role read."""


@db.command()
@with_settings
def upgrade(settings: "Settings") -> None:
    """Create the tables, or bring them and the views to this release; safe to repeat."""
    from pipeline.database import current
    from pipeline.database import upgrade as bring_up

    url = settings.database.url.get_secret_value()
    bring_up(url)
    click.echo(f"the schema is at {current(url)}")


@db.command()
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@with_settings
def current(settings: "Settings", as_json: bool) -> None:
    """Show the schema's revision and the one that this release needs."""
    from pipeline.database import current as find
    from pipeline.database.migrate import head

    found, needed = find(settings.database.url.get_secret_value()), head()
    if as_json:
        show_json({"current": found, "needed": needed})
    else:
        click.echo(f"{found}" if found == needed else f"{found}; this release needs {needed}: run tidecast db upgrade")


@db.command("grant-read")
@click.argument("role")
@with_settings
def grant_read(settings: "Settings", role: str) -> None:
    """Let the PostgreSQL role ROLE, which must exist, read all tables and views but no artifact; safe to repeat."""
    from pipeline.database.grants import grant_read as grant

    grant(settings.database.url.get_secret_value(), role)
    click.echo(f"{role} may read every table and view, those of later releases too, and write nothing")
