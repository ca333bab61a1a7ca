"""What README and the pages of docs/ say is so: commands, options, settings, messages, Python and packages."""

import json
import re
import shlex
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

from models.config import QUANTILE_LEVELS
from pipeline.cli import root
from pipeline.database.schema.migrate import VIEWS
from pipeline.grid.frequency import Frequency
from pipeline.messages.codec import Reader, write_forecasts
from pipeline.records import Forecasts, Messages
from pipeline.settings import Settings
from pipeline.settings.sources import load, shown
from tests.documents import DOCUMENTS, ROOT, TEXT, blocks, prose
from tests.reference.settings import list_removed

MESSAGES = "docs/messages.md"
EXECUTED = {"README.md": 1, "docs/python.md": 2}


def commands() -> list[str]:
    """Every tidecast call, in shell blocks and in running text."""
    lines = [re.split(r" [#|&;>]", line)[0] for block in blocks("sh") for line in block.splitlines()]
    spans = re.findall(r"`((?:\.venv/bin/)?tidecast [^`]+)`", prose())
    found = [line.strip() for line in lines if re.match(r"(\.venv/bin/)?tidecast ", line.strip())]
    return sorted({call.removeprefix(".venv/bin/") for call in found + spans})


def test_there_is_something_to_check() -> None:
    assert len(DOCUMENTS) > 15
    assert len(commands()) > 30
    assert len(blocks("toml")) >= 2


def test_the_readme_is_read_in_one_sitting() -> None:
    assert len(DOCUMENTS["README.md"].splitlines()) <= 220


@pytest.mark.parametrize("call", commands())
def test_every_command_and_option_exists(call: str) -> None:
    words = shlex.split(call)[1:]
    command: click.Command = root
    context = click.Context(root)
    while words:
        word = words.pop(0)
        if word.startswith("-"):
            options = {name: each for each in command.params for name in (*each.opts, *each.secondary_opts)}
            assert word in options, f"{command.name} has no option {word}"
            takes_value = not getattr(options[word], "is_flag", False)
            if takes_value and words:
                words.pop(0)
        elif isinstance(command, click.Group):
            found = command.get_command(context, word)
            assert found is not None, f"{command.name} has no command {word}"
            command = found
        else:
            assert any(isinstance(each, click.Argument) for each in command.params), f"{command.name} takes no {word}"


def test_every_command_of_the_command_line_is_in_the_documents() -> None:
    missing = [name for name in root.list_commands(click.Context(root)) if f"tidecast {name}" not in TEXT]
    assert missing == []


def known_settings() -> set[str]:
    return {f"{section}.{key}" for section, values in shown(Settings()).items() for key in values}


def test_every_setting_is_in_the_documents() -> None:
    assert {key for key in known_settings() if f"`{key}`" not in TEXT} == set()


@pytest.mark.parametrize("block", blocks("toml"))
def test_every_toml_loads(tmp_path: Path, block: str) -> None:
    file = tmp_path / "tidecast.toml"
    file.write_text(block, encoding="utf-8")
    shows = shown(load(file))
    for section, keys in tomllib.loads(block).items():
        assert all(shows[section][key] == value for key, value in keys.items()), section


def test_the_settings_named_in_the_text_exist() -> None:
    sections = "|".join(Settings.model_fields)
    text = prose().replace(list_removed(), "") + "".join(blocks("sh"))
    named = set(re.findall(rf"\b((?:{sections})\.[a-z_]+)\b(?!\()", text))
    elsewhere = {"kafka.connect", "kafka.sh", "retention.ms", "jobs.rules", "jobs.test"}
    assert {name for name in named if not name.endswith((".py", ".sql", ".md"))} - known_settings() - elsewhere == set()


def test_the_input_message_is_read_as_an_observation() -> None:
    message = blocks("json", MESSAGES)[0].strip().encode()
    events, letters = Reader(Settings().input, Frequency("1h")).read(
        Messages(0, np.array([0]), [None], [message], 1), now=2_000_000_000_000_000
    )
    assert letters == ()
    assert (list(events.series), events.value.tolist()) == (["meter-17"], [3.2])


