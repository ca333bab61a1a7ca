"""Hooks of ProperDocs: files outside docs/ that a page links to become part of the site, under source/.

A Markdown file becomes a page whose own links are followed, any other file a page of its highlighted text. So no link
leaves the site, and a broken one is found.
"""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from properdocs.config.defaults import ProperDocsConfig
from properdocs.structure.files import File, Files
from properdocs.structure.pages import Page
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import TextLexer, get_lexer_for_filename
from pygments.util import ClassNotFound

ROOT = Path(__file__).parents[1]
FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
TITLE = re.compile(r'^```(\w+) title="([^"]+)"$', re.MULTILINE)
LINK = re.compile(r"(?<=\]\()(?!https?:|#)([^)#\s]+)")
DARK = "[data-bs-theme=dark] .codehilite"


def on_files(files: Files, config: ProperDocsConfig) -> Files:
    """Add every file that a page links to, and the colours of code."""
    waiting = [f"docs/{file.src_uri}" for file in files.documentation_pages()]
    seen = {f"docs/{file.src_uri}" for file in files if file.inclusion.is_included()}
    while waiting:
        origin = waiting.pop()
        for path in linked(origin, (ROOT / origin).read_text(encoding="utf-8")):
            if path in seen or not (ROOT / path).is_file():
                continue  # one that does not exist is reported as a broken link
            seen.add(path)
            files.append(outside(path, config))
            if path.endswith(".md"):
                waiting.append(path)
    files.append(File.generated(config, "highlight.css", content=colours()))
    return files


def on_page_markdown(markdown: str, page: Page, config: ProperDocsConfig, files: Files) -> str:
    """Point the links of a page at the site."""
    here = page.file.src_uri
    origin = here.removeprefix("source/") if here.startswith("source/") else f"docs/{here}"

    def point(found: re.Match[str]) -> str:
        return posixpath.relpath(place(resolve(origin, found[1])), posixpath.dirname(here) or ".")

    pointed = (part if part.startswith("```") else LINK.sub(point, part) for part in FENCE.split(markdown))
    return TITLE.sub(r"**\2**\n\n```\1", "".join(pointed))  # Python-Markdown knows no title of a block


def linked(origin: str, markdown: str) -> Iterator[str]:
    """Give the paths, from the root of the repository, that a document links to."""
    for part in FENCE.split(markdown):
        if not part.startswith("```"):
            yield from (resolve(origin, link) for link in LINK.findall(part))


def resolve(origin: str, link: str) -> str:
    """Give the path of a link's target, from the root of the repository."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(origin), link))


def place(path: str) -> str:
    """Say where in the site's sources a file of the repository is."""
    if path.startswith("docs/") and not path.endswith(".py"):
        return path.removeprefix("docs/")
    return f"source/{path}" if path.endswith(".md") else f"source/{path}.html"


def outside(path: str, config: ProperDocsConfig) -> File:
    """Make a file of the site of a file of the repository."""
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.endswith(".md"):
        return File.generated(config, place(path), content=text)
    try:
        lexer = get_lexer_for_filename(path)
    except ClassNotFound:
        lexer = TextLexer()
    return File.generated(config, place(path), content=highlight(text, lexer, HtmlFormatter(full=True, title=path)))


def colours() -> str:
    """Write the style of highlighted code, light and dark."""
    light = HtmlFormatter(style="default").get_style_defs(".codehilite")
    return f"{light}\n{HtmlFormatter(style='github-dark').get_style_defs(DARK)}\n"
