"""How commands show things: aligned tables, JSON, progress; plain text when stdout or stderr is not a terminal."""

import contextlib
import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from pipeline.visible import visible, visible_cell, visible_lines

if TYPE_CHECKING:
    from jobs.clock.outcome import Stage

EPOCH, MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
PLAIN_LINE_EVERY = 5.0  # seconds between two progress lines of a long step in a log
Row = Mapping[str, Any]


def say(text: str = "", *, err: bool = False) -> None:
    """Write one line for a person; what is in it from outside cannot act on a terminal."""
    click.echo(visible(text), err=err)


def say_lines(text: str) -> None:
    """Write a text of several lines for a person, and end the last one."""
    click.echo(visible_lines(text), nl=not text.endswith("\n"))


def say_exactly(text: str) -> None:
    """Write a text for a program as it is, but on a terminal for a person."""
    if sys.stdout.isatty():
        say_lines(text)
    else:
        click.echo(text, nl=False)


def say_heading(title: str, text: str, width: int, *, err: bool = False) -> None:
    """Write the first line of a part, after an empty one: a bold title of so many columns, and a text."""
    click.echo(err=err)
    click.echo(f"{click.style(title.ljust(width), bold=True)} {visible(text)}".rstrip(), err=err)


def write_json(value: object, indent: int | None = None) -> str:
    """Encode JSON in ASCII without a character that acts on a terminal; it reads as exactly what was given."""
    return json.dumps(value, indent=indent, default=str).replace("\x7f", "\\u007f")


def show_json(value: object) -> None:
    """Write one JSON document to stdout."""
    click.echo(write_json(value, indent=2))


def show_rows(rows: Sequence[Row], *, as_json: bool, empty: str) -> None:
    """Write rows as a table, or as a JSON list; `empty` says in words that there are none."""
    if as_json:
        show_json([dict(row) for row in rows])
    elif rows:
        show_table(list(rows[0]), [list(row.values()) for row in rows])
    else:
        say(empty)


def show_table(header: Sequence[str], rows: Iterable[Sequence[object]], indent: str = "") -> None:
    """Write an aligned table, numbers to the right."""
    lines = table(header, rows)
    click.echo(indent + click.style(lines[0], bold=True))
    for line in lines[1:]:
        click.echo(indent + line)


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Lay out a header and rows in columns."""
    values = [list(row) for row in rows]
    texts = [[cell(value) for value in row] for row in values]
    header = [visible_cell(name) for name in header]
    lines = []
    widths = [max(len(name), *(len(row[i]) for row in texts), 0) for i, name in enumerate(header)]
    right = [any(isinstance(row[i], int | float | Numeral) for row in values) for i in range(len(header))]
    for row in [header, *texts]:
        fields = [
            text.rjust(width) if flush else text.ljust(width)
            for text, width, flush in zip(row, widths, right, strict=True)
        ]
        lines.append("  ".join(fields).rstrip())
    return lines


class Numeral(str):
    """A number as text, which a table sets to the right like any other."""

    __slots__ = ()


def show_near(numbers: Sequence[float]) -> list[Numeral]:
    """Write numbers that belong together, as quantiles of one step, with the digits in which they differ."""
    width, size = max(numbers) - min(numbers), max(abs(number) for number in numbers)
    digits = 6 if width == 0.0 else min(17, max(6, 4 + math.ceil(math.log10(size / width))))
    return [Numeral(f"{number + 0.0:.{digits}g}") for number in numbers]


def cell(value: object) -> str:
    """Write one value for a person."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value + 0.0:.6g}"  # + 0.0: no minus before a zero
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="seconds").removesuffix("+00:00")
    if isinstance(value, dict | list):
        return visible_cell(write_json(value))
    return visible_cell(str(value))


def moment(microseconds: int | None) -> datetime | None:
    """Turn microseconds since 1970 into a UTC datetime."""
    if microseconds is None:
        return None
    return EPOCH + microseconds * MICROSECOND


def read_moment(text: str, option: str) -> int:
    """Read a time on the command line as microseconds; without an offset it is UTC."""
    from pipeline.grid.times import OUTSIDE, read_written
    from pipeline.grid.untimely import explain_written

    time = read_written(text, utc=True)
    if time == OUTSIDE:
        advice = "write 2026-01-31 or 2026-01-31T12:00:00Z, from 1900 to 2190"
        raise click.UsageError(f"{option}: {explain_written(text)}; {advice}", click.get_current_context(silent=True))
    return time


@contextlib.contextmanager
def progress(label: str, total: int | None, *, quiet: bool = False) -> Iterator[Callable[[int], None]]:
    """Show how far a long step is, on stderr: a bar on a terminal, a line now and then elsewhere.

    Yields `advance(count)`.
    """
    if quiet:
        yield lambda _: None
    elif sys.stderr.isatty():
        with _bar(label, total) as advance:
            yield advance
    else:
        yield _lines(label, total)


@contextlib.contextmanager
def _bar(label: str, total: int | None) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("  {task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(visible(label), total=total)
        yield lambda count: bar.advance(task, count)


def _lines(label: str, total: int | None) -> Callable[[int], None]:
    done, shown = 0, time.monotonic()

    def advance(count: int) -> None:
        nonlocal done, shown
        done += count
        if done == total or time.monotonic() - shown >= PLAIN_LINE_EVERY:
            shown = time.monotonic()
            say(f"  {label}: {done:,}" + (f" of {total:,}" if total else ""), err=True)

    return advance


@contextlib.contextmanager
def stages() -> "Iterator[Callable[[Stage], None]]":
    """Show a job's stages on stderr: a bar on a terminal, a line for each new stage and now and then elsewhere."""
    if not sys.stderr.isatty():
        yield _stage_lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("  {task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[words]}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("retrain", total=None, words="")

        def show(stage: "Stage") -> None:
            words = visible(stage.words)
            bar.update(task, description=stage.name, completed=stage.done, total=stage.total or None, words=words)

        yield show


def _stage_lines() -> "Callable[[Stage], None]":
    shown, name = 0.0, ""

    def show(stage: "Stage") -> None:
        nonlocal shown, name
        if stage.name != name or time.monotonic() - shown >= PLAIN_LINE_EVERY:
            shown, name = time.monotonic(), stage.name
            steps = f" {stage.done:,} of {stage.total:,}" if stage.total else ""
            say(f"  {stage.name}{steps}" + (f": {stage.words}" if stage.words else ""), err=True)

    return show
