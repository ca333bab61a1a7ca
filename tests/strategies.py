"""Streams of events as they really come: gaps, duplicates, disorder, explicit nulls, missing covariates."""

from hypothesis import strategies as st

# (series, step, value or None, and none or two covariates); whole numbers, so that sums and means of halves are exact
# in any order
values = st.none() | st.integers(-8, 8).map(float)
_event = (st.sampled_from("abc"), st.integers(0, 30), values)
_narrow = st.lists(st.tuples(*_event), min_size=1, max_size=60)
_wide = st.lists(st.tuples(*_event, values, values), min_size=1, max_size=60)
streams = _narrow | _wide
cuts = st.lists(st.integers(1, 12), min_size=1, max_size=20)
