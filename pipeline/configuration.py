"""Read the settings from their three sources, and show them to people without their secrets."""

import json
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import (
    BaseSettings,
    NestedSecretsSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from pipeline.errors import ConfigError
from pipeline.settings import PREFIX, Settings

DEFAULT_FILE = "tidecast.toml"
SECRETS = f"{PREFIX}SECRETS"
"""The environment variable that names a folder of secrets, one a file: database__url, kafka__sasl_password."""


def load(file: Path | None = None, sets: Sequence[str] = (), environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings, or raise one ConfigError that lists everything that is wrong with them.

    Without `file`, ./tidecast.toml is read if it is there. `sets` are 'section.key=value', the value TOML or text. The
    order is `sets`, environment, files of secrets, `file`.
    """
    if file is not None and not file.is_file():
        raise ConfigError(f"settings file {file} does not exist; create it or leave --config away")
    path = file or Path(DEFAULT_FILE)
    environ = os.environ if environ is None else environ
    _refuse_unknown_environment(environ)
    secrets = _find_secrets(environ)

    class FromFile(Settings):
        model_config = SettingsConfigDict(toml_file=path)

        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            files = NestedSecretsSettingsSource(
                file_secret_settings, secrets_dir=secrets, secrets_prefix="", secrets_nested_delimiter="__"
            )
            return init_settings, env_settings, files, TomlConfigSettingsSource(settings_cls)

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


def _find_secrets(environ: Mapping[str, str]) -> Path | None:
    folder = environ.get(SECRETS)
    if not folder:
        return None
    if not Path(folder).is_dir():
        raise ConfigError(f"{SECRETS} names {folder}, which is no folder; mount the secrets there or leave it away")
    unread = [file.name for file in Path(folder).iterdir() if file.is_file() and not os.access(file, os.R_OK)]
    if unread:
        raise ConfigError(f"{SECRETS}: {Path(folder) / unread[0]} cannot be read; give this user the right to read it")
    return Path(folder)


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
