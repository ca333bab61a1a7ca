"""The console script `tidecast`: a table of commands, each imported when it is called."""

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import click

from pipeline.commands.invocation import Invocation
from pipeline.errors import TidecastError
from pipeline.health.lifeline import hold
from pipeline.visible import visible

INTERRUPTED = 130

# Name -> where the command lives and its line in `tidecast --help`, so that the help imports none of them.
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("pipeline.commands.demo:demo", "Forecast real data on this machine in two minutes."),
    "run": ("pipeline.commands.services:run", "Run everything on this machine: stream workers and scheduler."),
    "stream": ("pipeline.commands.services:stream", "Run one stream worker: topic in, SQL and forecasts out."),
    "schedule": ("pipeline.commands.jobs:schedule", "Run the scheduler: every job on its timetable."),
    "serve": ("pipeline.commands.serve:serve", "Serve the page and its read-only API."),
    "metrics": ("pipeline.commands.jobs:metrics", "Write the metrics of the jobs, as Prometheus reads them."),
    "job": ("pipeline.commands.jobs:job", "Run a job now, pause and list the jobs, show what ran."),
    "produce": ("pipeline.commands.produce:produce", "Replay a CSV or Parquet file into the input topic."),
    "backtest": ("pipeline.commands.backtest:backtest", "Judge a forecaster on a file, beside seasonal naive."),
    "models": ("pipeline.commands.models:models", "List, show, compare, promote and roll back models."),
    "forecast": ("pipeline.commands.forecast:forecast", "Read, export and plot forecasts."),
    "readings": ("pipeline.commands.readings:readings", "Remove or correct readings of a series."),
    "dead-letters": ("pipeline.commands.dead_letters:dead_letters", "Read and requeue messages that were refused."),
    "db": (
        "pipeline.commands.db:db",
        "Upgrade or copy the database, show its schema's revision, let a role read.",
    ),
    "config": ("pipeline.commands.config:config", "Show and check the settings."),
    "doctor": ("pipeline.commands.doctor:doctor", "Check everything this machine needs, and say what to do."),
    "broker": ("pipeline.commands.services:broker", "Run the development broker on this machine."),
}


class Commands(click.Group):
    """The root group over COMMANDS."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands in the order in which a user meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Settings file; ./tidecast.toml if it is there.",
)
@click.option("--set", "sets", multiple=True, metavar="SECTION.KEY=VALUE", help="Override one setting; repeatable.")
@click.version_option(package_name="tidecast", prog_name="tidecast", message="%(prog)s %(version)s")
@click.pass_context
def root(context: click.Context, config: Path | None, sets: tuple[str, ...]) -> None:
    """Fresh probabilistic forecasts for every series in a Kafka topic, in SQL and on an output topic.

    Settings come from tidecast.toml, then TIDECAST_SECTION__KEY in the environment, then --set. Exit codes: 0 done,
    1 something outside is broken, 2 wrong settings or usage.
    """
    context.obj = Invocation(config, sets)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command; every expected error is one line on stderr."""
    hold()
    code: Any = 0
    try:
        code = root.main(arguments, prog_name="tidecast", standalone_mode=False)
    except TidecastError as error:
        code = _say(str(error), error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = error.exit_code
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "tidecast"
        code = _say(f"{error.format_message()} (see {path} --help)", error.exit_code)
    except click.ClickException as error:
        code = _say(error.format_message(), error.exit_code)
    except OSError as error:
        code = _say(f"{error.filename or 'input or output'}: {error.strerror or error}", 1)
    except (click.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    sys.exit(code if isinstance(code, int) else 0)


def _say(message: str, exit_code: int) -> int:
    click.echo(f"tidecast: {visible(' '.join(message.split()))}", err=True)
    return exit_code


if __name__ == "__main__":
    main()
