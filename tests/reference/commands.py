"""docs/reference/commands.md: every command with its arguments and options, from click."""

import inspect
from collections.abc import Iterator

import click

from pipeline.cli import COMMANDS, root
from tests.reference.tables import code, page, sentence, table

INTRODUCTION = """\
Every command takes `-h` and `--help`. An error is one line on stderr that says what to do.
Exit codes: 0 done, 1 something outside is broken, 2 wrong settings or usage, 130 interrupted.
"""


def write() -> str:
    """Write the page."""
    context = click.Context(root, info_name="tidecast")
    groups = [(name, text) for name, (_, text) in COMMANDS.items()]
    rows = [(f"[`tidecast {name}`](#tidecast-{name})", text) for name, text in groups]
    parts = [INTRODUCTION, "## tidecast", *_describe(root, context), table(("command", "what it does"), rows)]
    for name, _ in groups:
        command = root.get_command(context, name)
        assert command is not None
        parts += _command(command, click.Context(command, info_name=name, parent=context), depth=2)
    return page("Commands", *parts)


def _command(command: click.Command, context: click.Context, depth: int) -> Iterator[str]:
    yield f"{'#' * depth} {context.command_path}"
    yield from _describe(command, context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from _command(below, click.Context(below, info_name=name, parent=context), depth + 1)


def _describe(command: click.Command, context: click.Context) -> Iterator[str]:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield f"```text\n{usage}\n```"
    yield inspect.cleandoc(command.help or "")
    options = [each for each in command.params if isinstance(each, click.Option) and not each.hidden]
    rows = [(_names(each), _default(each, context), _meaning(each, context)) for each in options if _is_own(each)]
    yield table(("option", "default", "meaning"), rows)


def _is_own(option: click.Option) -> bool:
    return "--help" not in option.opts


def _names(option: click.Option) -> str:
    names = ", ".join(code(name) for name in (*option.opts, *option.secondary_opts))
    return names if option.is_flag else f"{names} {code(_value(option))}"


def _value(option: click.Option) -> str:
    return option.metavar or (option.name or "value").upper()


def _default(option: click.Option, context: click.Context) -> str:
    shown = option.to_info_dict()["default"]
    return "" if option.is_flag or shown in (None, (), []) or "UNSET" in str(shown) else code(str(shown))


def _meaning(option: click.Option, context: click.Context) -> str:
    said = [sentence(option.help)] if option.help else []
    match option.type:
        case click.Choice(choices=choices):
            said.append(f"One of {', '.join(code(str(each)) for each in choices)}.")
        case click.IntRange(min=low, max=high) | click.FloatRange(min=low, max=high):
            above = getattr(option.type, "min_open", False)
            limits = [f"above {low:g}" if above else f"{low:g} or more"] if low is not None else []
            limits += [f"{high:g} at most"] if high is not None else []
            said.append(sentence(", ".join(limits)))
    if option.required:
        said.append("Required.")
    if option.multiple and "repeat" not in (option.help or ""):
        said.append("Repeatable.")
    return " ".join(said)
