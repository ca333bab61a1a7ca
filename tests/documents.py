"""README and the pages of docs/, as tests read them: by path from the root of the repository."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PATHS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
DOCUMENTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in PATHS}
TEXT = "\n".join(DOCUMENTS.values())


def blocks(language: str, page: str | None = None) -> list[str]:
    """Give the fenced blocks of a language, of one page or of all."""
    text = TEXT if page is None else DOCUMENTS[page]
    return [block for name, block in FENCE.findall(text) if name == language]


def prose(page: str | None = None) -> str:
    """Give what is outside the blocks, of one page or of all."""
    return FENCE.sub("", TEXT if page is None else DOCUMENTS[page])
