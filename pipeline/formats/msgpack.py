"""MessagePack: timestamps are times, binary is base64, and names that are no texts become texts."""

from typing import Any

import msgspec

from pipeline.formats.values import plain
from pipeline.messages.lookup import Record
from pipeline.messages.unreadable import Fault
from pipeline.records import Kind, Messages
from pipeline.visible import shown


class MessagePackDecoder:
    """Reads one value a message."""

    def __init__(self) -> None:
        self._decode = msgspec.msgpack.Decoder(ext_hook=lambda code, content: bytes(content)).decode

    def prepare(self, messages: Messages) -> None:
        """Need nothing."""

    def decode(self, value: bytes, record: Record) -> Any:
        """Return what a message says, or a Fault."""
        try:
            return plain(self._decode(value))
        except RecursionError:
            return Fault(Kind.EVENT, "not an event: nested too deeply")
        except (msgspec.MsgspecError, UnicodeDecodeError, TypeError) as error:
            return Fault(Kind.ENCODING, f"not an event: no MessagePack ({shown(str(error), 120)})")
