"""The site of docs/: it builds as `make docs` builds it, without a warning, and loads nothing from another host."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.documents import DOCUMENTS, ROOT
from tests.servers import required

MISSING = "ProperDocs is not installed; `make docs` or `make test` installs it"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("properdocs") is None:
        if required():
            pytest.fail(MISSING)
        pytest.skip(MISSING)
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "properdocs", "build", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


def paths(part: str | list[dict[str, str]]) -> list[str]:
    return [part] if isinstance(part, str) else [path for entry in part for path in entry.values()]


def test_the_navigation_names_every_page() -> None:
    nav = yaml.safe_load((ROOT / "properdocs.yml").read_text(encoding="utf-8"))["nav"]
    named = [f"docs/{path}" for entry in nav for part in entry.values() for path in paths(part)]
    assert sorted(named) == sorted(page for page in DOCUMENTS if page.startswith("docs/"))


def test_every_page_is_there_and_what_pages_link_to_outside_docs(site: Path) -> None:
    made = {path.relative_to(site).as_posix() for path in site.rglob("*.html")}
    pages = [page.removeprefix("docs/") for page in DOCUMENTS if page.startswith("docs/")]
    assert {page.removesuffix(".md") + ".html" for page in pages} <= made
    assert {"source/index.html", "source/deploy/runbook.html", "source/docs/site.py.html"} <= made


def test_a_page_loads_nothing_from_another_host(site: Path) -> None:
    for path in site.rglob("*.html"):
        loaded = re.findall(r"<(?:script|img|link)\b[^>]*(?:src|href)=\"([^\"]+)", path.read_text(encoding="utf-8"))
        assert [address for address in loaded if re.match(r"(https?:)?//", address)] == [], path
