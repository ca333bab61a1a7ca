"""tidecast backtest: judge a forecaster on a file, without Kafka or a database."""

import contextlib
import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.commands.display import say, say_heading, show_json, show_table, stages, write_json
from pipeline.commands.invocation import with_settings
from pipeline.visible import csv_cell

if TYPE_CHECKING:
    import pandas as pd

    from jobs.forecaster.backtest import Backtest
    from jobs.forecaster.forecaster import Forecaster
    from jobs.frames.columns import Columns
    from pipeline.charts import Fan
    from pipeline.settings import Settings

SHOWN = {"mase": 3, "smape": 2, "wql": 4, "sql": 3, "skill": 3}
FIT = ("steps", "best_step", "seconds", "stopped", "path", "precision", "processes")
WORST = 5  # series shown, of those with the largest error
COUNT = click.IntRange(1)


@click.command()
@click.option("--data", "file", required=True, type=click.Path(dir_okay=False, path_type=Path), metavar="FILE")
@click.option("--frequency", metavar="TEXT", help="As pandas writes it: 15min, 1h, D, MS; found if left away.")
@click.option("--horizon", type=COUNT, metavar="N", help="Steps to forecast.")
@click.option("--context", type=click.IntRange(2), metavar="N", help="Steps that the model sees; found if left away.")
@click.option("--season", type=COUNT, metavar="N", help="Steps in a season; by the frequency if left away.")
@click.option("--origins", type=COUNT, metavar="N", help="How many; as many as the data bears if left away.")
@click.option("--stride", type=COUNT, metavar="N", help="Steps between two origins; the horizon if left away.")
@click.option("--refit", type=COUNT, metavar="N", help="Fit anew every N origins; once if left away.")
@click.option("--zero-shot", is_flag=True, help="Fit nothing: judge the pretrained network as it came.")
@click.option("--common-time", is_flag=True, help="Cut all series at one time instead of each before its own end.")
@click.option("--steps", type=COUNT, metavar="N", help="Training steps; training.steps if left away.")
@click.option("--budget", metavar="TIME", help="Longest training, as '2 min'; training.budget if left away.")
@click.option("--series-id", metavar="COLUMN", help="series_id or unique_id if left away; without: one series.")
@click.option("--timestamp", metavar="COLUMN", help="time, timestamp or ds if left away.")
@click.option("--value", metavar="COLUMN", help="value or y if left away.")
@click.option("--past-covariate", "past", multiple=True, metavar="COLUMN", help="Known up to the origin; repeatable.")
@click.option("--future-covariate", "future", multiple=True, metavar="COLUMN", help="Known ahead; repeatable.")
@click.option("--static-covariate", "static", multiple=True, metavar="COLUMN", help="Of a series; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Write only the JSON.")
@click.option(
    "--output", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="For charts and tables."
)
@with_settings
def backtest(settings: "Settings", /, file: Path, *, as_json: bool, output: Path | None, **given: Any) -> None:
    """Judge a forecaster on a CSV or Parquet FILE, one row per observation: trains once on what was known before the
    first origin, forecasts from rolling origins, and compares with seasonal naive on the same windows. With --zero-shot
    nothing is trained, and it takes seconds.

    Settings (`--set model.hidden=128`, duplicates, seed) come from where those of every command come from. A file
    without a column of series is one series.
    """
    from jobs.forecaster.backtest import draw_backtest
    from jobs.frames.columns import Columns
    from jobs.frames.frames import read_table
    from jobs.retraining.torchrun import leading
    from models.fitting.cpu import tune_cpu
    from pipeline import charts as chart

    if output:
        chart.load_matplotlib()
    tune_cpu(settings.training.threads or 1)  # the fit takes what is free, see models.fitting.cores
    columns = Columns(given["series_id"], given["timestamp"], given["value"])
    forecaster = make_forecaster(settings, columns, given)
    with leading(settings) as first:
        if not first:
            return
        frame = read_table(file, columns)
        with contextlib.nullcontext() if as_json else stages() as on_stage, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # what `read` warns of is shown as notes
            result = forecaster.backtest(
                frame,
                given["origins"],
                stride=given["stride"],
                common_time=given["common_time"],
                refit=given["refit"] or False,
                zero_shot=given["zero_shot"],
                on_stage=on_stage,
            )
    facts = summarize(result, file)
    fans = draw_backtest(result)
    if output:
        facts["files"] = write_files(result, facts, fans, output)
    if as_json:
        show_json(facts)
    else:
        show(result, facts, fans)


