"""Parse a command line of tidecast as click does, without running it."""

from collections.abc import Sequence

import click

from pipeline.cli import root


def parse(words: Sequence[str]) -> click.Context:
    """Return the context of the command that `words` (without `tidecast`) call; click.UsageError if there is none."""
    name: str | None = "tidecast"
    command: click.Command | None = root
    context: click.Context | None = None
    rest = list(words)
    while True:
        assert command is not None
        context = command.make_context(name, rest, parent=context)
        if not isinstance(command, click.Group):
            return context
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
