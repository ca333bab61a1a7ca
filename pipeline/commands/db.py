"""tidecast db: the schema of the database."""

from typing import TYPE_CHECKING

import click

from pipeline.commands.display import say, show_json
from pipeline.commands.invocation import with_settings
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.settings import Settings


@click.group()
def db() -> None:
    """Upgrade the schema, show its revision, let a role read or work, copy a database, bind it to a deployment."""


@db.command()
@with_settings
def upgrade(settings: "Settings") -> None:
    """Create the tables, or bring them and the views to this release; safe to repeat, and to go on with if cut short.

    Stop all workers before. Forecasts of a release before schema 0012 become one row each, which takes about half a
    minute for every million steps.
    """
    from jobs.clock.outcome import Stage
    from pipeline.commands.display import stages
    from pipeline.database import current
    from pipeline.database import upgrade as bring_up

    url = settings.database.url.get_secret_value()
    with stages() as on_stage:
        left_out = bring_up(
            url, lambda done, total: on_stage(Stage("packing forecasts, series by series", done, total))
        )
    if left_out:
        count = "1 forecast" if left_out == 1 else f"{left_out:,} forecasts"
        say(f"{count} of which somebody had deleted steps {'was' if left_out == 1 else 'were'} left out")
    say(f"the schema is at {current(url)}")


@db.command()
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@with_settings
def current(settings: "Settings", as_json: bool) -> None:
    """Show the schema's revision and the one that this release needs."""
    from pipeline.database import current as find
    from pipeline.database.schema.migrate import head

    found, needed = find(settings.database.url.get_secret_value()), head()
    if as_json:
        show_json({"current": found, "needed": needed})
    else:
        say(f"{found}" if found == needed else f"{found}; this release needs {needed}: run tidecast db upgrade")


@db.command()
@with_settings
def rebind(settings: "Settings") -> None:
    """Let the database belong to the deployment of these settings: after its group or a topic was renamed.

    Stop all workers before. The grid cannot change once there are observations.
    """
    from pipeline.commands.opened import now, opened
    from pipeline.start import binding_of

    with opened(settings) as database:
        changed = database.pipelines.rebind(binding_of(settings), now())
    say(f"changed {', '.join(changed)}" if changed else "the database belongs to this deployment already")


@db.command("grant-read")
@click.argument("role")
@with_settings
def grant_read(settings: "Settings", role: str) -> None:
    """Let the PostgreSQL role ROLE, which must exist, read all tables and views but no artifact; safe to repeat."""
    from pipeline.database.schema.grants import grant_read as grant

    grant(settings.database.url.get_secret_value(), role)
    say(f"{role} may read every table and view, those of later releases too, and write nothing")


@db.command("grant-work")
@click.argument("role")
@with_settings
def grant_work(settings: "Settings", role: str) -> None:
    """Let the PostgreSQL role ROLE, which must exist, run workers, schedulers and commands; repeat it after an upgrade.

    It reads everything and changes rows; it changes no table, and no row of what is a record.
    """
    from pipeline.database.schema.grants import grant_work as grant

    grant(settings.database.url.get_secret_value(), role)
    say(f"{role} may read everything and change rows, and change no table")


@db.command()
@click.option("--from", "source", required=True, metavar="URL", help="The database to copy, sqlite:///old.db.")
@with_settings
def copy(settings: "Settings", source: str) -> None:
    """Copy everything from another database into that of database.url, which must be empty; stop all workers before.

    Rows are counted and compared; if anything differs, or a worker stored something meanwhile, nothing is copied.
    """
    from jobs.clock.outcome import Stage
    from pipeline.commands.display import stages
    from pipeline.commands.opened import now
    from pipeline.database.transfer import copy_database
    from pipeline.settings.sources import masked

    if masked(source) != source:
        raise ConfigError("--from: a command line is no place for a password; use PGPASSWORD or ~/.pgpass")
    with stages() as on_stage:
        done = copy_database(
            source,
            settings.database.url.get_secret_value(),
            now=now(),
            on_table=lambda table, rows, total: on_stage(Stage(table, rows, total)),
        )
    rows = {name: count for name, count in done.rows.items() if count}
    say(f"copied {sum(rows.values()):,} rows of {len(rows)} tables, and compared them")
