"""Which pages there are, and whether one says what the code says."""

from collections.abc import Callable, Mapping
from difflib import unified_diff
from itertools import islice
from pathlib import Path

from tests.reference import api, commands, metrics, settings

FOLDER = Path(__file__).parents[2] / "docs" / "reference"
PAGES: Mapping[str, Callable[[], str]] = {
    "settings.md": settings.write,
    "commands.md": commands.write,
    "metrics.md": metrics.write,
    "api.md": api.write,
}
"""The pages that need nothing but the code."""
VIEWS = "views.md"
"""The page that needs a PostgreSQL server."""


def difference(name: str, text: str) -> str:
    """Say in what a page differs from what the code says, and the command that mends it; empty if in nothing."""
    file = FOLDER / name
    kept = file.read_text(encoding="utf-8") if file.exists() else ""
    if kept == text:
        return ""
    lines = unified_diff(kept.splitlines(), text.splitlines(), f"docs/reference/{name}", "the code", n=0, lineterm="")
    return "\n".join([f"docs/reference/{name} is out of date: run `make reference`", *islice(lines, 40)])
