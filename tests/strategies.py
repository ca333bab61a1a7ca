"""Streams of events as they really come: gaps, duplicates, disorder, explicit nulls."""

from hypothesis import strategies as st

# (series, step, value or None); whole numbers, so that sums and means of halves are exact in any order
values = st.none() | st.integers(-8, 8).map(float)
streams = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 30), values), min_size=1, max_size=60)
cuts = st.lists(st.integers(1, 12), min_size=1, max_size=20)