def make_forecaster(settings: "Settings", columns: "Columns", given: dict[str, Any]) -> "Forecaster":
    """Read the options over the settings; a context and a season that nobody chose are found from the frequency."""
    from jobs.forecaster.fitting import ONLY_SERVICE, SERVED
    from jobs.forecaster.forecaster import Forecaster

    series, chosen = settings.series, settings.series.model_fields_set
    training = settings.training.model_dump(exclude_unset=True, exclude=set(ONLY_SERVICE))
    wishes = {name: given[name] for name in ("steps", "budget") if given[name] is not None}
    return Forecaster(
        given["frequency"] or (series.frequency if "frequency" in chosen else None),
        given["horizon"] or series.horizon,
        timezone=series.timezone if "timezone" in chosen else None,
        phase=series.phase,
        context=given["context"] or (series.context if "context" in chosen else None),
        season=given["season"] or series.season,
        duplicates=series.duplicates if "duplicates" in chosen else None,
        columns=columns.to_dict(),
        model=settings.model.model_dump(exclude={SERVED}),
        training=training | wishes,
        past_covariates=given["past"] or settings.input.covariates,
        future_covariates=given["future"],
        static_covariates=given["static"],
        time_unit=settings.input.time_unit,
        oldest_time=settings.input.oldest_time,
    )


def summarize(result: "Backtest[Forecaster]", file: Path) -> dict[str, Any]:
    """Everything that was measured, as plain values; None where there was no evidence."""
    from jobs.retraining.comparison import finite

    chosen, readings, report = result.forecaster.settings.series, result.readings, result.report
    counts = {"rows": len(readings.history.value) + readings.merged, "merged": readings.merged}
    return {
        "file": str(file),
        **{name: getattr(chosen, name) for name in ("frequency", "horizon", "context", "season")},
        "frequency_found": result.forecaster.found_frequency,
        "series": len(readings.names),
        "scored": len(set(result.held_out.pairs.rows.tolist())),
        **counts,
        "left_out": list(readings.left_out),
        **result.forecaster.covariates.keywords(),
        "notes": [*readings.notes(), *result.notes],
        "origins": result.held_out.origins,
        "stride": result.held_out.stride,
        "fit": {name: getattr(report, name) for name in FIT} if report else None,
        "search": finite(result.search.to_dict()) if result.search else None,
        "scores": _records(result.scores),
        "by_step": _records(result.by_step),
        "by_series": _records(result.by_series),
        "reliability": _records(result.reliability),
    }


def show(result: "Backtest[Forecaster]", facts: dict[str, Any], fans: "list[Fan]") -> None:
    """Write the page: what was read, scores, error by step, reliability, a chart."""
    import numpy as np

    from jobs.forecaster.backtest import error_lines, reliability_lines
    from pipeline import charts as chart

    words = f"{facts['series']:,} series, {facts['rows']:,} rows, {facts['merged']:,} merged into a step that had one"
    words += f", frequency {facts['frequency']}{', found from the rows' if facts['frequency_found'] else ''}"
    _section("Data", f"{facts['file']}: {words}")
    for note in facts["notes"]:
        say(f"  {note}")
    fit, first = facts["fit"], facts["scores"][0]
    if fit:
        words = f"{fit['steps']:,} steps in {fit['seconds']:.0f} s, best at {fit['best_step']:,}: {fit['stopped']}"
    else:
        words = "none: the pretrained network as it came"
    _section("Fit", words)
    if facts["search"]:
        _section("Search", facts["search"]["words"].removeprefix("search: "))
        for number, words in enumerate(facts["search"]["rungs"], start=1):
            say(f"  rung {number}: {words}")
    where = f"{facts['origins']} origins {facts['stride']} steps apart, horizon {facts['horizon']}"
    size = (
        f"{facts['scored']:,} of {facts['series']:,} series, {first['windows']:,} windows, {first['targets']:,} targets"
    )
    _section("Scores", f"{where}, {size}; lower is better, except for skill")
    rows = [
        [row["forecaster"], *(_fixed(row[name], digits) for name, digits in SHOWN.items()), *_coverages(row)]
        for row in facts["scores"]
    ]
    show_table(["", "MASE", "sMAPE", "WQL", "SQL", "skill", "in 80 %", "in 95 %"], rows, indent="  ")
    errors = error_lines(result)
    top = float(np.nanmax([0.0, *np.concatenate(list(errors.lines.values()))]))
    _section("By step", f"{errors.up} at step 1 to {facts['horizon']}, bars from 0 to {top:.3g}")
    for name, line in errors.lines.items():
        say(f"  {name:<14}  {chart.bars(line, top)}")
    if facts["scored"] > 1:
        worst = worst_series(result)
        _section("By series", f"the {len(worst)} with the largest MASE, of {facts['scored']:,}")
        show_table(["", "MASE", "seasonal naive", "WQL", "in 80 %", "targets"], worst, indent="  ")
    _section("Reliability", "share of actuals inside each central interval")
    held = reliability_lines(result)
    header = [f"{100 * place:.0f} %" for place in held.places]
    table = [[name, *(_percent(share) for share in line.tolist())] for name, line in held.lines.items()]
    show_table(["", *header], table, indent="  ")
    if fans:
        _section("Chart", f"series {fans[0].series}, last origin")
        for text in chart.text(fans[0]):
            say(f"  {text}".rstrip())
    for name in facts.get("files", ()):
        say(f"wrote {name}")


