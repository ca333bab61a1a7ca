"""tidecast backtest: one command judges a forecaster on a file; stdout is the page, or only the JSON."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from jobs.forecaster.forecaster import Forecaster
from pipeline.cli import main
from tests.unit.jobs.tiny import make_frame, make_wave

Run = Callable[..., tuple[int, str, str]]
TINY = [
    *("--set", "model.hidden=8", "--set", "model.series_dim=2"),
    *("--set", "training.device=cpu", "--set", "training.threads=1", "--set", "training.batch=16"),
]
SMALL = ("--horizon", "4", "--season", "4", "--context", "12", "--steps", "5")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run tidecast backtest in this process, in an empty directory: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(file: object, *arguments: str, sets: Sequence[str] = ()) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([*TINY, *sets, "backtest", "--data", str(file), *arguments])
        captured = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, captured.out, captured.err

    return run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Two hourly series with a gap, a duplicate and a missing value."""
    frame = make_frame(a=make_wave(80), b=make_wave(70, level=5.0, seed=2)).drop(index=[20, 21])
    frame.loc[30, "value"] = np.nan
    table = pd.concat([frame, frame.tail(1)])
    table.to_csv(tmp_path / "values.csv", index=False)
    return tmp_path / "values.csv"


def test_json_is_all_there_is_and_holds_everything_measured(run: Run, file: Path) -> None:
    code, out, err = run(file, *SMALL, "--origins", "3", "--json")
    assert (code, err) == (0, "")
    facts = json.loads(out, parse_constant=pytest.fail)  # no NaN, no Infinity
    assert {name: facts[name] for name in ("frequency", "horizon", "context", "season", "origins", "stride")} == {
        "frequency": "1h",
        "horizon": 4,
        "context": 12,
        "season": 4,
        "origins": 3,
        "stride": 4,
    }
    assert (facts["series"], facts["scored"]) == (2, 2)
    assert (facts["rows"], facts["merged"], facts["left_out"]) == (149, 1, [])
    assert facts["fit"]["steps"] == 8  # three of them a refit
    ours, naive = facts["scores"]
    assert (ours["forecaster"], naive["forecaster"]) == ("tidecast", "seasonal naive")
    assert ours["targets"] == naive["targets"] == 24
    assert ours["windows"] == naive["windows"] == 6
    assert naive["skill"] == 0.0
    assert {"mase", "smape", "wql", "sql", "mae", "rmse", "coverage_80", "coverage_95"} <= set(ours)
    assert [row["step"] for row in facts["by_step"]] == [1, 2, 3, 4] * 2
    assert [row["interval"] for row in facts["reliability"]] == [0.2, 0.4, 0.6, 0.8, 0.9, 0.95] * 2


def test_the_page_shows_scores_error_by_step_reliability_and_a_chart(run: Run, file: Path) -> None:
    code, out, err = run(file, *SMALL, "--origins", "3")
    assert code == 0
    for words in (
        "2 series, 149 rows, 1 merged",
        "3 origins 4 steps apart, horizon 4, 2 of 2 series, 6 windows, 24 targets; lower is better, except for skill",
        "MASE at step 1 to 4",
        "share of actuals inside each central interval",
        "series a, last origin",
        "80 % interval",
    ):
        assert words in out
    assert re.search(r"MASE +sMAPE +WQL +SQL +skill +in 80 % +in 95 %", out)
    assert "fit 0 of 8" in err
    assert not [line for line in out.splitlines() if line != line.rstrip()]


def test_the_numbers_are_those_of_the_python_interface(run: Run, file: Path) -> None:
    _, out, _ = run(file, *SMALL, "--origins", "2", "--stride", "3", "--json")
    model = {"hidden": 8, "series_dim": 2}
    training = {"steps": 5, "batch": 16, "device": "cpu", "threads": 1}  # the numbers of two threads are others
    forecaster = Forecaster("1h", 4, season=4, context=12, model=model, training=training)
    scores = forecaster.backtest(pd.read_csv(file), 2, stride=3).scores
    assert [row["mase"] for row in json.loads(out)["scores"]] == scores["mase"].tolist()


def test_what_a_search_chose_is_shown_and_is_in_the_json(run: Run, file: Path) -> None:
    sets = ["--set", "training.search=3", "--set", 'training.search_over=["learning_rate"]']
    code, out, _ = run(file, *SMALL, "--json", sets=sets)
    searched = json.loads(out, parse_constant=pytest.fail)["search"]
    assert code == 0
    assert [trial["rung"] for trial in searched["trials"]] == [1, 1, 1]
    code, page, _ = run(file, *SMALL, sets=sets)
    assert f"{searched['words'].removeprefix('search: ')}\n  rung 1: kept 1 of 3, validation " in page
    code, out, _ = run(file, *SMALL, "--json")
    assert json.loads(out)["search"] is None


