"""Why a message is no event, in the words of whoever must mend its producer.

Everything here is for messages that could not be read, so only bad messages pay for it. A reason is one line. It names
the field, shows what was found, SHOWN characters of it at most, and says what to send instead. Nothing raises.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.grid.times import NUMBER
from pipeline.records import Kind
from pipeline.visible import quoted, shown

BLANK = " \t\r\n"
MAGIC = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"\x82SNAPPY\0": "snappy",
    b"\xff\x06\0\0sNaPpY": "snappy",
    b"BZh91AY": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x78\x01": "zlib",
    b"\x78\x9c": "zlib",
    b"\x78\xda": "zlib",
}
MARKS = {b"\xff\xfe\0\0": "UTF-32", b"\0\0\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
WIDE = ("utf-32-be", "utf-32-le", "utf-16-be", "utf-16-le")
ADVICE = "send one JSON object in UTF-8"
LARGEST = 1e18  # of a value
NAME_BYTES = 256  # of the name of a series, at most


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a message is no event: the class, for metrics, and the words, for people."""

    kind: Kind
    reason: str


@dataclass(frozen=True, slots=True)
class Fields:
    """The names of an event's fields in messages."""

    series: str
    time: str
    value: str
    covariates: Sequence[str] = ()


def explain(value: bytes, fields: Fields | None, said: str) -> Fault:
    """Say why these bytes, of which there are some, are no event; `said` is the decoder's own word, the last resort.

    Without `fields`, any object could be one.
    """
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        found = _name_encoding(value) or f"byte 0x{value[error.start]:02x} at {error.start} is not UTF-8; {ADVICE}"
        return Fault(Kind.ENCODING, f"not an event: {found}")
    encoding = _name_encoding(value)
    if encoding:
        return Fault(Kind.ENCODING, f"not an event: {encoding}")
    try:
        return _explain_text(text, fields, said)
    except (RecursionError, MemoryError):
        return Fault(Kind.EVENT, "not an event: nested too deeply; send a flat JSON object")
    except ValueError:  # an integer with more digits than Python reads
        return Fault(Kind.NUMBER, "not an event: a number has thousands of digits; send numbers within +-1e18")


def find_no_value(value: bytes | None, most: int) -> Fault | None:
    """Say why a message has nothing to read: no value, no bytes, or more than `most`; None if it has."""
    if value is None:
        return Fault(Kind.NULL, "the message has no value")
    if not value:
        return Fault(Kind.EMPTY, "the message is empty")
    if len(value) > most:
        return Fault(Kind.SIZE, f"the message has {len(value)} bytes, more than input.max_message_bytes ({most})")
    return None


def _name_encoding(value: bytes) -> str | None:
    """Recognize bytes that are no plain text by how they begin."""
    for magic, name in MAGIC.items():
        if value.startswith(magic):
            return (
                f"the value is compressed with {name}; set the producer's compression.type instead, "
                "which Kafka undoes by itself"
            )
    if value.startswith(b"\xef\xbb\xbf"):
        return "the value begins with a byte order mark; send UTF-8 without one, or set input.lenient"
    mark = next((name for mark, name in MARKS.items() if value.startswith(mark)), None)
    wide = mark or next((name[:6].upper() for name in WIDE if _is_wide(value, name)), None)
    if wide:
        return f"the value is text in {wide}; send UTF-8"
    if value[0] == 0 and len(value) > 5:
        number = int.from_bytes(value[1:5], "big")
        return (
            f"the value begins with the 5 bytes of a schema registry (schema {number}): its producer writes Avro, "
            "Protobuf or JSON Schema; set input.format to it, and registry.url"
        )
    if _is_binary(value):
        return (
            f"the value is binary (it begins with {value[:8].hex(' ')}), such as Avro, Protobuf or MessagePack; "
            "set input.format to what it is"
        )
    return None


def _is_wide(value: bytes, encoding: str) -> bool:
    """Tell whether the first two characters are those of JSON in an encoding of 2 or 4 bytes."""
    size = 4 if "32" in encoding else 2
    if 0 not in value[: 2 * size]:
        return False
    first = value[: 2 * size].decode(encoding, errors="replace")
    return first[:1] in tuple('{["') and first[1:].isascii() and "\0" not in first


def _is_binary(value: bytes) -> bool:
    if value.lstrip()[:1] in (b"{", b"[", b'"'):
        return False
    head = value[:64]
    control = any(byte < 0x20 and byte not in b"\t\n\r" for byte in head)
    return control or head.decode(errors="replace")[0] == "\ufffd"


