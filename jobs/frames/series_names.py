"""Which rows are of one series: a name is a text, so that a model knows a series again in another frame.

in the column                   the name
1, 1.0, Decimal(1)              1: a float that is whole is an integer that passed through a gap or a merge
"007", "1.50"                   as it is; but a column of nothing but "1.0", "2.0" is of such integers
b"a", UUID, True, a date        the text of it

No two series become one without a word, and none becomes two: what would is refused, or there is a remark.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jobs.frames.columns import refuse
from pipeline.errors import ConfigError
from pipeline.records import Ints

ALIKE = {"string", "integer", "boolean", "bytes", "datetime", "date", "period"}
"""Kinds of object columns in which what is equal looks alike; elsewhere True == 1 == 1.0 == Decimal(1)."""
EXACT = 2**53
WHOLE = re.compile(r"-?(0|[1-9][0-9]*)\.0")
WORDS_FOR_NOTHING = {"nan", "NaN", "None", "NaT", "<NA>", "null", "NULL"}
KINDS: tuple[tuple[str, tuple[type, ...]], ...] = (
    ("text", (str,)),
    ("bytes", (bytes,)),
    ("true and false", (bool, np.bool_)),
    ("numbers", (int, float, Decimal, np.integer, np.floating)),
)


class Named(NamedTuple):
    """Rows (N,) as numbers of the series `names` (S,), which are sorted; labels (S,) are the names as in the frame."""

    row: Ints
    names: Sequence[str]
    labels: Sequence[Any]
    kind: str = ""
    remarks: tuple[str, ...] = ()


def read_series(frame: pd.DataFrame, name: str | None) -> Named:
    """Tell the series of a frame by its column `name`; without one all rows are of one series.

    ConfigError for a row without a name, and for names of two kinds that would be one series, as 1 and "1".
    """
    if name is None:
        return Named(np.zeros(len(frame), np.int64), ("series",), ("series",))
    column = frame[name]
    refuse(column.isna(), column, "not a name: drop the row, or name its series")
    code, labels = _distinguish(column)
    kinds = {_kind(label) for label in labels}
    whole = kinds == {"text"} and all(WHOLE.fullmatch(label) for label in labels)
    texts = [label[:-2] if whole else _name(label) for label in labels]
    wrong = np.array([not text.strip() for text in texts], np.bool_)
    if wrong.any():
        refuse(pd.Series(wrong[code]), column, "not a name: write text, or a number with all its digits")
    remarks = (
        [f"column {name} is of whole numbers that became floats: {labels[0]} is read as {texts[0]}"] if whole else []
    )
    remarks += _join(name, labels, texts, kinds) + _look_alike(name, texts)
    place, names = pd.factorize(pd.Series(texts, dtype=object), sort=True)  # so that the order of rows changes nothing
    first = np.unique(place, return_index=True)[1]
    chosen = [_plain(labels[index]) for index in first.tolist()]
    return Named(place[code].astype(np.int64), names.tolist(), chosen, " and ".join(sorted(kinds)), tuple(remarks))


def note_names(names: Sequence[str], kind: str, learned: Sequence[str], was: str | None) -> list[str]:
    """Say which names a model may know by another spelling, and that it knew them as another kind; `was` that kind."""
    known = set(learned)
    near = {_fold(name): name for name in learned}
    pairs = [(name, near[_fold(name)]) for name in names if name not in known and _fold(name) in near]
    notes = [f"series {name!r} is unknown to the model, which knows {other!r}" for name, other in pairs[:1]]
    if len(pairs) > 1:
        notes = [f"{notes[0]}; {len(pairs) - 1:,} more are like it"]
    if was and kind and kind != was and not known.isdisjoint(names):
        notes.append(
            f"names of series are {kind} here and were {was} when the model was fitted: equal texts are the same series"
        )
    return notes


def _distinguish(column: "pd.Series[Any]") -> tuple[Ints, list[Any]]:
    """Number the values (N,) of a column, with the values themselves; those of two types are two."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(object)
    try:
        if column.dtype == object and pd.api.types.infer_dtype(column) not in ALIKE:
            keys = np.empty(len(column), object)
            keys[:] = [(type(value).__name__, value) for value in column]
            code, pairs = pd.factorize(keys)
            return code, [value for _, value in pairs]
        code, labels = pd.factorize(column)
        return code, labels.tolist()
    except TypeError as error:
        raise ConfigError(f"column {column.name} holds what cannot be a name: {error}") from error


def _kind(label: Any) -> str:
    return next((kind for kind, types in KINDS if isinstance(label, types)), type(label).__name__)


def _name(label: Any) -> str:
    """Write a label as text; nothing where it cannot be a name."""
    if isinstance(label, bytes):
        try:
            return label.decode()
        except UnicodeDecodeError:
            return ""
    if isinstance(label, float | np.floating) and not abs(float(label)) < EXACT:  # nor infinite
        return ""
    if isinstance(label, Decimal):
        return format(label.normalize(), "f") if label.is_finite() else ""
    return str(_plain(label))


def _plain(label: Any) -> Any:
    """Make a float that is whole an integer."""
    return int(label) if isinstance(label, float | np.floating) and float(label).is_integer() else label


def _join(column: str, labels: Sequence[Any], texts: Sequence[str], kinds: set[str]) -> list[str]:
    """Remark on labels that have one name and on kinds side by side; ConfigError where they may be two series."""
    same: dict[str, list[Any]] = defaultdict(list)
    for label, text in zip(labels, texts, strict=True):
        same[text].append(label)
    remarks: list[str] = []
    for text, several in same.items():
        if len(several) > 1 and {_kind(label) for label in several} != {"numbers"}:
            shown = " and ".join(f"{label!r} ({type(label).__name__})" for label in several[:2])
            raise ConfigError(
                f"column {column} holds {shown}, which would be one series, {text}: make them of one kind"
            )
        if len(several) > 1 and not remarks:
            remarks.append(f"in column {column} {' and '.join(map(str, several[:2]))} are one series, {text}")
    if len(kinds) > 1:
        remarks.append(f"column {column} holds {' and '.join(sorted(kinds))}: each is a series by its text")
    return remarks


def _look_alike(column: str, texts: Sequence[str]) -> list[str]:
    """Remark on names that a person may take for one, or for none."""
    remarks = [
        f"column {column} has a series named {text}: was its name missing?"
        for text in texts
        if text in WORDS_FOR_NOTHING
    ]
    seen: dict[str, str] = {}
    for text in texts:
        other = seen.setdefault(_fold(text, case=False), text)
        if other != text:
            return [*remarks, f"in column {column} {other!a} and {text!a} are two series"]
    return remarks


def _fold(name: str, *, case: bool = True) -> str:
    """Take away what often differs by mistake: space around, the form of accents, case, 1.0 and 01 for 1."""
    text = unicodedata.normalize("NFKC", name).strip()
    text = text.casefold() if case else text
    text = text[:-2] if WHOLE.fullmatch(text) else text
    return text.lstrip("0") or "0" if text.isdecimal() else text