def test_output_gets_charts_tables_and_the_model_that_was_judged(run: Run, file: Path, tmp_path: Path) -> None:
    code, out, _ = run(file, *SMALL, "--output", str(tmp_path / "judged" / "here"), "--json")
    assert code == 0
    facts, written = json.loads(out), tmp_path / "judged" / "here"
    assert sorted(facts["files"]) == sorted(str(path) for path in written.iterdir())
    for name in ("fan.png", "error_by_step.png", "reliability.png"):
        assert (written / name).read_bytes().startswith(b"\x89PNG")
    assert json.loads((written / "scores.json").read_text())["scores"] == facts["scores"]
    forecasts = pd.read_csv(written / "forecasts.csv")
    assert len(forecasts) == facts["scores"][0]["targets"]
    error = (forecasts["q50"] - forecasts["value"]).abs().mean()
    assert error == pytest.approx(facts["scores"][0]["mae"], rel=1e-6)
    assert Forecaster.load(written / "model.safetensors").predict(pd.read_csv(file))["q50"].notna().all()


def test_monthly_sales_with_other_names_and_a_common_time(run: Run, tmp_path: Path) -> None:
    frame = make_frame(start="2015-01-01", frequency="MS", a=make_wave(70), b=make_wave(60, seed=2))
    frame.columns = pd.Index(["shop", "month", "sales"])
    frame.to_parquet(tmp_path / "sales.parquet")
    named = ("--series-id", "shop", "--timestamp", "month", "--value", "sales")
    options = ("--frequency", "MS", "--horizon", "6", "--origins", "2", "--steps", "5", "--common-time", "--json")
    code, out, _ = run(tmp_path / "sales.parquet", *named, *options)
    facts = json.loads(out)
    assert (code, facts["season"], facts["context"], facts["series"]) == (0, 12, 48, 2)
    assert facts["scores"][0]["targets"] == 14  # b ended ten months earlier: two of its months are in the first origin


def test_a_file_without_a_column_of_series_is_one_series_and_says_so(run: Run, tmp_path: Path) -> None:
    frame = make_frame(a=make_wave(80)).drop(columns="series_id")
    pd.concat([frame, frame]).to_csv(tmp_path / "values.csv", index=False)
    code, out, _ = run(tmp_path / "values.csv", *SMALL)
    assert code == 0
    assert "1 series, 160 rows, 80 merged" in out
    assert "if it is several series, name their column" in out


@pytest.mark.parametrize("frequency", ["1D", "15min", "MS"])
def test_the_frequency_is_found_when_no_option_and_no_setting_gives_one(
    frequency: str, run: Run, tmp_path: Path
) -> None:
    make_frame(frequency=frequency, start="2018-01-01", a=make_wave(80)).to_csv(tmp_path / "values.csv", index=False)
    _, out, _ = run(tmp_path / "values.csv", *SMALL, "--json")
    facts = json.loads(out)
    assert (facts["frequency"], facts["frequency_found"]) == (frequency, True)
    _, out, _ = run(tmp_path / "values.csv", *SMALL)
    assert f"0 merged into a step that had one, frequency {frequency}, found from the rows" in out


@pytest.mark.parametrize(
    ("rows", "given", "sets", "words"),
    [
        ("1D", ("--frequency", "1h"), (), "values are 1D apart, as series a, so that most steps of 1h are empty"),
        ("1D", (), ("--set", "series.frequency=1h"), "values are 1D apart, as series a"),
        ("1h", ("--frequency", "1D"), (), "383 of 400 rows share a step of 1D with another and would be lost"),
    ],
)
def test_a_frequency_that_does_not_fit_is_refused(
    rows: str, given: tuple[str, ...], sets: tuple[str, ...], words: str, run: Run, tmp_path: Path
) -> None:
    make_frame(frequency=rows, a=make_wave(400)).to_csv(tmp_path / "values.csv", index=False)
    code, out, err = run(tmp_path / "values.csv", *SMALL, *given, sets=sets)
    assert (code, out) == (2, "")
    assert words in err


def test_rows_of_a_step_are_merged_by_the_setting(run: Run, tmp_path: Path) -> None:
    make_frame(frequency="15min", a=make_wave(400)).to_csv(tmp_path / "values.csv", index=False)
    sets = ("--set", "series.duplicates=mean")
    code, out, _ = run(tmp_path / "values.csv", *SMALL, "--frequency", "1h", "--json", sets=sets)
    assert (code, json.loads(out)["merged"], json.loads(out)["notes"]) == (0, 300, [])


