from hypothesis import given
from hypothesis import strategies as st

from jobs.clock.child import CHUNK, LENGTH, Tail


@given(lines=st.lists(st.integers(0, 3 * CHUNK), max_size=30))
def test_what_is_kept_is_the_end_of_what_was_written_from_the_beginning_of_a_line(lines: list[int]) -> None:
    written = "".join(f"{number:03d}" + "x" * length + "\n" for number, length in enumerate(lines))
    tail = Tail()
    for line in written.splitlines(keepends=True):
        for start in range(0, len(line), CHUNK):  # as they are read
            tail.add(line[start : start + CHUNK])
    text = tail.text()
    assert written.endswith(text)
    assert len(text) <= LENGTH
    assert text == "" or text[:3].isdigit()
    assert len(text) > min(len(written), LENGTH) - 4 * CHUNK


def test_a_secret_is_masked_also_where_it_spans_two_chunks_and_the_longer_one_first() -> None:
    tail = Tail(["hunter", "hunter2", ""])
    tail.add("the password hun")
    tail.add("ter2 was refused, and hunter too\n\n")
    assert tail.text() == "the password *** was refused, and *** too\n\n"
    assert tail.last_line() == "the password *** was refused, and *** too"


def test_nothing_written_is_nothing_kept() -> None:
    assert (Tail(["x"]).text(), Tail().last_line()) == ("", None)
