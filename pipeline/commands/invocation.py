"""What the root options of a call mean to a command: which settings, and how to pass them on to a child process."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

import click

if TYPE_CHECKING:
    from pipeline.settings import Settings

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Invocation:
    """The root options; `settings` are read when a command first asks, so that `--help` never fails."""

    config: Path | None = None
    sets: tuple[str, ...] = ()

    @functools.cached_property
    def settings(self) -> "Settings":
        """The settings, or ConfigError."""
        from pipeline.commands.display import say
        from pipeline.settings.sources import load, refuse_secrets

        refuse_secrets(self.sets)
        return load(self.config, self.sets, tell=lambda line: say(f"tidecast: settings: {line}", err=True))

    def arguments(self) -> list[str]:
        """The same root options, for the command line of a child process."""
        arguments = ["--config", str(self.config)] if self.config else []
        for text in self.sets:
            arguments += ["--set", text]
        return arguments


def with_settings(command: "Callable[Concatenate[Settings, P], R]") -> Callable[P, R]:
    """Call a command with the settings of this invocation as its first argument."""

    @functools.wraps(command)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        invocation = click.get_current_context().find_object(Invocation) or Invocation()
        return command(invocation.settings, *args, **kwargs)

    return call
