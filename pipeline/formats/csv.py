"""CSV lines: an object a line, with texts, which the mapping reads as numbers; an empty column is null."""

import csv
from typing import Any

from pipeline.messages.lookup import Record
from pipeline.messages.unreadable import Fault
from pipeline.records import Kind, Messages
from pipeline.settings import InputSettings
from pipeline.visible import shown

BYTE_ORDER_MARK = "\ufeff"


class CsvDecoder:
    """Reads one line a message, or a list of lines where input.each is set."""

    def __init__(self, settings: InputSettings) -> None:
        self._columns = list(settings.columns)
        self._delimiter = settings.delimiter
        self._many = settings.each is not None

    def prepare(self, messages: Messages) -> None:
        """Need nothing."""

    def decode(self, value: bytes, record: Record) -> Any:
        """Return what a message says, or a Fault."""
        try:
            text = value.decode().removeprefix(BYTE_ORDER_MARK)
            lines = list(csv.reader(text.splitlines(keepends=True), delimiter=self._delimiter, strict=True))
        except UnicodeDecodeError as error:
            what = f"byte 0x{value[error.start]:02x} at {error.start} is not UTF-8; send CSV lines in UTF-8"
            return Fault(Kind.ENCODING, f"not an event: {what}")
        except csv.Error as error:
            return Fault(Kind.EVENT, f"not an event: no CSV line ({shown(str(error), 120)})")
        lines = [line for line in lines if line]
        columns = self._columns or (lines.pop(0) if lines else [])
        if len(set(columns)) < len(columns):
            return Fault(Kind.EVENT, f"not an event: two columns have one name: {shown(', '.join(columns))}")
        for place, line in enumerate(lines):
            if len(line) != len(columns):
                what = f"line {place} has {len(line)} columns, and {len(columns)} have names"
                return Fault(Kind.FIELD, f"not an event: {what}: {shown(', '.join(columns))}")
        rows = [{name: cell or None for name, cell in zip(columns, line, strict=True)} for line in lines]
        if self._many:
            return rows
        if len(rows) != 1:
            what = f"{len(rows)} CSV lines, not one; set input.each to $value for messages with several"
            return Fault(Kind.EVENT, f"not an event: {what}")
        return rows[0]
