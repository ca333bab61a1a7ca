"""docs/protocol.md names the steps, the crash points and the tests that the code has."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

import pipeline.stream.claim
import pipeline.stream.reforecast
import pipeline.stream.turn
from tests.faults import worker
from tests.faults.test_points import KILLS
from tests.unit.stream.test_protocol import POINTS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
SVG = ROOT / "docs" / "protocol.svg"


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def steps(docstring: str | None) -> list[str]:
    """The numbered lines of a docstring: the number and the name, which ends at a gap."""
    return [f"{number} {name}" for number, name in re.findall(r"^ *(\d) (\S+(?: \S+)*?) {2,}", docstring or "", re.M)]


@pytest.mark.parametrize(
    ("title", "docstring"),
    [
        ("A turn", pipeline.stream.turn.__doc__),
        ("A claim", pipeline.stream.claim.__doc__),
        ("A swap", pipeline.stream.reforecast.__doc__),
    ],
)
def test_the_steps_are_those_of_the_code(title: str, docstring: str | None) -> None:
    assert len(steps(docstring)) == 4
    assert re.findall(r"^### (.+)$", section(title), re.M) == steps(docstring)


def rows() -> dict[str, str]:
    """The table of crash points: what stands after each."""
    found: dict[str, str] = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", section("What a crash leaves"), re.M))
    return found


def passed() -> list[str]:
    """The points of the code, in the order in which its lines pass them."""
    modules = (pipeline.stream.turn, pipeline.stream.claim)
    texts = [Path(str(module.__file__)).read_text(encoding="utf-8") for module in modules]
    return [point for text in texts for point in re.findall(r'parts\.passed\("(\w+)"\)', text)]


def test_the_crash_points_are_those_of_the_code_and_of_the_tests() -> None:
    assert set(rows()) == set(passed())
    assert tuple(rows()) == POINTS == worker.POINTS


def test_each_point_is_killed_at_as_the_table_says() -> None:
    for point, row in rows().items():
        told = re.findall(r"`(KILL@\w+:\d)`", row)
        assert told, point
        assert set(told) == {kill for kill in KILLS if kill.startswith(f"KILL@{point}:")}


def test_the_tests_that_are_named_exist() -> None:
    files = [ROOT / "docs" / link for link in re.findall(r"\]\((\.\./tests/[^)]+)\)", PAGE)]
    text = "".join(file.read_text(encoding="utf-8") for file in files)
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert len(named) > 8
    assert {name for name in named if f"def {name}(" not in text} == set()


def test_the_picture_names_the_steps_and_is_for_light_and_dark() -> None:
    words = [element.text for element in ElementTree.parse(SVG).iter("{http://www.w3.org/2000/svg}text")]
    for step in steps(pipeline.stream.turn.__doc__):
        assert step in words
    assert "prefers-color-scheme: dark" in SVG.read_text(encoding="utf-8")


def test_every_number_is_that_of_the_code() -> None:
    assert f"at most {pipeline.stream.turn.MOST_MESSAGES:,} messages" in PAGE
