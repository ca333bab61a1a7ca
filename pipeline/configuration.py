"""Read the settings from their three sources, and show them to people without their secrets."""

import json
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import SettingsConfigDict, SettingsError

from pipeline.errors import ConfigError
from pipeline.settings import PREFIX, Settings

DEFAULT_FILE = "tidecast.toml"


def load(file: Path | None = None, sets: Sequence[str] = (), environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings, or raise one ConfigError that lists everything that is wrong with them.

    Without `file`, ./tidecast.toml is read if it is there. `sets` are 'section.key=value', the value TOML or text.
    """
    if file is not None and not file.is_file():
        raise ConfigError(f"settings file {file} does not exist; create it or leave --config away")
    path = file or Path(DEFAULT_FILE)
    _refuse_unknown_environment(os.environ if environ is None else environ)

    class FromFile(Settings):
        model_config = SettingsConfigDict(toml_file=path)

    try:
        return FromFile(**_overrides(sets))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"settings file {path} is not TOML: {error}") from error
    except SettingsError as error:
        raise ConfigError(f"environment: {' '.join(str(error).split())}; lists and tables are JSON") from error
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


def _overrides(sets: Sequence[str]) -> dict[str, Any]:
    overrides: dict[str, Any] = {}
    for text in sets:
        path, separator, value = text.partition("=")
        section, dot, key = path.strip().partition(".")
        if not (separator and dot and key):
            raise ConfigError(f"--set {text!r}: write section.key=value, for example series.horizon=24")
        try:
            parsed = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            parsed = value
        table = overrides.setdefault(section, {})
        if section == "challengers":
            name, _, key = key.rpartition(".")
            table = table.setdefault(name, {})
        table[key] = parsed
    return overrides


def _refuse_unknown_environment(environ: Mapping[str, str]) -> None:
    for name in environ:
        section, separator, _ = name.removeprefix(PREFIX).lower().partition("__")
        mistaken = next((one for one in Settings.model_fields if _names_a_key(one, section)), None)
        if name.startswith(PREFIX) and not separator and mistaken:
            key = section.removeprefix(f"{mistaken}_").upper()
            raise ConfigError(f"environment variable {name}: write {PREFIX}{mistaken.upper()}__{key}, two underscores")
        if name.startswith(PREFIX) and separator and section not in Settings.model_fields:
            raise ConfigError(
                f"environment variable {name} names no section; use one of {', '.join(Settings.model_fields)}"
            )


def _names_a_key(section: str, text: str) -> bool:
    fields = getattr(Settings.model_fields[section].annotation, "model_fields", {})  # challengers have names for keys
    return text.startswith(f"{section}_") and text.removeprefix(f"{section}_") in fields
