"""The COPY encoder against PostgreSQL itself."""

from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pipeline.database.schema.instants import to_datetime
from pipeline.database.turns import copy

ROWS = st.integers(1, 6).flatmap(
    lambda n: st.tuples(
        arrays.arrays(np.int32, n),
        arrays.arrays(np.int64, n),
        arrays.arrays(np.float64, n, elements=st.floats(allow_nan=False)),
        arrays.arrays(np.int64, n, elements=st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999)),
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    )
)


@pytest.fixture(scope="session")
def connection(postgresql: Any) -> Any:
    with psycopg.connect(postgresql.fresh_database().replace("+psycopg", ""), autocommit=True) as opened:
        opened.execute("SET TimeZone = 'UTC'")
        yield opened


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(ROWS)
def test_postgresql_stores_what_numpy_encoded(connection: Any, columns: tuple[Any, ...]) -> None:
    short, long, real, time, word = columns
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS x (a int, b bigint, c float8, t timestamptz, w text, n int)")
    connection.execute("TRUNCATE x")
    fields = (short, long, real, copy.timestamps(time), word.encode(), None)
    with connection.cursor() as cursor, cursor.copy("COPY x FROM STDIN (FORMAT BINARY)") as writer:
        writer.write(b"".join(copy.stream([copy.encode((len(short),), fields)])))
    rows = connection.execute("SELECT * FROM x").fetchall()
    expected = zip(short.tolist(), long.tolist(), real.tolist(), map(to_datetime, time.tolist()), strict=True)
    assert rows == [(*row, word, None) for row in expected]
    assert np.array([row[2] for row in rows]).tobytes() == real.tobytes()


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(arrays.arrays(np.float64, st.integers(1, 9)))
def test_numpy_decodes_the_arrays_that_postgresql_sends(connection: Any, values: Any) -> None:
    with connection.cursor(binary=True) as cursor:
        cursor.execute("SELECT array_send(%s::float8[])", (values.tolist(),))
        sent = cursor.fetchone()[0]
    decoded = copy.vector(sent, ">f8")
    assert np.array_equal(decoded, values, equal_nan=True)
