"""The files of the page: everything it needs is there and served from here, and nothing in it parses text as markup."""

import re
from pathlib import Path

import pytest

STATIC = Path(__file__).parents[3] / "pipeline" / "web" / "static"
OWN = sorted(path for path in STATIC.iterdir() if path.suffix in {".js", ".css", ".html", ".svg"})
SCRIPTS = [path for path in OWN if path.suffix == ".js"]
MOST_LINES = 300


def name(path: Path) -> str:
    return path.name


@pytest.mark.parametrize("script", SCRIPTS, ids=name)
def test_every_module_that_is_imported_is_there_and_has_what_is_asked_of_it(script: Path) -> None:
    for wanted, source in re.findall(r'^import ([^;]+?) from "(.+?)";', script.read_text(encoding="utf-8"), re.M):
        text = (script.parent / source).read_text(encoding="utf-8")
        listed = [each.split(" as ")[0].strip() for each in wanted.strip("{} \n").split(",")]
        names = {each for each in listed if each} if wanted.startswith("{") else {"default"}
        exported = set(re.findall(r"^export (?:async )?(?:function|class|const) (\w+)", text, re.M))
        exported |= {"default"} if re.search(r"export (default|\{ \w+ as default \})", text) else set()
        assert names <= exported, f"{script.name} imports {names - exported} from {source}"


def test_every_file_that_the_document_names_is_there() -> None:
    named = re.findall(r'(?:src|href)="([^"#]+)"', (STATIC / "index.html").read_text(encoding="utf-8"))
    assert "static/app.js" in named
    for each in named:
        assert each.startswith("static/")  # relative, so that a reverse proxy may put the page under a prefix
        assert (STATIC.parent / each).is_file(), each


def test_every_script_is_reached_from_the_document() -> None:
    reached, waiting = set(), {"app.js", "theme.js"}
    while waiting:
        script = waiting.pop()
        reached.add(script)
        waiting |= set(re.findall(r'from "\./([\w-]+\.js)"', (STATIC / script).read_text(encoding="utf-8"))) - reached
    assert reached == {script.name for script in SCRIPTS}


@pytest.mark.parametrize("path", OWN, ids=name)
def test_nothing_is_markup_from_text_or_loaded_from_elsewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "DOMParser", "srcdoc"):
        assert forbidden not in text
    assert set(re.findall(r"https?://[^\s\"')]+", text)) <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"@import|url\(", text)


def test_the_document_has_no_script_or_style_of_its_own() -> None:
    text = (STATIC / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|\sstyle=|\son\w+=", text)
    assert re.findall(r"<script[^>]*>([^<]*)</script>", text) == ["", ""]


@pytest.mark.parametrize("path", [each for each in OWN if each.suffix in {".js", ".css"}], ids=name)
def test_a_file_is_no_longer_than_a_module(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def test_the_vendored_library_has_its_licence() -> None:
    assert "Permission is hereby granted" in (STATIC / "vendor" / "uPlot.LICENSE").read_text(encoding="utf-8")
    version = re.search(r"\(v([\d.]+)\)", (STATIC / "vendor" / "uPlot.esm.js").read_text(encoding="utf-8")[:500])
    assert version is not None
    assert version[1] == "1.6.32"
