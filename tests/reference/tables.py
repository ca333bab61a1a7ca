"""Markdown of the reference: a line that says where a page comes from, cells, tables."""

from collections.abc import Iterable, Sequence

ORIGIN = "<!-- Written from the code by `make reference`. Change the code, not this file. -->"


def page(title: str, *parts: str) -> str:
    """Join the parts of a page, with one empty line between them."""
    return "\n\n".join([f"# {title}", ORIGIN, *(part.strip("\n") for part in parts if part.strip())]) + "\n"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table; empty if there is no row."""
    lines = ["| " + " | ".join(cell(text) for text in row) + " |" for row in rows]
    return "\n".join(["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads), *lines]) if lines else ""


def cell(text: str) -> str:
    """Put a text on one line in which a pipe is not the end of the cell."""
    return " ".join(text.split()).replace("|", "\\|") or "-"


def code(text: str) -> str:
    """Set a text as code; nothing stays nothing."""
    return f"`{text}`" if text else ""


def sentence(text: str) -> str:
    """Let a text begin with a capital and end with a full stop."""
    flat = " ".join(text.split())
    return flat[:1].upper() + flat[1:] + ("" if flat.endswith((".", "?", "!", ":")) else ".")
