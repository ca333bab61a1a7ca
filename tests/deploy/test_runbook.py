"""The runbook: a section for every alert, and commands, settings, metrics and tables that exist."""

import re

import click
import pytest

from pipeline.database.schema.tables import metadata
from pipeline.settings.sources import load
from tests.deploy.command_line import parse
from tests.faults.fleet import ROOT
from tests.unit.test_alert_rules import FOUND, exported

TEXT = (ROOT / "deploy" / "runbook.md").read_text(encoding="utf-8")
VIEWS = ROOT / "pipeline" / "database" / "schema" / "views"
GUIDE = (ROOT / "deploy" / "README.md").read_text(encoding="utf-8")
SECTIONS = {
    title.strip(): body
    for title, body in re.findall(r"^#{2,3} (.+?)\n(.*?)(?=^#{2,3} |\Z)", TEXT, re.MULTILINE | re.DOTALL)
}
OPERATION = {
    "Backup and restore",
    "Upgrade and rollback",
    "Adding partitions",
    "From SQLite to PostgreSQL",
    "Sizing",
}
SPANS = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL))]
PLACEHOLDERS = {
    "MESSAGE": "observations/0/17",
    "RUN": "7",
    "NAME": "monitor",
    "TEXT": "words",
    "FILE": "history.csv",
    "TIME": "2026-01-01",
}
LINES = [line for block in re.findall(r"```sh\n(.*?)```", GUIDE, re.DOTALL) for line in block.splitlines()]


def words_of(command: str) -> list[str]:
    """The words after `tidecast`, with something in place of what stands for something."""
    _, *words = re.sub(r"\s*(#.*|\.\.\.)$", "", command).split()
    return [PLACEHOLDERS.get(word, word) for word in words]


COMMANDS = sorted(
    {span for span in SPANS if re.match(r"tidecast( |$)", span) and not span.endswith("...")}
    | {"tidecast " + line.rpartition("bin/tidecast ")[2] for line in LINES if "bin/tidecast " in line}
)


def test_every_alert_has_its_section_and_no_section_is_of_an_alert_that_does_not_exist() -> None:
    alerts = {title for title in SECTIONS if title.startswith("Tidecast")}
    assert alerts == set(FOUND)
    assert set(SECTIONS) >= OPERATION
    for alert in alerts:
        assert "**Do:**" in SECTIONS[alert], f"{alert} does not say what to do"
        assert FOUND[alert]["anchor"] == alert.lower()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_runbook_exists_with_its_options(command: str) -> None:
    try:
        parse(words_of(command))
    except click.UsageError as error:
        pytest.fail(f"{command}: {error.format_message()}")


def test_there_are_commands_in_the_runbook_and_one_that_does_not_exist_would_be_found() -> None:
    assert len(COMMANDS) > 15
    with pytest.raises(click.UsageError):
        parse(words_of("tidecast job history --of NAME"))


def test_settings_metrics_and_tables_of_the_runbook_exist() -> None:
    settings = load()
    sections = {
        name: getattr(type(getattr(settings, name)), "model_fields", {}) for name in type(settings).model_fields
    }
    keys = {span.split(" ")[0] for span in SPANS if re.match(r"[a-z]+\.[a-z_]+( |$)", span)}
    keys = {
        key for key in keys - {"retention.ms"} if key.partition(".")[0] in sections or key.partition(".")[0] == "model"
    }
    assert len(keys) > 10
    assert [key for key in keys if key.partition(".")[2] not in sections[key.partition(".")[0]]] == []
    metrics = {span for span in SPANS if span.startswith("tidecast_")}
    assert metrics and metrics <= exported()
    known = {table.name for table in metadata.sorted_tables} | {
        each.stem.partition(".")[0] for each in VIEWS.glob("*.sql")
    }
    selected = set(re.findall(r"FROM (\w+)", " ".join(SPANS))) - {"pg_stat_activity"}
    named = {span for span in SPANS if re.fullmatch(r"[a-z]+(_[a-z]+)+", span)} - {
        "read_committed",
        "pg_dump",
        "postgres_password",
    }
    assert selected | named <= known | {span for span in named if span.startswith("tidecast_")}


def test_a_link_inside_the_runbook_leads_to_a_section() -> None:
    anchors = {title.lower().replace(" ", "-") for title in SECTIONS}
    links = re.findall(r"\]\(#([a-z-]+)\)", TEXT)
    assert links and set(links) <= anchors
