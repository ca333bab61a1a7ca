"""Values as people write them -> values of a key's type, the same from every source.

A file gives numbers, lists and tables; the environment, secrets and --set give text. What a text means is decided here,
by the type of its key: `30`, "30" and " 30 " are one number.
"""

import json
import re
import tomllib
from datetime import date, time
from functools import lru_cache
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import SecretStr

VERBATIM = object()
"""Marks the type of a password: quotes and white space are parts of it."""
_NUMBER = re.compile(r"[+-]?(0x[0-9a-f_]+|0o[0-7_]+|0b[01_]+|[0-9][0-9_]*(\.[0-9_]+)?(e[+-]?[0-9_]+)?)", re.IGNORECASE)
_SWITCH = {word: on for on, words in enumerate(("false no off 0", "true yes on 1")) for word in words.split()}


def read(annotation: Any, value: object) -> object:
    """Turn what was written for a key into a value of its type; what that does not work for is left to validation.

    Raises ValueError, in an operator's words, for text that is no list or table, and for a number that should be text.
    """
    kind, verbatim = kind_of(annotation)
    if isinstance(value, str):
        value = value.rstrip("\r\n") if verbatim else value.strip()
    if kind in (str, SecretStr, Path):
        if isinstance(value, bool | int | float | date | time):
            raise ValueError("write it in quotes: it is text, not a number or a time")
        return value
    if isinstance(value, date | time):
        return value.isoformat()
    if kind in (int, float):
        return _read_number(value)
    if kind is bool:
        return _read_switch(value)
    return _read_json(value, kind) if kind in (tuple, dict) and isinstance(value, str) else value


@lru_cache(maxsize=1024)
def kind_of(annotation: Any) -> tuple[type | None, bool]:
    """Return the type that a key holds beside None, and whether it is VERBATIM; None for a choice among words."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        kind, verbatim = kind_of(inner[0])
        return kind, verbatim or VERBATIM in inner
    if origin in (Union, UnionType):
        return next(kind_of(one) for one in inner if one is not type(None))
    return None if origin is Literal else origin or annotation, False


def unquoted(text: str) -> str:
    """Take the quotes off a text that is written as TOML writes it; ValueError if it is in quotes and not TOML."""
    bare = text.strip()
    if len(bare) < 2 or bare[0] not in "\"'" or bare[0] != bare[-1]:
        return text
    value = _parse_toml(bare)
    if not isinstance(value, str):
        raise ValueError("text in quotes is read as TOML, and this is none; leave the outer quotes away")
    return value


def parse_number(text: str) -> int | float | None:
    """Read a number as TOML writes one, such as 30, +5, 1e3, 1_000 or 0x10; None if the text is none."""
    number = _parse_toml(text) if _NUMBER.fullmatch(text) else None  # None too for 007, 1__0, and 5,000 digits
    return number if isinstance(number, int | float) else None


def _read_number(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()  # a number is refused in the words for text that is none
    number = parse_number(value) if isinstance(value, str) else None
    return value if number is None else number


def _read_switch(value: object) -> object:
    text = str(value).lower() if isinstance(value, str | int | float) else None
    return bool(_SWITCH[text]) if text in _SWITCH else value if text is None else str(value)


def _read_json(text: str, kind: type) -> object:
    wanted, example = (dict, '{retrain = "10 min"}') if kind is dict else (list, '["a", "b"]')
    for parse in (_parse_json, _parse_toml):
        value = parse(text)
        if isinstance(value, wanted):
            return value
    raise ValueError(f"write a {'table' if kind is dict else 'list'}, such as {example}, as TOML or JSON")


def _parse_json(text: str) -> object:
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value


def _parse_toml(text: str) -> object:
    """Read one value; None for what is none. In an array, nothing can follow it unseen: no comment, no other key."""
    try:
        document = tomllib.loads(f"value = [{text}]")
    except (ValueError, RecursionError):
        return None
    values: list[object] = document["value"]
    return values[0] if len(document) == len(values) == 1 else None
