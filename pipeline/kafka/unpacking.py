"""Unpacking a compressed record batch with a limit: 65 kB on the wire may hold a gigabyte.

The library's functions unpack all of it. These stop at a limit, and snappy's, which states its size, before it
begins. What they hold is never more than twice the limit and what the codec itself needs. The codecs of
`tidecast[compression]` are imported when a batch needs them, so that a missing one is that batch's error.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from kafka.record import default_records, legacy_records

NONE = 0
NAMES = {0: "none", 1: "gzip", 2: "snappy", 3: "lz4", 4: "zstd"}
PIECE = 1 << 20  # bytes unpacked at a time
OLD_LIMIT = 8 << 20
"""Bytes of an unpacked batch of the old formats 0 and 1: each of its messages costs the library several objects."""
XERIAL = b"\x82SNAPPY\0"
XERIAL_HEADER = 16  # bytes: the magic, a version, and the oldest version that can read it


class TooLarge(ValueError):
    """A batch unpacks to more than `limit` bytes."""

    def __init__(self, codec: str, limit: int) -> None:
        super().__init__(f"it unpacks to more than {limit:,} bytes ({codec})")
        self.codec = codec
        self.limit = limit


def unpack(codec: int, packed: bytes, limit: int) -> bytes:
    """Unpack the records of a batch; TooLarge beyond `limit` bytes, and each codec's own error if it cannot be."""
    if codec not in UNPACKERS:
        raise ValueError(f"compression type {codec} is not known")
    return UNPACKERS[codec](packed, limit)


def _joined(pieces: Iterable[bytes], codec: str, limit: int) -> bytes:
    kept, size = [], 0
    for piece in pieces:
        size += len(piece)
        if size > limit:
            raise TooLarge(codec, limit)
        kept.append(piece)
    return kept[0] if len(kept) == 1 else b"".join(kept)


def _gzip_pieces(packed: bytes) -> Iterator[bytes]:
    while packed:
        member = zlib.decompressobj(wbits=31)
        while not member.eof:
            piece = member.decompress(packed, PIECE)
            packed = member.unconsumed_tail
            if not piece and not member.eof:
                raise EOFError("the compressed bytes end too early")
            yield piece
        packed = member.unused_data.lstrip(b"\0")  # more members may follow, and padding


def _lz4_pieces(packed: bytes) -> Iterator[bytes]:
    import lz4.frame

    frame = lz4.frame.LZ4FrameDecompressor()
    piece = frame.decompress(packed, PIECE)
    while not frame.eof:
        if not piece:
            raise EOFError("the compressed bytes end too early")
        yield piece
        piece = frame.decompress(b"", PIECE)
    yield piece


def _zstd_pieces(packed: bytes) -> Iterator[bytes]:
    import zstandard

    with zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True) as reader:
        while piece := reader.read(PIECE):
            yield piece


def _snappy_blocks(packed: bytes) -> Iterator[bytes]:
    """Split the framing of the xerial library, which Java's clients use; without it there is one block."""
    if len(packed) < XERIAL_HEADER or not packed.startswith(XERIAL):
        yield packed
        return
    at = XERIAL_HEADER
    while at < len(packed):
        begin, size = at + 4, int.from_bytes(packed[at : at + 4], "big")
        at = begin + size
        if at > len(packed):
            raise EOFError("the compressed bytes end too early")
        yield packed[begin:at]


def _snappy_size(block: bytes) -> int:
    """Read the size that a block states for what it unpacks to; snappy writes no more."""
    size = 0
    for i, byte in enumerate(block[:5]):
        size |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return size
    raise EOFError("the compressed bytes end too early")


def _unpack_snappy(packed: bytes, limit: int) -> bytes:
    import snappy

    blocks = list(_snappy_blocks(packed))
    if sum(map(_snappy_size, blocks)) > limit:
        raise TooLarge("snappy", limit)
    return _joined(map(snappy.decompress, blocks), "snappy", limit)


UNPACKERS: dict[int, Callable[[bytes, int], bytes]] = {
    1: lambda packed, limit: _joined(_gzip_pieces(packed), "gzip", limit),
    2: _unpack_snappy,
    3: lambda packed, limit: _joined(_lz4_pieces(packed), "lz4", limit),
    4: lambda packed, limit: _joined(_zstd_pieces(packed), "zstd", limit),
}


def bound_library(limit: int) -> None:
    """Put these in the place of the functions that the library itself unpacks with, for the whole process."""
    for module, most in ((default_records, limit), (legacy_records, min(limit, OLD_LIMIT))):
        for codec, name in NAMES.items():
            if codec and hasattr(module, f"{name}_decode"):
                setattr(module, f"{name}_decode", _as_the_library_calls_it(codec, most))
    legacy_records.lz4_decode_old_kafka = _refuse_old_lz4


def _as_the_library_calls_it(codec: int, limit: int) -> Callable[[Any], bytes]:
    return lambda packed: unpack(codec, bytes(packed), limit)


def _refuse_old_lz4(packed: Any) -> bytes:
    raise ValueError("lz4 in messages of format 0, with the wrong checksum of Kafka 0.8, is not read")
