"""Text from outside never acts: on a terminal, in a log, in a spreadsheet, in a chart."""

import ast
import csv
import io
import json
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import example, given
from hypothesis import strategies as st

from models.config import QUANTILE_LEVELS
from pipeline.charts import Fan, save
from pipeline.cli import main
from pipeline.commands.backtest import spreadsheet
from pipeline.commands.display import say, say_heading, say_lines, show_json, show_rows, table, write_json
from pipeline.commands.forecast import csv_lines
from pipeline.visible import Escaping, csv_cell, visible, visible_cell, visible_lines
from tests.unit.test_imports import ROOT

ACTS = {"Cc", "Cf", "Cs", "Zl", "Zp"}
NASTY = (
    "\x1b[2J\x1b[1;1H",
    "\x1b]0;title\x07",
    "\x1b]52;c;cm0gLXJm\x1b\\",
    "\x9b31m",
    "a\rforged",
    "a\nH1  2026-01-01  1",
    "a\u2028b\u2029c\x0b\x0c\x85d",
    "\u202eevil\u202c",
    "\u2066x\u2069\u200f",
    "a\u200b\u200d\u2060\ufeffb",
    "\u3164\u115f\u034f\ufe0f\U000e0041",
    "[bold red]x[/bold red]",
    "[/]",
    "\ud800",
    "\x7f\x00",
    "$\\frac{1}$",
)
TEXTS = st.one_of(st.text(), st.sampled_from(NASTY), st.text(st.characters(categories=("Cc", "Cf", "Zl", "Zp", "L"))))


def acts(text: str) -> list[str]:
    """The characters of a text that could act, or that nobody sees."""
    return [each for each in text if unicodedata.category(each) in ACTS or not each.isprintable()]


def caught(call: object) -> str:
    """What a call writes through click to stdout and stderr, as a terminal would get it."""
    import click

    @click.command()
    def command() -> None:
        call()  # type: ignore[operator]

    result = CliRunner().invoke(command, color=True, catch_exceptions=False)
    return result.output


@given(TEXTS)
def test_no_character_of_a_text_from_outside_acts_or_hides(text: str) -> None:
    assert acts(visible(text)) == []
    assert "\n" not in visible_cell(text) and "  " not in visible_cell(text)
    assert visible_lines(text).count("\n") == text.count("\n")
    assert acts(visible_lines(text).replace("\n", "")) == []


@given(st.text(st.characters(categories=("L", "N", "P", "S"), max_codepoint=0xFFFF)))
def test_a_text_that_can_be_seen_is_not_touched(text: str) -> None:
    seen = "".join(each for each in text if each.isprintable() and each not in "\u115f\u1160\u3164\uffa0")
    assert visible(seen) == seen
    assert visible("Zähler 17 · 計器/α, مقياس") == "Zähler 17 · 計器/α, مقياس"


@given(st.lists(st.fixed_dictionaries({"series": TEXTS, "reason": TEXTS, "n": st.integers()}), min_size=1, max_size=5))
def test_a_table_has_one_line_for_each_row_and_its_columns_where_the_header_is(rows: list[dict[str, object]]) -> None:
    written = table(list(rows[0]), [list(row.values()) for row in rows])
    assert len(written) == len(rows) + 1
    assert acts("".join(written)) == []
    shown = caught(lambda: show_rows(rows, as_json=False, empty=""))
    assert len(shown.split("\n")) == len(rows) + 2
    assert acts(shown.replace("\n", "").replace("\x1b[1m", "").replace("\x1b[0m", "")) == []


@given(TEXTS)
def test_messages_headings_and_json_write_no_character_that_acts(text: str) -> None:
    assert acts(caught(lambda: say(text))[:-1]) == []
    assert acts(caught(lambda: say_lines(text)).replace("\n", "")) == []
    heading = caught(lambda: say_heading("Data", text, 9))
    assert acts(heading.replace("\n", "").replace("\x1b[1m", "").replace("\x1b[0m", "")) == []
    assert heading.count("\n") == 2
    shown = caught(lambda: show_json({"name": text}))
    assert acts(shown.replace("\n", "")) == []
    assert json.loads(shown) == {"name": text} == json.loads(write_json({"name": text})), "and JSON stays exact"


