"""Text from outside, written so that a person sees what it is and nothing acts on it.

Names are read from the stream. On a terminal an escape sequence in one clears the screen, a line end forges a row of a
table, a bidirectional override turns the text around it, and a zero-width character hides; in a spreadsheet a cell that
begins with an equals sign is a formula. JSON and Parquet need none of this and stay exact.
"""

import re
from collections.abc import Mapping, MutableMapping
from typing import Any

_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}
_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0").union(
    *(map(chr, span) for span in (range(0x180B, 0x1810), range(0xFE00, 0xFE10), range(0xE0100, 0xE01F0)))
)
"""Characters that Unicode calls letters or marks, and nobody sees: fillers, joiners, selectors of variants."""
_SPACES = re.compile("  +")
_FORMULA = re.compile("[=+\\-@'\t\r\n\uff1d\uff0b\uff0d\uff20]")
_MANY_LINES = ("exception", "stack")


def visible(text: str) -> str:
    r"""Escape what cannot be seen (control, format, bidirectional, zero-width, unassigned) as \u001b; in one line."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        each if each.isprintable() and each not in _INVISIBLE else _SHORT.get(each) or _escaped(each) for each in text
    )


def visible_lines(text: str) -> str:
    """Escape like `visible`, but keep line ends as they are in a text that has several lines."""
    return "\n".join(visible(line) for line in text.split("\n"))


def visible_cell(text: str) -> str:
    """Escape like `visible` for a table, whose columns are two spaces apart: further spaces are escaped, too."""
    return _SPACES.sub(lambda run: " " + r"\u0020" * (len(run[0]) - 1), visible(text))


def csv_cell(value: Any) -> Any:
    """Write a text for a CSV file that a spreadsheet may open; a number, or None, stays what it is.

    An apostrophe goes before a text that begins like a formula, or with an apostrophe, so that removing one gives the
    text back.
    """
    if not isinstance(value, str):
        return value
    return ("'" if _FORMULA.match(value) else "") + visible(value)


class Escaping:
    """A processor of structlog for a terminal, where texts are shown as they are: escapes every text of an event."""

    def __call__(self, logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Return the event without a character that acts."""
        return {
            name: visible_lines(value) if name in _MANY_LINES and isinstance(value, str) else _seen(value)
            for name, value in event.items()
        }


def _seen(value: Any) -> Any:
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, Mapping):
        return {_seen(name): _seen(own) for name, own in value.items()}
    if isinstance(value, list | tuple):
        return [_seen(own) for own in value]
    return value


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


SHOWN = 60
"""Characters of a message's own that a reason quotes at most."""


def shown(text: str, most: int = SHOWN) -> str:
    """Cut a text and write what cannot be printed as escapes: no line end, no terminal code, no half surrogate."""
    written: list[str] = []
    length = 0
    for character in text[:most]:
        one = character if character.isprintable() else character.encode("unicode_escape", "surrogatepass").decode()
        length += len(one)
        if length > most - 1:
            return "".join(written) + "…"
        written.append(one)
    return "".join(written) + ("…" if len(text) > most else "")


def quoted(text: str, most: int = SHOWN) -> str:
    """Show a text in double quotes."""
    return f'"{shown(text, most - 2)}"'