def _explain_text(text: str, fields: Fields | None, said: str) -> Fault:
    body = text.strip(BLANK)
    if not body:
        return Fault(Kind.EVENT, f"not an event: nothing but white space; {ADVICE}")
    missing: list[str] = []

    def note(word: str) -> float:
        missing.append(word)
        return float(word.replace("Infinity", "inf"))

    try:
        found, end = json.JSONDecoder(parse_constant=note).raw_decode(body)
    except json.JSONDecodeError as error:
        return Fault(Kind.EVENT, f"not an event: {_explain_syntax(body, error)}")
    rest = body[end:].strip(BLANK)
    if rest:
        another = rest.lstrip(BLANK + ",")[:1] in tuple('{["')
        what = "two JSON values in one message" if another else f"{quoted(rest)} after the JSON value"
        return Fault(Kind.EVENT, f"not an event: {what}; send one JSON object a message")
    if missing:
        where = next((name for name in _names(found) if found[name] != found[name] or _infinite(found[name])), None)
        about = f"{shown(where)} is {missing[0]}" if where else f"{missing[0]} in it"
        return Fault(
            Kind.NUMBER, f"not an event: {about}, which JSON does not have; send null for a value that is missing"
        )
    if not isinstance(found, dict):
        return Fault(Kind.EVENT, f"not an event: {explain_shape(found)}")
    wrong = _explain_object(found, fields) if fields else None
    return wrong or Fault(Kind.EVENT, f"not an event: {shown(said, 120)}")


def _names(found: object) -> Sequence[str]:
    return list(found) if isinstance(found, dict) else []


def _infinite(number: object) -> bool:
    return isinstance(number, float) and abs(number) == float("inf")


def _explain_syntax(body: str, error: json.JSONDecodeError) -> str:
    at = body[error.pos :]
    before = body[: error.pos].rstrip(BLANK)
    if body[0] == "<":
        return f"the value is XML or HTML, it begins with {quoted(body)}; {ADVICE}"
    if body[0] not in "{[":
        return f"the value is no JSON, it begins with {quoted(body)}; {ADVICE}"
    if not at.strip(BLANK) or error.msg.startswith("Unterminated string"):
        return f"the JSON ends in the middle, after {quoted(body[-20:])}; the value was cut off or not escaped"
    if at[0] == "'":
        return "single quotes, as Python prints a dict; send JSON with double quotes (json.dumps)"
    if at[0] in "}]" and before.endswith(","):
        return f"a comma before {at[0]!r}; JSON has none there"
    if error.msg.startswith("Expecting property name"):
        return f"a field's name without double quotes, at {quoted(at)}; send JSON with double quotes"
    word = re.match(r"[A-Za-z_]+", at)
    if word:
        return (
            f"the word {quoted(word[0])}, which JSON does not have; write null, true, false, or a text in double quotes"
        )
    if error.msg.startswith("Invalid control character"):
        return "a line end or control character inside a text; escape it, as \\n"
    return f"no JSON from {quoted(at)} on; {ADVICE}"


def explain_shape(found: object) -> str:
    """Say what a value is that should be a JSON object."""
    if isinstance(found, list):
        return f"a JSON array of {len(found)}, not an object; send one object a message"
    if isinstance(found, str) and found.strip(BLANK)[:1] in ("{", "["):
        return "JSON inside a JSON text: it was encoded twice; encode it once"
    return f"{describe(found)}, not a JSON object; {ADVICE}"


def _explain_object(found: Mapping[str, object], fields: Fields) -> Fault | None:
    needed = {fields.series: "input.series_id", fields.time: "input.timestamp", fields.value: "input.value"}
    absent = [name for name in needed if name not in found]
    if absent:
        return Fault(Kind.FIELD, f"not an event: {_explain_absence(found, absent, needed)}")
    for name, value in ((name, found[name]) for name in (*needed, *fields.covariates) if name in found):
        wrong = _explain_field(name, value, fields)
        if wrong:
            return wrong
    return None


