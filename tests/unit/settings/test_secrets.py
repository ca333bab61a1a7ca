"""Secrets come from the environment or from files, never from a command line, and show nowhere."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from pipeline.settings.sources import load, refuse_secrets
from tests import processes

ROOT = Path(__file__).parents[3]
SECRET = "hunter2-7c1f"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of secrets as Kubernetes mounts one: names are links to a folder that is replaced as a whole."""
    made = tmp_path / "secrets"
    (made / "..2026_11_25").mkdir(parents=True)
    (made / "..data").symlink_to("..2026_11_25")
    monkeypatch.setenv("TIDECAST_SECRETS", str(made))
    return made


def mount(folder: Path, name: str, text: str) -> None:
    (folder / "..2026_11_25" / name).write_text(text)
    (folder / name).symlink_to(f"..data/{name}")


def test_secrets_are_read_from_files_whose_last_line_may_end(folder: Path) -> None:
    mount(folder, "kafka__sasl_password", f"{SECRET}\n")
    mount(folder, "database__url", "postgresql://me:pass@db/tidecast")
    mount(folder, "README", "not a setting")
    settings = load()
    assert settings.kafka.sasl_password is not None
    assert settings.kafka.sasl_password.get_secret_value() == SECRET
    assert settings.database.url.get_secret_value() == "postgresql://me:pass@db/tidecast"


def test_the_environment_wins_over_a_file_of_secrets_and_that_over_the_settings_file(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toml = tmp_path / "tidecast.toml"
    account = [*(f'sasl_{name} = "toml"' for name in ("password", "username")), 'sasl_mechanism = "PLAIN"']
    lines = ["[kafka]", 'security_protocol = "SASL_SSL"', *account, "[database]", 'url = "sqlite:///toml.db"']
    toml.write_text("\n".join(lines))
    mount(folder, "kafka__sasl_password", "file")
    mount(folder, "kafka__sasl_username", "file")
    monkeypatch.setenv("TIDECAST_KAFKA__SASL_PASSWORD", "environment")
    settings = load(toml)
    assert settings.kafka.sasl_password is not None
    assert settings.kafka.sasl_password.get_secret_value() == "environment"
    assert settings.kafka.sasl_username == "file"
    assert settings.database.url.get_secret_value() == "sqlite:///toml.db"


def test_a_file_that_names_no_setting_of_its_section_is_refused(folder: Path) -> None:
    mount(folder, "kafka__sasl_passwort", SECRET)
    with pytest.raises(ConfigError, match=r"unknown key kafka\.sasl_passwort") as refused:
        load()
    assert SECRET not in str(refused.value)


def test_a_folder_of_secrets_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDECAST_SECRETS", "/nowhere/secrets")
    with pytest.raises(ConfigError, match="names /nowhere/secrets, which is no folder"):
        load()


@pytest.mark.parametrize(
    "text",
    [
        f"kafka.sasl_password={SECRET}",
        f" kafka.sasl_password = '{SECRET}'",
        f"database.url=postgresql://me:{SECRET}@db/tidecast",
        f"database.url='postgresql://me@db/tidecast?password={SECRET}'",
    ],
)
def test_a_secret_on_the_command_line_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ConfigError, match=r"TIDECAST_(KAFKA__SASL_PASSWORD|DATABASE__URL)") as refused:
        refuse_secrets([text])
    assert SECRET not in str(refused.value)


def test_what_is_no_secret_may_be_on_the_command_line() -> None:
    refuse_secrets(["database.url=sqlite:///x.db", "database.url=postgresql://me@db/x", "series.horizon=3", "odd"])


def run(tmp_path: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    kept = {key: value for key, value in os.environ.items() if not key.startswith("TIDECAST_")}
    return processes.run(
        [sys.executable, "-m", "pipeline.cli", *arguments],
        cwd=tmp_path,
        env=kept | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


CALLS = (
    ("config", "show"),
    ("config", "check"),
    ("doctor",),
    ("db", "upgrade"),
    ("db", "current"),
    ("models", "list"),
    ("job", "run", "monitor"),
    ("job", "list", "--json"),
    ("stream",),
    ("schedule",),
    ("run",),
)


@pytest.mark.parametrize("call", CALLS, ids=" ".join)
def test_no_command_shows_a_secret_when_nothing_answers(tmp_path: Path, call: tuple[str, ...]) -> None:
    done = run(
        tmp_path,
        "--set",
        "kafka.bootstrap_servers=127.0.0.1:1",
        "--set",
        "kafka.call_timeout=2",
        "--set",
        "database.timeout=1",
        *call,
        TIDECAST_DATABASE__URL=f"postgresql://me:{SECRET}@127.0.0.1:1/tidecast",
        TIDECAST_KAFKA__SECURITY_PROTOCOL="SASL_PLAINTEXT",
        TIDECAST_KAFKA__SASL_MECHANISM="PLAIN",
        TIDECAST_KAFKA__SASL_USERNAME="me",
        TIDECAST_KAFKA__SASL_PASSWORD=SECRET,
    )
    assert SECRET not in done.stdout + done.stderr
    if call[0] == "config":
        assert done.returncode == 0
    else:
        assert done.returncode in {1, 2}, (done.stdout, done.stderr)


def test_config_show_masks_what_came_from_files(folder: Path, tmp_path: Path) -> None:
    mount(folder, "kafka__sasl_password", SECRET)
    mount(folder, "database__url", f"postgresql://me:{SECRET}@db/tidecast")
    done = run(tmp_path, "config", "show", "--json", TIDECAST_SECRETS=str(folder))
    shown = json.loads(done.stdout)
    assert shown["database"]["url"] == "postgresql://me:***@db/tidecast"
    assert SECRET not in done.stdout + done.stderr