def worst_series(result: "Backtest[Forecaster]") -> list[list[str]]:
    """List the series with the largest MASE, as cells: those that somebody should look at first."""
    from jobs.forecaster.evaluation import MODEL, NAIVE

    table = result.by_series
    own = table[table["forecaster"] == MODEL].reset_index(drop=True)
    naive = table[table["forecaster"] == NAIVE].reset_index(drop=True)
    order = own["mase"].sort_values(ascending=False, kind="stable").index[:WORST]
    return [
        [
            str(own.iloc[at, 1]),
            *(_fixed(_finite(float(each["mase"].iloc[at])), 3) for each in (own, naive)),
            _fixed(_finite(float(own["wql"].iloc[at])), 4),
            _percent(float(own["coverage_80"].iloc[at])),
            f"{own['targets'].iloc[at]:,}",
        ]
        for at in order.tolist()
    ]


def write_files(result: "Backtest[Forecaster]", facts: dict[str, Any], fans: "list[Fan]", output: Path) -> list[str]:
    """Write charts, scores, forecasts and the model that was judged into a directory."""
    from jobs.forecaster.backtest import error_lines, reliability_lines
    from pipeline import charts as chart
    from pipeline.errors import ConfigError

    try:
        output.mkdir(parents=True, exist_ok=True)
        (output / "scores.json").write_text(write_json(facts, indent=2) + "\n", encoding="utf-8")
        spreadsheet(shorten_table(result.forecasts)).to_csv(output / "forecasts.csv", index=False)
        spreadsheet(result.by_series).to_csv(output / "by_series.csv", index=False, float_format="%.9g")
    except OSError as error:
        raise ConfigError(f"{output} cannot be written: {error.strerror}") from error
    chart.save(fans, output / "fan.png")
    chart.save_lines(error_lines(result), output / "error_by_step.png")
    chart.save_lines(reliability_lines(result), output / "reliability.png")
    result.forecaster.save(output / "model.safetensors")
    tables = ("scores.json", "forecasts.csv", "by_series.csv")
    charts = ("fan.png", "error_by_step.png", "reliability.png")
    return [str(output / name) for name in (*tables, *charts, "model.safetensors")]


def shorten_table(table: "pd.DataFrame") -> "pd.DataFrame":
    """Round the quantiles as the service does: nothing of a small wave on a large level is lost."""
    from models.config import QUANTILE_NAMES
    from pipeline.quantiles import shorten

    names = list(QUANTILE_NAMES)
    rounded = shorten(table[names].to_numpy()[:, None])[:, 0]  # step by step
    return table.assign(**dict(zip(names, rounded.T, strict=True)))


def spreadsheet(table: "pd.DataFrame") -> "pd.DataFrame":
    """Make the texts of a table, and the names of its columns, harmless in a spreadsheet."""
    texts = table.select_dtypes(exclude=["number", "datetime", "datetimetz"]).columns
    return table.assign(**{name: table[name].map(csv_cell) for name in texts}).rename(columns=csv_cell)


def _records(table: "pd.DataFrame") -> list[dict[str, Any]]:
    return [{name: _finite(value) for name, value in row.items()} for row in table.to_dict("records")]


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _fixed(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _coverages(row: dict[str, Any]) -> list[str]:
    return [_percent(row[name]) for name in ("coverage_80", "coverage_95")]


def _percent(share: float | None) -> str:
    return "-" if share is None or not math.isfinite(share) else f"{100.0 * share:.1f} %"


def _section(title: str, text: str) -> None:
    say_heading(title, text, 11)
