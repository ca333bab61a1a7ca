"""docs/tutorial.md as a reader goes through it: every block in order, with real processes, in an empty folder.

What a block of `sh` writes to stdout is compared with the block of `text` after it. Words, whole numbers and the times
of the tutorial's data must be the same, decimals alike within a quarter, other times only times. `...` stands for any
lines. Under the title "for example" every number may differ; under "after a while" the command is run again until its
output fits. Only the ports are changed, which might be taken here.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pipeline.settings.sources import load
from tests.servers import free_port

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tutorial.md"
BLOCK = re.compile(r'^```(?P<language>\w+)(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)^```$', re.MULTILINE | re.DOTALL)
AGAIN, EXAMPLE = "after a while", "for example"
PATIENCE = 180.0
TOLERANCE = 0.25
ANY = "..."
INTEGER = re.compile(r"-?\d{1,3}(,\d{3})+|-?\d+")
DECIMAL = re.compile(r"-?\d+\.\d+(e-?\d+)?")
DAY = re.compile(r"\d{4}-\d\d-\d\d")
CLOCK = re.compile(r"\d\d:\d\d:\d\d(\.\d+)?")
OF_THE_DATA = "2025-"


@dataclass(frozen=True)
class Block:
    """A block of the page: its language, its title, its text, and the line where it begins."""

    language: str
    title: str | None
    text: str
    line: int


def read_blocks() -> list[Block]:
    page = PAGE.read_text(encoding="utf-8")
    return [
        Block(found["language"], found["title"], found["text"], page[: found.start()].count("\n") + 1)
        for found in BLOCK.finditer(page)
    ]


def alike(expected: str, found: str, *, example: bool = False) -> bool:
    """Tell whether an output is of the same kind as the one shown."""
    pieces: list[list[str]] = [[]]
    for line in expected.splitlines():
        if line.strip() == ANY:
            pieces.append([])
        else:
            pieces[-1].append(line)
    lines = found.splitlines()
    first, *rest = pieces
    if not _agree(first, lines[: len(first)], example=example):
        return False
    if not rest:
        return len(lines) == len(first)
    lines = lines[len(first) :]
    *middle, last = rest
    for piece in middle:
        places = range(len(lines))
        place = next((at for at in places if _agree(piece, lines[at : at + len(piece)], example=example)), None)
        if place is None:
            return False
        lines = lines[place + len(piece) :]
    return len(lines) >= len(last) and _agree(last, lines[len(lines) - len(last) :], example=example)


def _agree(expected: list[str], found: list[str], *, example: bool) -> bool:
    return len(expected) == len(found) and all(
        len(one.split()) == len(other.split())
        and all(_fits(a, b, example=example) for a, b in zip(_words(one), _words(other), strict=True))
        for one, other in zip(expected, found, strict=True)
    )


def _words(line: str) -> list[str]:
    """Split a line at white space; the clock of a time of the data is told by its day."""
    words = line.split()
    return [f"{words[at - 1]}T{word}" if at and CLOCK.fullmatch(word) else word for at, word in enumerate(words)]


def _fits(expected: str, found: str, *, example: bool) -> bool:
    if expected == found:
        return True
    if expected.startswith(OF_THE_DATA):
        return False
    for kind in (DAY, re.compile(DAY.pattern + "T" + CLOCK.pattern)):
        if kind.fullmatch(expected):
            return bool(kind.fullmatch(found))
    if DECIMAL.fullmatch(expected) and (DECIMAL.fullmatch(found) or INTEGER.fullmatch(found)):
        return example or abs(float(found) - float(expected)) <= TOLERANCE * abs(float(expected))
    return bool(example and INTEGER.fullmatch(expected) and INTEGER.fullmatch(found))


class Terminal:
    """A reader's shell: blocks are typed into it one after the other, so folder, PATH and jobs stay."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._errors = folder / "stderr.log"
        self._count = 0
        with self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                ["bash"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=folder,
                env=environment,
                start_new_session=True,
            )

    def type(self, text: str) -> tuple[bool, str]:
        """Run a block to its end; tell whether every line of it ended well, and return its stdout."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._count += 1
        mark = f"end-of-block-{self._count}"
        lines = [f"{line} || failed=$((failed + 1))" if _is_whole(line) else line for line in text.splitlines()]
        body = "\n".join(["failed=0", *lines])
        self.process.stdin.write(f"{{\n{body}\n}} < /dev/null\necho\necho {mark} $failed\n")
        self.process.stdin.flush()
        said: list[str] = []
        for line in self.process.stdout:
            if line.startswith(f"{mark} "):
                break
            said.append(line)
        else:
            raise AssertionError(f"the shell ended in this block:\n{text}\n{self.errors()}")
        return line == f"{mark} 0\n", "".join(said)[:-1]  # without the empty line that ends an output without one

    def errors(self) -> str:
        return self._errors.read_text(encoding="utf-8", errors="replace")[-3000:]


def _is_whole(line: str) -> bool:
    return bool(line.strip()) and not line.rstrip().endswith("&")


@contextmanager
def open_terminal(folder: Path, environment: dict[str, str]) -> Iterator[Terminal]:
    """Open a shell in a session of its own, and end whatever is left of that session."""
    terminal = Terminal(folder, environment)
    try:
        yield terminal
    finally:
        with suppress(ProcessLookupError):
            os.killpg(terminal.process.pid, signal.SIGKILL)
        terminal.process.communicate()


def clone(folder: Path) -> Path:
    """Make what a reader has after `git clone` and the download of `make install`: this repository and a .venv."""
    place = folder / "tidecast"
    (place / ".venv").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (place / name).symlink_to(ROOT / name)
    for part in ("bin", "lib", "lib64", "include", "pyvenv.cfg"):
        if (Path(sys.prefix) / part).exists():
            (place / ".venv" / part).symlink_to(Path(sys.prefix) / part)
    (place / ".venv" / ".installed").touch()
    return place


@pytest.mark.slow
def test_the_tutorial_runs_word_for_word(tmp_path: Path) -> None:
    ports = {"9092": str(free_port()), "8321": str(free_port())}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TIDECAST_")}
    environment |= {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    folder = tmp_path / "tidecast-tutorial"
    blocks = read_blocks()
    with open_terminal(clone(tmp_path), environment) as terminal:
        for block, following in zip(blocks, [*blocks[1:], None], strict=True):
            if block.language == "sh":
                shown = following if following and following.language == "text" else None
                go_through(terminal, with_ports(block.text, ports), shown and of_here(shown, ports))
            elif block.title and block.language != "text":
                (folder / block.title).write_text(with_ports(block.text, ports), encoding="utf-8")


def with_ports(text: str, ports: dict[str, str]) -> str:
    """Put free ports in the place of those of the page; the broker's is also its default."""
    for port, free in ports.items():
        text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{free}")
    return text.replace("tidecast broker >", f"tidecast broker --port {ports['9092']} >")


