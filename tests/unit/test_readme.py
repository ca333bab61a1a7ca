"""What the README says is so: commands, options, settings, messages, SQL, links and packages."""

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

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
PROSE = re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    return [text for name, text in BLOCKS if name == language]


def commands() -> list[str]:
    """Every tidecast call, in shell blocks and in running text."""
    lines = [line.split("#")[0] for block in blocks("sh") for line in block.splitlines()]
    spans = re.findall(r"`((?:\.venv/bin/)?tidecast [^`]+)`", PROSE)
    rows = [re.findall(r"`([^`]+)`", line) for line in PROSE.splitlines() if line.startswith("| `tidecast ")]
    for row in rows:  # options in a table's row belong to the row's commands
        named = [span for span in row if span.startswith("tidecast ")]
        options = [span for span in row[1:] if span.startswith("--")]
        spans += [f"{named[0]} {option}" for option in options]
    found = [line.strip() for line in lines if re.match(r"(\.venv/bin/)?tidecast ", line.strip())]
    return sorted({call.removeprefix(".venv/bin/") for call in found + spans})


def table_rows(heading: str) -> list[list[str]]:
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows[1:]]


def test_there_is_something_to_check() -> None:
    assert len(commands()) > 30
    assert len(blocks("sql")) >= 5
    assert len(table_rows("Settings")) > 50


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


def test_every_command_of_the_command_line_is_in_the_readme() -> None:
    calls = " ".join(commands())
    missing = [name for name in root.list_commands(click.Context(root)) if f"tidecast {name}" not in calls]
    assert missing == []


def test_the_settings_table_lists_every_key_with_its_default_and_no_other() -> None:
    listed = {key.strip("`"): default.strip("`") for key, default, _ in table_rows("Settings")}
    known: dict[str, Any] = {
        f"{section}.{key}": value for section, values in shown(Settings()).items() for key, value in values.items()
    }
    assert list(listed) == list(known)
    del listed["kafka.instance"], known["kafka.instance"]  # the default is the host's name
    assert listed == {key: "-" if value is None else json.dumps(value) for key, value in known.items()}


@pytest.mark.parametrize("block", blocks("toml"))
def test_every_toml_loads(tmp_path: Path, block: str) -> None:
    file = tmp_path / "tidecast.toml"
    file.write_text(block, encoding="utf-8")
    shows = shown(load(file))
    for section, keys in tomllib.loads(block).items():
        assert all(shows[section][key] == value for key, value in keys.items()), section


def test_the_settings_named_in_the_text_exist() -> None:
    sections = "|".join(Settings.model_fields)
    known = {f"{section}.{key}" for section, values in shown(Settings()).items() for key in values}
    named = set(re.findall(rf"\b((?:{sections})\.[a-z_]+)\b(?!\()", PROSE + "".join(blocks("sh"))))
    elsewhere = {"kafka.sh", "retention.ms", "jobs.rules", "jobs.test"}
    assert {name for name in named if not name.endswith((".py", ".sql", ".md"))} - known - elsewhere == set()


def test_the_input_message_is_read_as_an_observation() -> None:
    message = blocks("json")[0].strip().encode()
    events, letters = Reader(Settings().input, Frequency("1h")).read(
        Messages(0, np.array([0]), [None], [message], 1), now=2_000_000_000_000_000
    )
    assert letters == ()
    assert (list(events.series), events.value.tolist()) == (["meter-17"], [3.2])


def test_the_input_message_with_covariates_is_read_by_the_settings_beside_it() -> None:
    (names,) = re.findall(r"`input\.covariates = (\[.*?\])`", PROSE)
    settings = load(sets=[f"input.covariates={names}"])
    message = blocks("json")[1].strip().encode()
    events, letters = Reader(settings.input, Frequency("1h")).read(
        Messages(0, np.array([0]), [None], [message], 1), now=2_000_000_000_000_000
    )
    assert letters == ()
    np.testing.assert_array_equal(events.covariates, [[-1.5, np.nan]])


def test_the_output_message_has_the_fields_that_are_sent() -> None:
    example = json.loads(blocks("json")[2])
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
        assert f"`{name}`" in README


@pytest.fixture
def execute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Any]]:
    """Execute the README's one block of Python that says so, in an empty directory, and return its names."""
    monkeypatch.chdir(tmp_path)

    def run(words: str) -> dict[str, Any]:
        (code,) = [block for block in blocks("python") if words in block]
        names: dict[str, Any] = {}
        exec(compile(code, "README.md", "exec"), names)
        return names

    return run


def test_every_block_of_python_is_executed_below() -> None:
    assert len(blocks("python")) == 2


def test_the_first_python_runs(execute: Callable[[str], dict[str, Any]], tmp_path: Path) -> None:
    names = execute("forecaster.save")
    again = names["Forecaster"].load(tmp_path / "model.safetensors").predict(names["frame"])
    assert again.equals(names["forecast"])
    assert len(again) == 24
    assert set(names["result"].scores["origins"]) == {3}


def test_the_python_of_covariates_runs_and_sees_the_price(execute: Callable[[str], dict[str, Any]]) -> None:
    names = execute("future_covariates")
    forecast = names["forecast"]
    assert names["forecaster"].predict(names["known"], future=names["prices"]).equals(forecast)
    low = names["price"][400:] < 0.9
    assert 0 < low.sum() < len(forecast) == 7
    assert forecast["q50"][low].min() > forecast["q50"][~low].max()


def test_the_views_that_are_promised_exist_and_all_are_named() -> None:
    named = re.findall(r"`([a-z_]+)`", "".join(cell[0] for cell in table_rows("SQL")) + PROSE)
    assert set(VIEWS) <= set(named)
    assert {cell[0].strip("`") for cell in table_rows("SQL")} <= set(VIEWS)


def test_every_link_leads_somewhere() -> None:
    anchors = {
        re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in re.findall(r"^#+ (.*)$", README, re.M)
    }
    links = re.findall(r"\]\(([^)]+)\)", README)
    inside = [link for link in links if not link.startswith(("http", "#"))]
    assert [link for link in inside if not (ROOT / link).exists()] == []
    assert [link for link in links if link.startswith("#") and link[1:] not in anchors] == []


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z]+)\b", "".join(blocks("sh")) + "".join(re.findall(r"`[^`]+`", PROSE))))
    assert named <= targets
    assert {"help", "run", "test", "faults", "check", "bench", "kafka"} <= targets


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [*project["dependencies"]]
    for extra, packages in project["optional-dependencies"].items():
        needed += packages if extra != "all" else []
    names = {re.split(r"[\[<>=,]", package)[0] for package in needed}
    listed = {word for cells in table_rows("Dependencies") for word in re.findall(r"[a-z0-9-]+", cells[0])}
    assert names <= listed
