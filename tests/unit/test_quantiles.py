"""Quantiles as decimals: what rounding may do, and that packing loses nothing of it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.quantiles import MOST, NARROWEST, SAME, pack, pack_integers, shorten, unpack, unpack_integers
from pipeline.records import Floats

numbers = st.floats(-1e30, 1e30, allow_nan=False).filter(lambda number: number == 0.0 or abs(number) > 1e-280)


@st.composite
def forecasts(draw: st.DrawFn) -> Floats:
    """Quantiles (N, H, 13), ascending, of every size, many of them equal."""
    count, horizon = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    pool = st.one_of(numbers, st.sampled_from([0.0, 1.0, 0.1 + 0.2, 21.899999618530273, -1e18, 1e30]))
    size = count * horizon * 13
    return np.sort(np.array(draw(st.lists(pool, min_size=size, max_size=size))).reshape(count, horizon, 13), axis=-1)


def unpacked(quantiles: Floats) -> tuple[Floats, list[int]]:
    """Pack and unpack; also the bytes of a number of each forecast."""
    back, widths = np.full(quantiles.shape, np.nan), [0] * len(quantiles)
    for packed in pack(quantiles):
        shape = len(packed.rows), quantiles.shape[1], quantiles.shape[2]
        back[packed.rows] = unpack(packed.digits.tobytes(), shape, packed.width, packed.base, packed.scale)
        for row in packed.rows.tolist():
            widths[row] = packed.width
    return back, widths


def wave(level: float, unit: float, count: int = 20, horizon: int = 48) -> Floats:
    """Quantiles (N, H, 13) of a season of amplitude 10 units with intervals of about one."""
    rng = np.random.default_rng(5)
    middle = level + 10.0 * unit * np.sin(np.arange(horizon) / 24 * 2 * np.pi)
    spread = unit * np.sort(rng.normal(size=(count, horizon, 13)), axis=-1)
    return middle[None, :, None] + spread * np.sqrt(1 + np.arange(horizon) / 10)[None, :, None]


@given(forecasts())
def test_what_is_rounded_is_packed_without_loss_and_still_ascends(quantiles: Floats) -> None:
    rounded = shorten(quantiles)
    assert (np.diff(rounded, axis=-1) >= 0.0).all()
    assert not np.signbit(rounded[rounded == 0.0]).any()
    back, widths = unpacked(rounded)
    assert back.tobytes() == rounded.tobytes()
    assert set(widths) <= set(range(NARROWEST, MOST + 1))


@given(forecasts())
def test_what_was_not_rounded_is_packed_to_fifteen_digits_of_its_largest(quantiles: Floats) -> None:
    largest = np.abs(quantiles).max(axis=(1, 2), keepdims=True)
    assert (np.abs(unpacked(quantiles)[0] - quantiles) <= 1e-14 * largest).all()


@pytest.mark.parametrize("level", [0.0, 1e3, 1e6, 1e9])
@pytest.mark.parametrize("unit", [1e-18, 1e-6, 1.0, 1e12])
def test_whatever_the_level_an_interval_keeps_its_thousandth(level: float, unit: float) -> None:
    quantiles = wave(level * unit, unit)
    rounded = shorten(quantiles)
    narrowest = (quantiles[..., -1] - quantiles[..., 0]).min(axis=1)[:, None, None]
    assert (np.abs(rounded - quantiles) <= 0.51e-3 * narrowest).all()
    assert unpacked(rounded)[1] == [NARROWEST] * len(quantiles)


def test_quantiles_are_short_to_write() -> None:
    rounded = shorten(wave(5000.0, 30.0))
    assert max(len(repr(value)) for value in rounded.ravel().tolist()) <= 8


def test_intervals_much_narrower_than_the_forecast_is_high_take_more_bytes() -> None:
    quantiles = wave(0.0, 1.0)
    quantiles[:, 0] *= 1e-7
    rounded = shorten(quantiles)
    width = quantiles[:, 0, -1] - quantiles[:, 0, 0]
    assert (np.abs(rounded[:, 0] - quantiles[:, 0]).max(axis=-1) <= 0.51e-3 * width).all()
    assert min(unpacked(rounded)[1]) > NARROWEST


@pytest.mark.parametrize("end", [0.0, 0.1, 0.1 + 0.2, 21.899999618530273, 1234567890.1234567])
def test_an_end_of_what_is_possible_that_levels_share_stays_where_it_is(end: float) -> None:
    rounded = shorten(np.maximum(wave(end, 3.0), end))
    shared = rounded[..., 0]
    assert (shared == rounded[..., 1]).any()
    assert np.abs(shared[shared == rounded[..., 1]] - end).max() <= SAME * end


@pytest.mark.parametrize("value", [0.0, -7.0, 0.1, 123.456789012345, 0.1 + 0.2, 1e18, -1e-12])
def test_constants_stay_what_they_are(value: float) -> None:
    constant = np.full((1, 5, 13), value)
    rounded = shorten(constant)
    assert np.abs(rounded - constant).max() <= SAME * abs(value)
    assert len(repr(float(value))) > 16 or rounded.tolist() == constant.tolist()


@given(st.lists(st.integers(0, 10**16 - 1), min_size=1, max_size=20))
def test_integers_are_their_hexadecimal_text(values: list[int]) -> None:
    packed = pack_integers(np.array(values), 8)
    assert [int(bytes(row).hex()) for row in packed] == values
    assert unpack_integers(packed.tobytes(), 8).tolist() == values


def test_no_forecasts_are_no_bytes() -> None:
    none = np.empty((0, 4, 13))
    assert shorten(none).shape == none.shape
    assert list(pack(none)) == []
