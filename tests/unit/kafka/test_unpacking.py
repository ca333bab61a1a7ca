"""Unpacking gives what the codecs' own functions give, and stops at its limit without holding more."""

import gzip
import struct
import tracemalloc

import lz4.frame
import pytest
import snappy
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from kafka import codec as library

from pipeline.kafka.unpacking import PIECE, TooLarge, unpack

PACK = {
    "gzip": (1, library.gzip_encode),
    "gzip of two members": (1, lambda raw: gzip.compress(raw[: len(raw) // 2]) + gzip.compress(raw[len(raw) // 2 :])),
    "gzip with padding": (1, lambda raw: gzip.compress(raw) + bytes(9)),
    "snappy": (2, snappy.compress),
    "snappy of xerial": (2, library.snappy_encode),
    "snappy of xerial in one block": (2, lambda raw: library.snappy_encode(raw, xerial_blocksize=1 << 30)),
    "lz4": (3, library.lz4_encode),
    "lz4 without its size": (3, lambda raw: lz4.frame.compress(raw, store_size=False)),
    "lz4 with large blocks": (3, lambda raw: lz4.frame.compress(raw, block_size=lz4.frame.BLOCKSIZE_MAX4MB)),
    "zstd": (4, library.zstd_encode),
    "zstd without its size": (4, lambda raw: zstandard.ZstdCompressor(write_content_size=False).compress(raw)),
    "zstd of two frames": (4, lambda raw: library.zstd_encode(raw[:1]) + library.zstd_encode(raw[1:])),
}
LIMIT = 3 * PIECE


@pytest.mark.parametrize("name", PACK)
@given(raw=st.binary(max_size=3_000), times=st.sampled_from([1, 1_000]))
def test_what_was_packed_is_unpacked(name: str, raw: bytes, times: int) -> None:
    codec, pack = PACK[name]
    assert unpack(codec, pack(raw * times), LIMIT) == raw * times


@pytest.mark.parametrize("name", PACK)
@pytest.mark.parametrize("size", [LIMIT, LIMIT + 1, 30 * PIECE])
def test_more_than_the_limit_is_refused_and_never_held(name: str, size: int) -> None:
    codec, pack = PACK[name]
    packed = pack(bytes(size))
    tracemalloc.start()
    try:
        if size <= LIMIT:
            assert unpack(codec, packed, LIMIT) == bytes(size)
        else:
            with pytest.raises(TooLarge, match="more than 3,145,728 bytes"):
                unpack(codec, packed, LIMIT)
        assert tracemalloc.get_traced_memory()[1] < 2 * LIMIT + 2 * PIECE + 2 * len(packed)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", [name for name in PACK if "zstd" not in name and "two" not in name])
@given(st.data())
def test_a_packed_batch_that_was_cut_is_an_error(name: str, data: st.DataObject) -> None:
    codec, pack = PACK[name]
    packed = pack(b"some bytes of a batch" * 9)
    cut = packed[: data.draw(st.integers(17, len(packed) - 10))]
    with pytest.raises(Exception):  # noqa: B017 - each codec has errors of its own
        unpack(codec, cut, LIMIT)


@pytest.mark.parametrize("size", [-4, -1, 0, 1 << 30])
def test_a_block_of_a_wrong_size_is_an_error_not_an_endless_loop(size: int) -> None:
    packed = library.snappy_encode(b"x" * 100)
    packed = packed[:16] + struct.pack(">i", size) + packed[20:]
    with pytest.raises(Exception):  # noqa: B017
        unpack(2, packed, LIMIT)


@given(codec=st.integers(0, 7), packed=st.binary(max_size=200))
def test_any_bytes_are_unpacked_or_an_error(codec: int, packed: bytes) -> None:
    try:
        assert len(unpack(codec, packed, 1 << 16)) <= 1 << 16
    except Exception as error:  # noqa: BLE001
        assert str(error) or type(error)
