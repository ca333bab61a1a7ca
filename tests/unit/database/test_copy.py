"""The binary COPY encoder against a decoder that reads field by field."""

import struct
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pipeline.database.turns import copy


def stream(batches: list[bytes]) -> bytes:
    return b"".join(copy.stream(batches))


def decode(content: bytes, formats: list[str | None]) -> list[tuple[Any, ...]]:
    """Read a COPY stream row by row; a format is a struct letter, or None for text."""
    assert content.startswith(b"PGCOPY\n\xff\r\n\x00" + bytes(8))
    place, rows = 19, []
    while True:
        (count,) = struct.unpack_from(">h", content, place)
        place += 2
        if count == -1:
            assert place == len(content)
            return rows
        assert count == len(formats)
        row: list[Any] = []
        for letter in formats:
            (size,) = struct.unpack_from(">i", content, place)
            place += 4
            if size == -1:
                row.append(None)
                continue
            cell = content[place : place + size]
            place += size
            row.append(cell if letter is None else struct.unpack(f">{letter}", cell)[0])
        rows.append(tuple(row))


@given(
    st.integers(1, 5).flatmap(
        lambda n: st.tuples(
            arrays.arrays(np.int32, n),
            arrays.arrays(np.int64, n),
            arrays.arrays(np.float64, n),
            arrays.arrays(np.uint8, (n, 3)),
            st.binary(max_size=9),
        )
    )
)
def test_every_value_comes_back_with_the_same_bits(columns: tuple[Any, ...]) -> None:
    short, long, real, raw, word = columns
    encoded = copy.encode((len(short),), (short, None, long, real, raw, word))
    rows = decode(stream([encoded]), ["i", "i", "q", "q", None, None])
    cells = zip(short.tolist(), long.tolist(), real.view(np.int64).tolist(), map(bytes, raw), strict=True)
    assert rows == [(a, None, *rest, word) for a, *rest in cells]


def test_arrays_broadcast_over_a_table_of_rows_in_c_order() -> None:
    encoded = copy.encode((2, 3), (np.array([[10], [20]]), np.arange(3, dtype=np.int32), np.array(1.5)))
    assert decode(stream([encoded]), ["q", "i", "d"]) == [
        (series, step, 1.5) for series in (10, 20) for step in (0, 1, 2)
    ]


def test_batches_of_different_widths_make_one_stream() -> None:
    known = copy.encode((1,), (np.array([1]), np.array([2.0])))
    missing = copy.encode((2,), (np.array([3, 4]), None))
    assert decode(stream([known, missing]), ["q", "d"]) == [(1, 2.0), (3, None), (4, None)]


def test_no_batches_are_an_empty_stream() -> None:
    assert decode(stream([]), []) == []


def test_times_count_from_the_year_2000() -> None:
    assert copy.timestamps(np.array([946_684_800_000_001])).tolist() == [1]
