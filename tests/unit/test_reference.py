"""The generated reference says what the code says, and every key has a meaning."""

import re

import pytest
from pydantic import BaseModel

from pipeline.settings import Settings, parse_seconds
from pipeline.settings.removed import REMOVED
from pipeline.settings.values import Section
from tests.reference import pages, settings


@pytest.mark.parametrize("name", pages.PAGES)
def test_a_page_says_what_the_code_says(name: str) -> None:
    found = pages.difference(name, pages.PAGES[name]())
    assert not found, found


def test_a_page_that_is_out_of_date_is_named_with_what_differs_and_the_command_that_mends_it() -> None:
    text = pages.PAGES["settings.md"]().replace("| `6` |", "| `7` |")
    first, *rest = pages.difference("settings.md", text).splitlines()
    assert first == "docs/reference/settings.md is out of date: run `make reference`"
    assert [line for line in rest if line.startswith("+|")] == [
        "+| `kafka.partitions` | whole number, 1 or more | `7` | Partitions of an input topic that tidecast creates. |"
    ]


def test_every_key_is_listed_once_with_a_whole_sentence() -> None:
    text, _, removed = pages.PAGES["settings.md"]().partition("## Removed keys")
    assert re.findall(r"^\| `([a-z]+\.[a-z_]+)` \|", removed, re.MULTILINE) == sorted(REMOVED)
    listed = re.findall(r"^\| `([a-z]+\.[a-z_]+)` .*\| (.+) \|$", text, re.MULTILINE)
    models = {name: field.annotation for name, field in Settings.model_fields.items() if name != "challengers"}
    keys = [f"{name}.{key}" for name, model in models.items() for key in _fields(model)]
    assert sorted(name for name, _ in listed) == sorted(keys)
    assert [name for name, meaning in listed if not re.fullmatch(r"[A-Z`h].*\.", meaning)] == []


def _fields(model: object) -> list[str]:
    assert isinstance(model, type)
    assert issubclass(model, BaseModel)
    return list(model.model_fields)


def test_a_key_without_a_meaning_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Bare\.key has no meaning: write a docstring below the attribute"):
        settings.meanings(Bare)


class Bare(Section):
    """A table whose key has no meaning."""

    key: int = 1


@pytest.mark.parametrize("seconds", [0.5, 1.0, 90.0, 3_600.0, 86_400.0, 129_600.0, 34_560_000.0])
def test_a_duration_is_written_as_it_is_read(seconds: float) -> None:
    assert parse_seconds(settings.duration(seconds)) == seconds
