"""Each row of "Real messages" in docs/mapping.md is what the mapping beside it makes of the message."""

import re
import tomllib

import pytest

from pipeline.settings import InputSettings, parse_seconds
from tests.documents import DOCUMENTS
from tests.unit.messages.reading import SECOND, read

FIRST = 1_767_225_600
TABLE = DOCUMENTS["docs/mapping.md"].partition("## Real messages")[2]
ROWS = [line.strip("| ").split(" | ") for line in TABLE.splitlines() if line.startswith("| ")][1:]
SPAN = re.compile(r"`([^`]*)`")
RECORD = re.compile(r"(key|header) `([^`]*)`, |time, ")
READING = re.compile(r"`([^`]+)` (null|-?[0-9.]+)(?: \(\+([^)]+)\))?")


def test_there_are_at_least_25_shapes_and_each_has_a_source_or_is_the_next_of_one() -> None:
    assert len(ROWS) >= 25
    assert all(len(row) == 4 for row in ROWS)
    assert sum("](http" in row[0] for row in ROWS) >= 25


@pytest.mark.parametrize("row", ROWS, ids=[re.sub(r"\]\([^)]*\)|\[", "", row[0]) for row in ROWS])
def test_a_real_message_is_read_as_the_table_says(row: list[str]) -> None:
    _, message, mapping, outcome = row
    settings = InputSettings(**tomllib.loads("\n".join(SPAN.findall(mapping))))
    said = RECORD.findall(message)
    keys = [text.encode() for what, text in said if what == "key"]
    headers = tuple(
        (name, content.encode()) for name, content in (text.split(": ", 1) for what, text in said if what == "header")
    )
    value = SPAN.findall(RECORD.sub("", message))[0].encode()
    events, letters = read(settings, value, key=keys[0] if keys else None, headers=headers, written_at=FIRST * SECOND)
    if outcome == "skipped":
        assert (len(events), letters) == (0, ())
    elif outcome.startswith("dead letter: "):
        (letter,) = letters
        assert outcome.removeprefix("dead letter: ") in letter.reason
        assert len(events) == 0
    else:
        assert letters == (), letters[0].reason
        found = [
            (name, number if seen else None, time // SECOND)
            for name, number, seen, time in zip(
                events.series, events.value.tolist(), events.observed.tolist(), events.event_time.tolist(), strict=True
            )
        ]
        assert found == [
            (name, None if number == "null" else float(number), FIRST + int(parse_seconds(later) if later else 0))
            for name, number, later in READING.findall(outcome)
        ]
        assert READING.sub("", outcome).strip(", ") == "", "nothing in the cell is left unread"