@pytest.mark.parametrize("text", NASTY)
def test_an_error_is_one_line_that_does_not_act(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["forecast", "as-of", text])
    errors = capsys.readouterr().err
    assert errors.startswith("tidecast: ") and errors.count("\n") == 1
    assert acts(errors[:-1]) == []


def csv_line(fields: list[object]) -> str:
    file = io.StringIO()
    csv_lines(file)(fields)
    return file.getvalue()


@given(TEXTS)
@example("=cmd|' /C calc'!A0")
@example("'=1")
@example("\uff1d1+1")
@example("\t=1")
def test_a_cell_of_a_csv_file_is_no_formula_and_gives_its_text_back(text: str) -> None:
    cell = csv_cell(text)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20"))
    assert acts(cell) == []
    assert cell.removeprefix("'") == visible(text)
    if acts(text) == []:
        ((first, second),) = csv.reader(io.StringIO(csv_line([text, -1.5]), newline=""))
        assert (first.removeprefix("'"), second) == (visible(text), "-1.5")


def test_numbers_of_a_csv_file_stay_numbers() -> None:
    assert csv_line(["-5", -5, -0.25, None, "ok"]) == "'-5,-5,-0.25,,ok\n"
    made = spreadsheet(pd.DataFrame({"=x": ["@a", "b"], "q05": [-1.5, 2.0], "step": [-1, 2]}))
    assert made.to_csv(index=False) == "'=x,q05,step\n'@a,-1.5,-1\nb,2.0,2\n"
    assert made.dtypes["q05"] == np.float64


LOGS = """
import os, pty, structlog, sys, logging
sys.stderr.isatty = lambda: True
from pipeline.health.logs import start_logging
start_logging(["hunter2"])
log = structlog.get_logger()
nasty = {nasty!r}
log.warning("claiming " + nasty, series=nasty, names=[nasty], facts={{"a": nasty, nasty: 1}})
logging.getLogger("kafka.library").critical("topic %s", nasty)
try:
    raise RuntimeError(nasty + " of hunter2")
except RuntimeError:
    log.exception("failed")
raise SystemError(nasty)
"""


def test_a_log_on_a_terminal_does_not_act() -> None:
    nasty = "".join(text for text in NASTY if text != "\ud800" and "\n" not in text)
    code = LOGS.format(nasty=nasty)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=ROOT, check=False, timeout=120)
    text = done.stderr.decode()
    for style in ("\x1b[0m", "\x1b[1m", "\x1b[2m", *(f"\x1b[{number}m" for number in range(30, 48))):
        text = text.replace(style, "")
    assert acts(text.replace("\n", "")) == []
    assert "hunter2" not in text
    assert text.count("title") >= 6


@given(st.dictionaries(st.sampled_from(["event", "series", "exception"]), TEXTS))
def test_no_event_for_a_terminal_has_a_character_that_acts(event: dict[str, object]) -> None:
    seen = Escaping()(None, "info", dict(event))
    assert acts("".join(str(value) for value in seen.values()).replace("\n", "")) == []


def test_a_log_of_a_job_is_shown_line_by_line() -> None:
    assert caught(lambda: say_lines("one\x1b[2J\ntwo\u202e\r\n")) == "one\\u001b[2J\ntwo\\u202e\\r\n"


@pytest.mark.parametrize("series", [*NASTY[:14], "$x_", "a_b^c", "100 % & <b>"])
@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_a_chart_shows_a_name_as_it_is(series: str, suffix: str, tmp_path: Path) -> None:
    times = np.arange(3) * 3_600_000_000
    one = Fan(series, times, np.arange(3.0), times, np.ones((3, len(QUANTILE_LEVELS))), np.arange(3.0))
    file = tmp_path / f"fan.{suffix}"
    save([one], file)
    assert file.stat().st_size > 1000


def test_only_the_display_writes_to_the_terminal() -> None:
    """Whatever another command writes goes through pipeline/commands/display.py, so that nothing can be forgotten."""
    found = []
    for path in [
        *(ROOT / "pipeline" / "commands").glob("*.py"),
        ROOT / "pipeline/cli.py",
    ]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith(("click.echo", "click.secho", "print")):
                found.append(f"{path.name}:{node.lineno}")
    assert [place for place in found if not place.startswith("display.py")] == [
        place for place in found if place.startswith("cli.py")
    ]
    assert len([place for place in found if place.startswith("cli.py")]) == 1, "the one line of an error, escaped"