def of_here(shown: Block, ports: dict[str, str]) -> Block:
    return replace(shown, text=with_ports(shown.text, ports))


def go_through(terminal: Terminal, command: str, shown: Block | None) -> None:
    """Run a block and compare what it writes, again and again where the page says so."""
    again, example = (shown is not None and shown.title == title for title in (AGAIN, EXAMPLE))
    deadline = time.monotonic() + (PATIENCE if again else 0)
    while True:
        ended_well, found = terminal.type(command)
        if ended_well and (shown is None or alike(shown.text, found, example=example)):
            return
        if time.monotonic() < deadline:
            time.sleep(4.0)  # most commands take a second of CPU
            continue
        if not ended_well:
            raise AssertionError(f"this block failed:\n{command}\n{found}\n{terminal.errors()}")
        if shown:
            raise AssertionError(f"line {shown.line} shows\n{shown.text}\nand this came:\n{found}\n{terminal.errors()}")


def test_every_block_of_the_tutorial_is_run_written_or_compared() -> None:
    blocks = read_blocks()
    assert len(blocks) > 20
    for block, before in zip(blocks, [None, *blocks[:-1]], strict=True):
        match block:
            case Block(language="sh", title=None):
                pass
            case Block(language="text", title=title):
                assert before is not None
                assert before.language == "sh", f"line {block.line}: an output has its command before it"
                assert title in (None, AGAIN, EXAMPLE), f"line {block.line}: {title}"
            case Block(language="python" | "toml", title=str()):
                pass
            case Block(language="toml", title=None):  # read by the test below
                pass
            case _:
                raise AssertionError(f"line {block.line}: nothing runs this block")


def test_every_toml_of_the_tutorial_loads(tmp_path: Path) -> None:
    for block in read_blocks():
        if block.language == "toml":
            file = tmp_path / "tidecast.toml"
            file.write_text(block.text, encoding="utf-8")
            load(file, environ={})


SHOWN = "version 1 promoted: gain 64.7 % on 4 origins"
ROW = "north  2025-04-03 00:00:00  1  1.80471  ok  2026-11-29 02:13:31.388548"


@pytest.mark.parametrize(
    ("expected", "found", "fits"),
    [
        (SHOWN, SHOWN, True),
        (SHOWN, SHOWN.replace("64.7", "52.0"), True),
        (SHOWN, SHOWN.replace("64.7", "4.7"), False),
        (SHOWN, SHOWN.replace("4 origins", "3 origins"), False),
        (SHOWN, SHOWN.replace("promoted", "kept"), False),
        (SHOWN, SHOWN + "\nand more", False),
        (ROW, ROW.replace("2026-11-29 02:13:31.388548", "2027-01-02 10:00:00.1"), True),
        (ROW, ROW.replace("2025-04-03", "2025-04-04"), False),
        (ROW, ROW.replace("00:00:00", "01:00:00"), False),
        (ROW, ROW.replace("1.80471", "2"), True),
        (ROW, ROW.replace("1.80471", "nan"), False),
        ("...\nbroker  ok\n...", "a\nbroker     ok\nb\nc", True),
        ("...\nbroker  ok\n...", "a\nb", False),
        ("a\n...\nz", "a\nz", True),
        ("a\n...\nz", "a\nb", False),
    ],
)
def test_an_output_is_compared_in_kind(expected: str, found: str, fits: bool) -> None:
    assert alike(expected, found) is fits


def test_numbers_of_an_example_may_differ_and_words_may_not() -> None:
    assert alike("sent 57 of 0.41 yes", "sent 1,060 of 0.9 yes", example=True)
    assert not alike("sent 57 of 0.41 yes", "sent 57 of 0.41 no", example=True)
    assert not alike("sent 57 yes", "sent many yes", example=True)