def _explain_absence(found: Mapping[str, object], absent: Sequence[str], needed: Mapping[str, str]) -> str:
    no = f"no field {' and no '.join(map(shown, absent))}"
    envelope = next((path for path in _paths(found) if all(name in _inside(found, path) for name in absent)), None)
    if envelope:
        maker = {
            "payload": " (Kafka Connect: set value.converter.schemas.enable=false)",
            "after": " (Debezium: unwrap it)",
        }
        return (
            f"{no}, but it is inside {shown(envelope)}{maker.get(envelope.rpartition('.')[2], '')}; send it at the top"
        )
    names = ", ".join(map(str, found)) if found else ""
    others = {name.casefold().strip(): name for name in found}
    alike = others.get(absent[0].casefold().strip())
    if alike is not None:
        return f"{no}, but {quoted(alike)}; set {needed[absent[0]]} to the name as it is written"
    setting = needed[absent[0]]
    return f"{no}; the message has {shown(names) if names else 'no fields'}; set {setting} if the name is another one"


def _paths(found: Mapping[str, object]) -> Sequence[str]:
    """List the fields that hold objects, and those within them."""
    first = [name for name, value in found.items() if isinstance(value, dict)]
    return [
        *first,
        *(f"{name}.{own}" for name in first for own in _inside(found, name) if _inside(found, f"{name}.{own}")),
    ]


def _inside(found: Mapping[str, object], path: str) -> Mapping[str, object]:
    name, _, rest = path.partition(".")
    inner = found.get(name)
    within: Mapping[str, object] = inner if isinstance(inner, dict) else {}
    return _inside(within, rest) if rest else within


def _explain_field(name: str, value: object, fields: Fields) -> Fault | None:
    field = shown(name)
    if name == fields.series:
        return None if isinstance(value, str) else explain_name(field, value)
    if name == fields.time:
        return explain_moment(field, value)
    return explain_number(field, value)


def explain_name(field: str, value: object) -> Fault:
    """Say why a value that is no text is no name."""
    advice = f"send it in quotes, as {quoted(str(value))}" if type(value) in (int, float) else "send a text"
    advice += ", or set input.lenient" if type(value) is int else ""
    return Fault(Kind.FIELD, f"not an event: {field} is {describe(value)}, not a text; {advice}")


def explain_moment(field: str, value: object) -> Fault | None:
    """Say why a value is neither text nor number, as a time is; None if it is one."""
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return None if isinstance(value, str) or abs(value) < 2**63 else outside(field, value)
    advice = "send ISO 8601 with an offset, or a number of s, ms, us or ns since 1970"
    return Fault(Kind.FIELD, f"not an event: {field} is {describe(value)}, not a time; {advice}")


def explain_number(field: str, value: object) -> Fault | None:
    """Say why a value is no number within bounds; None if it is one, or null."""
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return outside(field, value) if abs(value) > LARGEST else None
    advice = "send a number without quotes" if isinstance(value, str) else "send a number, or null if it is missing"
    if isinstance(value, str) and "," in value:
        advice += ", with a decimal point, or set input.decimal_comma"
    elif isinstance(value, str) and NUMBER.fullmatch(value):
        advice += ", or set input.lenient"
    return Fault(Kind.FIELD, f"not an event: {field} is {describe(value)}, not a number; {advice}")


def outside(field: str, value: float) -> Fault:
    """Say that a number is beyond bounds."""
    try:
        found = shown(repr(float(value)))
    except OverflowError:
        found = f"a number of {len(str(abs(value)))} digits"
    return Fault(Kind.NUMBER, f"{field}: {found} is not a finite number within +-1e18")


def is_name(name: str) -> bool:
    """Tell whether a text can be the name of a series."""
    return 0 < len(name) <= NAME_BYTES and (name.isascii() or _fits(name)) and "\0" not in name


def misnamed(field: str, name: str) -> Fault:
    """Say why a text cannot be the name of a series."""
    size = len(name.encode(errors="surrogatepass"))
    found = f"has {size} bytes" if size > NAME_BYTES else "holds a NUL" if "\0" in name else "holds half a character"
    about = f"{field}: {quoted(name) if name else 'it'} {found if name else 'is empty'}"
    return Fault(Kind.NAME, f"{about}; a name has 1 to {NAME_BYTES} bytes and no NUL")


def _fits(name: str) -> bool:
    try:
        return len(name.encode()) <= NAME_BYTES
    except UnicodeEncodeError:
        return False


def describe(value: object) -> str:
    """Say what a value of JSON is."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, str):
        return f"the text {quoted(value)}"
    if isinstance(value, int | float):
        return f"the number {shown(repr(value))}"
    return f"a list of {len(value)}" if isinstance(value, list) else "an object"
