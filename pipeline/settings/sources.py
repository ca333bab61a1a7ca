"""Where settings come from: a file, a folder of secrets, the environment and --set.

Each source gives a tree `{section: {key: value}}`. A blank value is as if it were not written, in every source:
`${NAME:-}` in a compose file is how people leave a setting away.
"""

import json
import os
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.errors import ConfigError
from pipeline.settings import PREFIX, Settings
from pipeline.settings.removed import REMOVED, drop_removed, gone
from pipeline.settings.texts import kind_of, read, unquoted

SECRETS = f"{PREFIX}SECRETS"
"""The environment variable that names a folder of secrets, one a file: database__url, kafka__sasl_password."""
Tree = dict[str, Any]


def merge(trees: Sequence[Tree]) -> Tree:
    """Lay trees over each other, later ones win; tables within are laid over each other as well."""
    merged: Tree = {}
    for tree in trees:
        for key, value in tree.items():
            below = merged.get(key)
            merged[key] = merge([below, value]) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def read_file(path: Path) -> Tree:
    """Read a TOML file; none is nothing. ConfigError says what is wrong with it."""
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8-sig")) if path.is_file() else {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"settings file {path} is not TOML: {error}") from error
    except OSError as error:
        raise ConfigError(f"settings file {path} cannot be read: {error.strerror}") from error
    return {
        section: merge([_placed(section, [key], value) for key, value in keys.items()])
        if isinstance(keys, dict)
        else keys
        for section, keys in tree.items()
    }


def read_environment(environ: Mapping[str, str]) -> Tree:
    """Read TIDECAST_SECTION__KEY, in any case; ConfigError names a variable that names no setting."""
    trees = []
    for name, text in environ.items():
        if not name.upper().startswith(PREFIX):
            continue
        section, *parts = name[len(PREFIX) :].lower().split("__")
        if not parts:
            _refuse_near_miss(name, section)
            continue
        if section not in Settings.model_fields:
            raise ConfigError(
                f"environment variable {name} names no section; use one of {', '.join(Settings.model_fields)}"
            )
        trees.append(_written(f"environment variable {name}", section, parts, text, joint="__"))
    return merge(trees)


def read_secrets(folder: str | None) -> Tree:
    """Read the files section__key of a folder; files that name no section belong to others."""
    if not folder:
        return {}
    if not Path(folder).is_dir():
        raise ConfigError(f"{SECRETS} names {folder}, which is no folder; mount the secrets there or leave it away")
    trees = []
    for file in sorted(Path(folder).iterdir()):
        if not file.is_file():
            continue
        section, *parts = file.name.lower().split("__")
        if section.upper().startswith(PREFIX):
            wanted = file.name.lower().removeprefix(PREFIX.lower())
            raise ConfigError(f"{SECRETS}: {file} is named like an environment variable; name it {wanted}")
        if parts and section in Settings.model_fields:
            trees.append(_written(f"{SECRETS}: {file}", section, parts, _text_of(file), joint="__"))
    return merge(trees)


def read_sets(sets: Sequence[str]) -> Tree:
    """Read section.key=value of a command line."""
    trees = []
    for text in sets:
        path, separator, value = text.partition("=")
        section, *parts = path.strip().split(".")
        if not (separator and all(parts) and parts):
            raise ConfigError(f"--set {text!r}: write section.key=value, for example series.horizon=24")
        trees.append(_written(f"--set {path.strip()}", section, parts, value, joint="."))
    return merge(trees)


def _written(source: str, section: str, parts: Sequence[str], text: str, *, joint: str) -> Tree:
    """Place a text at its key; quotes around it are TOML's unless it is a password."""
    own = _fields(section)
    names = [joint.join(parts[:-1]), parts[-1]] if section == "challengers" else list(parts)
    if len(parts) > 1 and section != "challengers" and not _is_table(section, parts[0]):
        names = [joint.join(parts)]
    field = own.get(names[0])
    try:
        value: object = text if field and kind_of(field.annotation)[1] else unquoted(text)
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{source} is not UTF-8; write it in UTF-8") from error
    except ValueError as error:
        raise ConfigError(f"{source}: {error}") from error
    return {section: _placed(section, names, value)}


def _placed(section: str, names: Sequence[str], value: Any) -> Tree:
    """Make the tree below a section; a table as text becomes a table, so that it is laid over others."""
    if isinstance(value, str) and not value.strip():
        return {}
    if len(names) == 1 and isinstance(value, str) and _is_table(section, names[0]):
        try:
            value = read(_fields(section)[names[0]].annotation, value)
        except ValueError as error:
            raise ConfigError(f"settings: {section}.{names[0]}: {error}") from error
    for name in reversed(names):
        value = {name: value}
    return dict(value)


def _fields(section: str) -> Mapping[str, Any]:
    table = Settings.model_fields.get(section)
    return getattr(table.annotation, "model_fields", {}) if table else {}  # challengers have names for keys


def _is_table(section: str, key: str) -> bool:
    field = _fields(section).get(key)
    return field is not None and kind_of(field.annotation)[0] is dict


def _refuse_near_miss(name: str, text: str) -> None:
    for section in Settings.model_fields:
        key = text.removeprefix(f"{section}_")
        if text == section:
            raise ConfigError(
                f"environment variable {name} is a whole table; write {PREFIX}{section.upper()}__KEY, each key"
            )
        if key != text and key in _fields(section):
            raise ConfigError(
                f"environment variable {name}: write {PREFIX}{section.upper()}__{key.upper()}, two underscores"
            )


def _text_of(file: Path) -> str:
    if not os.access(file, os.R_OK):
        raise ConfigError(f"{SECRETS}: {file} cannot be read; give this user the right to read it")
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{SECRETS}: {file} is not UTF-8; write it again in UTF-8") from error


DEFAULT_FILE = "tidecast.toml"


def load(
    file: Path | None = None,
    sets: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Settings:
    """Read the settings, or raise one ConfigError that lists everything that is wrong with them.

    Without `file`, ./tidecast.toml is read if it is there. `sets` are 'section.key=value', the value bare or as TOML.
    The order is `sets`, environment, files of secrets, `file`; what is written means the same in each. `tell` gets a
    line for each key that is no setting any more.
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
        return Settings.model_validate(drop_removed(merge(trees), tell))
    except ValidationError as error:
        raise ConfigError(f"settings: {explain(error)}") from error


def explain(error: ValidationError) -> str:
    """Say in one line which settings are wrong and why."""
    problems = []
    table = error.title.removesuffix("Settings").lower()  # of one table; "" for all of them
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        whole = f"{table}.{key}" if table else key
        if problem["type"] == "extra_forbidden" and whole in REMOVED:
            problems.append(gone(whole))
        elif problem["type"] == "extra_forbidden":
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