def test_the_input_message_with_covariates_is_read_by_the_settings_beside_it() -> None:
    (names,) = re.findall(r"`input\.covariates = (\[.*?\])`", prose(MESSAGES))
    settings = load(sets=[f"input.covariates={names}"])
    message = blocks("json", MESSAGES)[1].strip().encode()
    events, letters = Reader(settings.input, Frequency("1h")).read(
        Messages(0, np.array([0]), [None], [message], 1), now=2_000_000_000_000_000
    )
    assert letters == ()
    np.testing.assert_array_equal(events.covariates, [[-1.5, np.nan]])


def test_the_output_message_has_the_fields_that_are_sent() -> None:
    example = json.loads(blocks("json", MESSAGES)[2])
    horizon = example["steps"]
    one = np.array([0])
    forecasts = Forecasts(
        series=["meter-17"],
        series_id=one,
        origin=one,
        target_times=np.zeros((1, horizon), np.int64),
        quantiles=np.zeros((1, horizon, len(QUANTILE_LEVELS))),
        model_version=one,
        calibration=one,
        quality=["ok"],
        issued_at=one,
        partition=one,
        offset=one,
    )
    ((_, _, value, headers),) = write_forecasts(forecasts, "observations", "1h")
    sent = json.loads(value)
    assert list(example) == list(sent)
    assert example["quantile_levels"] == sent["quantile_levels"]
    assert np.shape(example["quantiles"]) == np.shape(sent["quantiles"])
    for name, _ in headers:
        assert f"`{name}`" in DOCUMENTS[MESSAGES]


@pytest.fixture
def execute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Execute the one block of Python of a page that says so, in an empty directory, and return its names.

    What is shown does not depend on how long a fit goes on: each takes `steps` instead of the page's.
    """
    monkeypatch.chdir(tmp_path)

    def run(page: str, words: str, steps: int = 4) -> dict[str, Any]:
        (code,) = [block for block in blocks("python", page) if words in block]
        code, fits = re.subn(r'training=\{"steps": \d+\}', f'training={{"steps": {steps}, "threads": 1}}', code)
        assert fits == 1
        names: dict[str, Any] = {}
        exec(compile(code, page, "exec"), names)
        return names

    return run


def test_every_block_of_python_is_executed_below_or_in_the_tutorial() -> None:
    found = {page: len(blocks("python", page)) for page in DOCUMENTS if page != "docs/tutorial.md"}
    assert {page: count for page, count in found.items() if count} == EXECUTED


def test_the_python_of_the_readme_runs(execute: Callable[..., dict[str, Any]]) -> None:
    names = execute("README.md", "Forecaster")
    assert len(names["forecaster"].predict(names["frame"])) == 24


def test_the_python_of_the_python_page_runs(execute: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    names = execute("docs/python.md", "forecaster.save")
    again = names["Forecaster"].load(tmp_path / "model.safetensors").predict(names["frame"])
    assert again.equals(names["forecast"])
    assert len(again) == 24
    assert set(names["result"].scores["origins"]) == {3}


def test_the_python_of_covariates_runs_and_sees_the_price(execute: Callable[..., dict[str, Any]]) -> None:
    names = execute("docs/python.md", "future_covariates", steps=60)
    forecast = names["forecast"]
    assert names["forecaster"].predict(names["known"], future=names["prices"]).equals(forecast)
    low = names["price"][400:] < 0.9
    assert 0 < low.sum() < len(forecast) == 7
    assert forecast["q50"][low].min() > forecast["q50"][~low].max()


def test_every_view_is_in_the_documents() -> None:
    assert {view for view in VIEWS if not re.search(rf"\b{view}\b", TEXT)} == set()


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z]+)\b", "".join(blocks("sh")) + "".join(re.findall(r"`[^`]+`", prose()))))
    assert named <= targets
    assert {"help", "run", "test", "faults", "check", "bench", "kafka", "docs"} <= targets


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [*project["dependencies"]]
    for extra, packages in project["optional-dependencies"].items():
        needed += packages if extra != "all" else []
    names = {re.split(r"[\[<>=,]", package)[0] for package in needed}
    table = DOCUMENTS["docs/development.md"].split("\n## Dependencies\n")[1]
    packages = re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE)
    listed = {word for cell in packages for word in re.findall(r"[a-z0-9-]+", cell)}
    assert names <= listed
