"""tidecast models compare, over an SQLite database."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.database import Database, open_database, upgrade

NOW = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def url(tmp_path: Path) -> str:
    address = f"sqlite:///{tmp_path / 'tidecast.db'}"
    upgrade(address)
    return address


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    """Three models: 1 and 2 were backtested together, 2 and 3 later, 1 alone in between."""
    opened = open_database(url, timeout=10.0)
    for _ in range(3):
        opened.registry.register(
            name="gru", config={}, metrics={}, train_from=0, train_to=1, seed=0, code="x", artifact=b"w", now=NOW
        )
    for at, version, against, wql in ((0, 2, 1, 0.09), (0, 1, 0, 0.1), (1, 1, 0, 0.5), (2, 3, 2, 0.2), (2, 2, 0, 0.1)):
        opened.registry.record_backtest(
            version=version,
            compared_to=against,
            origins=4,
            mase=0.8,
            wql=wql,
            coverage_80=None,
            n=96,
            now=NOW + at,
            metrics={"sql": 0.7, "wql": wql, "steps": 96, "windows": 8},
        )
    yield opened
    opened.close()


@pytest.fixture
def compare(database: Database, url: str, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["--set", f"database.url={url}", "models", "compare", *arguments])
        captured = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, captured.out, captured.err

    return run


def test_two_versions_are_compared_on_the_newest_windows_that_both_were_scored_on(compare: Run) -> None:
    code, out, _ = compare("2", "1", "--json")
    found = json.loads(out)
    assert (code, found["same_windows"], found["gain"]) == (0, True, pytest.approx(0.1))
    one, other = found["models"]
    assert (one["version"], one["wql"], one["compared_to"], one["coverage_80"]) == (2, 0.09, 1, None)
    assert (other["version"], other["wql"], other["targets"], other["sql"]) == (1, 0.1, 96, 0.7)
    assert one["backtest_at"] == other["backtest_at"]


def test_side_by_side_for_a_person(compare: Run) -> None:
    code, out, _ = compare("3", "2")
    lines = out.splitlines()
    assert (code, lines[0].split(), lines[1].split()) == (0, ["version", "3", "2"], ["wql", "0.2", "0.1"])
    assert lines[-1] == "on the same windows: the loss (WQL) of 3 is 100.0% above that of 2"


def test_versions_that_never_met_are_shown_with_a_warning(compare: Run) -> None:
    code, out, _ = compare("3", "1", "--json")
    found = json.loads(out)
    assert (code, found["same_windows"], found["gain"]) == (0, False, None)
    assert [model["wql"] for model in found["models"]] == [0.2, 0.5]
    assert "3 and 1 were never backtested together" in compare("3", "1")[1]


def test_a_version_that_is_not_there_or_has_no_backtest_is_said_in_one_line(compare: Run) -> None:
    for versions, words in ((("9", "1"), "model 9 does not exist"), (("1", "0"), "model 0 has no backtest")):
        code, out, err = compare(*versions)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert words in err


@pytest.fixture
def models(database: Database, url: str, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()  # what the registry logged when the test called it
        with pytest.raises(SystemExit) as ended:
            main(["--set", f"database.url={url}", "models", *arguments])
        captured = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, captured.out, captured.err

    return run


def test_the_shadow_is_named_in_the_list_and_shown_with_its_beginning(models: Run, database: Database) -> None:
    database.registry.promote(1, expected=None, reason="first", now=NOW)
    database.registry.begin_shadow(3, expected=None, reason="gain", now=NOW)
    listed = {row["version"]: row for row in json.loads(models("list", "--json")[1])}
    assert [version for version, row in listed.items() if row["shadow"]] == [3]
    assert [version for version, row in listed.items() if row["champion"]] == [1]
    assert json.loads(models("show", "3", "--json")[1])["shadow_since"] == "2026-01-01 00:00:00+00:00"
    one = json.loads(models("show", "1", "--json")[1])
    assert (one["shadow_since"], one["champion"]) == (None, True)


def test_a_shadow_is_dropped_by_hand_with_a_reason(models: Run, database: Database) -> None:
    assert models("drop-shadow") == (0, "there is no shadow\n", "")
    database.registry.begin_shadow(2, expected=None, reason="gain", now=NOW)
    assert models("drop-shadow", "--reason", "too slow") == (0, "model 2 is no shadow any more\n", "")
    assert database.registry.shadow() is None
    assert database.registry.shadow_history()[0].reason == "too slow"
