"""Every relative link and anchor of README, docs/ and deploy/ leads somewhere, on a code host and in the site."""

import re

import pytest

from tests.documents import DOCUMENTS, FENCE, ROOT

OTHERS = ("CHANGELOG.md", "deploy/README.md", "deploy/runbook.md", "deploy/kafka/README.md", "tests/bench/README.md")
PAGES = {**DOCUMENTS, **{name: (ROOT / name).read_text(encoding="utf-8") for name in OTHERS}}
LINK = re.compile(r"\]\(([^)\s]+)\)")


def links(page: str) -> list[str]:
    return [link for link in LINK.findall(FENCE.sub("", PAGES[page])) if not re.match(r"https?:", link)]


def anchors(text: str) -> set[str]:
    """Give the anchors of the headings as code hosts make them, but no second one of the same words."""
    titles = re.findall(r"^#{1,6} (.*)$", FENCE.sub("", text), re.MULTILINE)
    plain = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title) for title in titles)
    return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in plain}


def broken(page: str, link: str) -> str | None:
    path, _, anchor = link.partition("#")
    target = ((ROOT / page).parent / path).resolve() if path else ROOT / page
    if not target.exists():
        return f"{page}: {link} does not exist"
    if anchor and anchor not in anchors(target.read_text(encoding="utf-8")):
        return f"{page}: {link} has no such heading"
    return None


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_a_page_leads_somewhere(page: str) -> None:
    assert [words for link in links(page) if (words := broken(page, link))] == []


def test_a_broken_link_and_a_broken_anchor_would_be_found() -> None:
    assert broken("docs/index.md", "nowhere.md") is not None
    assert broken("docs/index.md", "jobs.md#nothing") is not None
    assert broken("docs/index.md", "jobs.md#verdict") is None


@pytest.mark.parametrize("page", PAGES)
def test_a_heading_has_the_same_anchor_on_a_code_host_and_in_the_site(page: str) -> None:
    assert [anchor for anchor in anchors(PAGES[page]) if not anchor.isascii() or "--" in anchor] == []


@pytest.mark.parametrize("page", [page for page in DOCUMENTS if page.startswith("docs/")])
def test_a_page_links_to_files_which_the_site_can_show_and_to_no_folder(page: str) -> None:
    paths = [link.partition("#")[0] for link in links(page)]
    assert [path for path in paths if path and ((ROOT / page).parent / path).is_dir()] == []


def test_the_index_names_every_page() -> None:
    pages = {page.removeprefix("docs/") for page in DOCUMENTS if page.startswith("docs/")} - {"index.md"}
    assert {link.partition("#")[0] for link in links("docs/index.md")} >= pages
