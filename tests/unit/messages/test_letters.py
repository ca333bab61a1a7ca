"""A dead letter keeps its message whole unless it is very large, and says what it has left away."""

import hashlib

import numpy as np
import pytest

from pipeline.messages.letters import KEPT_BYTES, MOST_BYTES, is_whole, make_letter
from pipeline.records import DeadLetter, Envelope, Messages


def letter(key: bytes | None, value: bytes | None, headers: tuple[tuple[str, bytes | None], ...] = ()) -> DeadLetter:
    envelope = Envelope(5_000, headers)
    return make_letter(Messages(3, np.array([7]), [key], [value], 8, envelope=lambda _: envelope), 0, "bad")


def test_a_message_is_kept_as_it_is_with_its_headers_and_time() -> None:
    headers = (("a", b"b"), ("c", None))
    made = letter(b"k", b"x" * MOST_BYTES, headers)
    assert made == DeadLetter(3, 7, "bad", b"k", b"x" * MOST_BYTES, headers=headers, written_at=5_000)
    assert is_whole(made)


@pytest.mark.parametrize("name", ["key", "value"])
def test_of_a_very_large_one_the_beginning_is_kept_with_size_and_hash(name: str) -> None:
    large = b"abc" * MOST_BYTES
    made = letter(large, None) if name == "key" else letter(None, large)
    assert (made.key if name == "key" else made.value) == large[:KEPT_BYTES]
    assert made.reason == (
        f"bad; of the {name} 65,536 bytes are kept (of {len(large):,}, SHA-256 {hashlib.sha256(large).hexdigest()})"
    )
    assert not is_whole(made)


def test_large_headers_are_not_kept() -> None:
    made = letter(b"k", b"v", (("h", b"x" * KEPT_BYTES),))
    assert made.headers == ()
    assert made.reason == "bad; the headers are not kept (65,537 bytes)"
    assert not is_whole(made)


def test_a_batch_that_could_not_be_read_is_no_message() -> None:
    assert not is_whole(DeadLetter(0, 0, "the record batch failed its CRC check", None, b"raw"))