def test_a_constant_series_shows_what_can_be_measured(run: Run, tmp_path: Path) -> None:
    make_frame(a=np.full(80, 7.0)).to_csv(tmp_path / "values.csv", index=False)
    code, out, _ = run(tmp_path / "values.csv", *SMALL)
    assert code == 0
    assert "mean absolute error at step 1 to 4" in out
    assert "nan" not in out.lower()


def test_settings_are_read_and_a_context_that_nobody_chose_is_found(run: Run, file: Path) -> None:
    sets = ("--set", "series.horizon=4", "--set", "series.duplicates=mean")
    found = json.loads(run(file, "--steps", "2", "--origins", "1", "--json", sets=sets)[1])
    assert (found["frequency"], found["horizon"], found["season"], found["context"]) == ("1h", 4, 24, 336)
    chosen = (*sets, "--set", "series.context=24", "--set", "series.season=12")
    given = json.loads(run(file, "--steps", "2", "--origins", "1", "--json", sets=chosen)[1])
    assert (given["season"], given["context"]) == (12, 24)


def test_covariates_are_named_by_options_and_those_of_messages_are_read_too(run: Run, tmp_path: Path) -> None:
    frame = make_frame(a=make_wave(80), b=make_wave(80, seed=2))
    frame.assign(wind=np.sin(np.arange(160)), price=frame["value"], size=3).to_csv(tmp_path / "values.csv", index=False)
    options = ("--past-covariate", "wind", "--future-covariate", "price", "--static-covariate", "size", "--json")
    code, out, err = run(tmp_path / "values.csv", *SMALL, *options)
    assert (code, err) == (0, "")
    facts = json.loads(out)
    assert [facts[f"{kind}_covariates"] for kind in ("past", "future", "static")] == [["wind"], ["price"], ["size"]]
    from_settings = ("--set", 'input.covariates=["wind"]')
    facts = json.loads(run(tmp_path / "values.csv", *SMALL, "--json", sets=from_settings)[1])
    assert [facts[f"{kind}_covariates"] for kind in ("past", "future", "static")] == [["wind"], [], []]


def test_a_budget_ends_the_fit(run: Run, file: Path) -> None:
    code, out, _ = run(file, *SMALL[:-2], "--steps", "100000", "--budget", "1s", "--json")
    assert code == 0
    assert json.loads(out)["fit"]["stopped"] in {"time budget spent", "no better for 8 validations"}


WRONG: dict[str, tuple[Sequence[str], str]] = {
    "no such column": (("--value", "kwh"), "there is no column kwh: there are series_id, time, value"),
    "no such frequency": (("--frequency", "often"), "'often' is not a pandas frequency"),
    "too many origins": (("--horizon", "30", "--origins", "5"), "the longest series has"),
    "a budget that is no time": (("--budget", "soon"), "'soon' is not a duration"),
    "a context of one": (("--context", "1"), "--context"),
    "no such covariate": (
        ("--future-covariate", "price"),
        "there is no column price: there are series_id, time, value",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_work_is_one_line_and_ends_with_2(case: str, run: Run, file: Path) -> None:
    arguments, words = WRONG[case]
    code, out, err = run(file, *SMALL, *arguments, "--json")
    assert (code, out) == (2, "")
    assert err.startswith("tidecast: ") and err.count("\n") == 1
    assert words in err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "does not exist"),
        ("time,value\n", "there are no rows to read"),
        ("id,when,what\na,2026-01-01,1\n", "no column time or timestamp or ds: there are id, when, what"),
        ("time,value\n2026-01-01,inf\n", "row 1: value inf is not finite"),
        ("time,value\nyesterday,1\n", 'data row 1: time "yesterday" is no time in ISO 8601'),
        ("time,value\n2026-01-01,\n", "column value has no observed value"),
        ("time,value\n2026-01-01,much\n", "row 1: value much is not a number"),
        ("time,value\n2026-01-01,1\n2026-01-02,2\n", "nothing to score"),
    ],
)
def test_a_file_that_cannot_be_judged_is_one_line_and_ends_with_2(
    content: str | None, words: str, run: Run, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "values.csv").write_text(content, encoding="utf-8")
    code, out, err = run(tmp_path / "values.csv", *SMALL)
    assert (code, out) == (2, "")
    assert err.startswith("tidecast: ") and err.count("\n") == 1
    assert words in err


def test_an_output_that_cannot_be_written_is_named(run: Run, file: Path, tmp_path: Path) -> None:
    code, _, err = run(file, *SMALL, "--output", str(file / "below"), "--json")
    assert code == 2
    assert "cannot be written" in err
