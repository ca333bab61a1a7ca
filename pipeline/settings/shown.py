"""Read the settings from their four sources, and show them to people without their secrets."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.errors import ConfigError
from pipeline.settings import PREFIX, Settings
from pipeline.settings.sources import SECRETS, merge, read_environment, read_file, read_secrets, read_sets

DEFAULT_FILE = "tidecast.toml"


def load(file: Path | None = None, sets: Sequence[str] = (), environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings, or raise one ConfigError that lists everything that is wrong with them.

    Without `file`, ./tidecast.toml is read if it is there. `sets` are 'section.key=value', the value bare or as TOML.
    The order is `sets`, environment, files of secrets, `file`; what is written means the same in each.
    """
    if file is not None and not file.is_file():
        raise ConfigError(f"settings file {file} does not exist; create it or leave --config away")
    environ = os.environ if environ is None else environ
    trees = (
        read_file(file or Path(DEFAULT_FILE)),
        read_secrets(environ.get(SECRETS)),
        read_environment(environ),
        read_sets(sets),
    )
    try:
        return Settings.model_validate(merge(trees))
    except ValidationError as error:
        raise ConfigError(f"settings: {explain(error)}") from error


def explain(error: ValidationError) -> str:
    """Say in one line which settings are wrong and why."""
    problems = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            problems.append(f"unknown key {key} (see tidecast config show for the known ones)")
        else:
            said = problem["msg"].removeprefix("Value error, ")
            problems.append(f"{key}: {said}" if key else said)
    return "; ".join(problems)


def shown(settings: Settings) -> dict[str, Any]:
    """Return the settings as plain values with every secret masked, for people and logs."""
    plain: dict[str, Any] = json.loads(settings.model_dump_json())
    plain["database"]["url"] = masked(settings.database.url.get_secret_value())
    return plain


def masked(url: str) -> str:
    """Return a database address without its password."""
    url = re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", url)
    return re.sub(r"([?&](?:password|sslpassword|passfile)=)[^&]*", r"\1***", url)


def refuse_secrets(sets: Sequence[str]) -> None:
    """Raise ConfigError for a secret among `sets` of a command line, which everybody on the machine can read."""
    for text in sets:
        key, _, value = (part.strip() for part in text.partition("="))
        section, _, name = key.partition(".")
        field = getattr(getattr(Settings.model_fields.get(section), "annotation", None), "model_fields", {}).get(name)
        secret = field is not None and "SecretStr" in str(field.annotation)
        if secret and (key != "database.url" or masked(value) != value):
            raise ConfigError(
                f"--set {key}: a command line is no place for a secret, everybody on this machine can read it; use "
                f"{PREFIX}{section.upper()}__{name.upper()} in the environment, or a file {section}__{name} "
                f"in a folder that {SECRETS} names"
            )
