"""A fan chart of one forecast: what was observed, the prediction intervals, and the actuals; as PNG and as text.

Beside it, lines over one axis (error by step, reliability), as PNG and as a row of bars.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from models.config import QUANTILE_LEVELS, QUANTILE_NAMES
from pipeline.errors import ConfigError
from pipeline.grid.times import read_text
from pipeline.records import Floats, Ints
from pipeline.visible import visible

SECOND = 1_000_000
BANDS = ((0.025, 0.975, "95 %"), (0.1, 0.9, "80 %"))
LABEL = 10  # columns of the value axis in text
BARS = "▁▂▃▄▅▆▇█"
COLOURS = ("#1f6fb2", "#999999", "#d1495b")
MARKS = {"observed": "·", "band": "░", "median": "─", "actual": "●"}


@dataclass(frozen=True, slots=True)
class Fan:
    """One series' forecast; times in microseconds UTC, values in the series' units, NaN where not observed.

    `actual` (H,) are the actuals at the target times, NaN where there is none yet.
    """

    series: str
    history_times: Ints  # (T,)
    history: Floats  # (T,)
    target_times: Ints  # (H,)
    quantiles: Floats  # (H, Q)
    actual: Floats  # (H,)

    def quantile(self, level: float) -> Floats:
        """The forecast at one of QUANTILE_LEVELS, (H,)."""
        return self.quantiles[:, QUANTILE_LEVELS.index(level)]


@dataclass(frozen=True, slots=True)
class Lines:
    """Named lines over common places (N,); `ideal` draws the diagonal on which a reliable forecaster lies."""

    title: str
    across: str
    up: str
    places: Floats
    lines: Mapping[str, Floats]
    ideal: bool = False


def load_matplotlib() -> Any:
    """Import matplotlib, and leave its backend as it is; ConfigError, with the remedy, where it is not installed."""
    try:
        import matplotlib
    except ImportError as error:
        raise ConfigError("charts need matplotlib: pip install 'tidecast[plot]'") from error
    return matplotlib


def _make_figure(width: float, height: float) -> Any:
    load_matplotlib()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height))


def save(fans: Sequence[Fan], file: Path) -> None:
    """Write the fans one under the other as PNG (or SVG, PDF: by the file's suffix)."""
    write(draw(fans), file)


def save_lines(drawn: Lines, file: Path) -> None:
    """Write the lines as PNG (or SVG, PDF: by the file's suffix)."""
    write(draw_lines(drawn), file)


def draw(fans: Sequence[Fan]) -> Any:
    """Draw the fans one under the other: a figure of matplotlib, which pyplot does not know of."""
    figure = _make_figure(10, 2.6 * len(fans) + 0.4)
    from matplotlib import dates

    axes = figure.subplots(len(fans), 1, squeeze=False)
    for axis, fan in zip(axes[:, 0], fans, strict=True):
        past, future = clock(fan.history_times), clock(fan.target_times)
        for (low, high, name), shade in zip(BANDS, ("#cfe3f2", "#9cc6e6"), strict=True):
            axis.fill_between(future, fan.quantile(low), fan.quantile(high), color=shade, linewidth=0, label=name)
        axis.plot(future, fan.quantile(0.5), color="#1f6fb2", linewidth=1.4, label="median")
        axis.plot(past, fan.history, color="#444444", linewidth=1.0, label="observed")
        if np.isfinite(fan.actual).any():
            axis.plot(future, fan.actual, color="#d1495b", linewidth=1.0, marker=".", markersize=3, label="actual")
        axis.axvline(past[-1], color="#999999", linewidth=0.6, linestyle=":")
        axis.set_title(visible(fan.series), loc="left", fontsize=9, parse_math=False)
        ticks: Any = axis.xaxis
        ticks.set_major_formatter(dates.ConciseDateFormatter(ticks.get_major_locator()))  # type: ignore[no-untyped-call]
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    axes[0, 0].legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), fontsize=7, ncols=5, frameon=False)
    figure.tight_layout()
    return figure


def draw_lines(drawn: Lines) -> Any:
    """Draw the lines: a figure of matplotlib, which pyplot does not know of."""
    figure = _make_figure(*((7, 3.6) if not drawn.ideal else (4.6, 4.4)))
    axis = figure.subplots()
    if drawn.ideal:
        axis.plot([0, 1], [0, 1], color="#cccccc", linewidth=1.0, linestyle="--", label="ideal")
    marker = "." if len(drawn.places) <= 60 else ""
    for (name, line), colour in zip(drawn.lines.items(), COLOURS, strict=False):
        axis.plot(drawn.places, line, color=colour, linewidth=1.4, marker=marker, label=name)
    axis.set_title(drawn.title, loc="left", fontsize=9)
    axis.set_xlabel(drawn.across, fontsize=8)
    axis.set_ylabel(drawn.up, fontsize=8)
    axis.set_ylim(bottom=0.0)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)
    axis.legend(fontsize=7, frameon=False)
    figure.tight_layout()
    return figure


def write(figure: Any, file: Path) -> None:
    """Write a figure as PNG (or SVG, PDF: by the file's suffix); ConfigError where that cannot be."""
    try:
        figure.savefig(file, dpi=120)
    except (OSError, ValueError) as error:
        raise ConfigError(f"the chart cannot be written to {file}: {error}") from error


def bars(values: Floats, top: float, width: int = 60) -> str:
    """Draw values from 0 to `top` as a row of bars, the mean of neighbours where they are more than `width`."""
    parts = np.array_split(values, min(width, len(values)))
    means = [float(part[np.isfinite(part)].mean()) if np.isfinite(part).any() else np.nan for part in parts]
    last = len(BARS) - 1
    share = [mean / top if top > 0.0 else 0.0 for mean in means]
    return "".join(" " if np.isnan(each) else BARS[min(last, max(0, int(each * len(BARS))))] for each in share)


def text(fan: Fan, width: int = 100, height: int = 12) -> list[str]:
    """Draw a fan with characters: the observed past, the 80 % interval, the median and the actuals."""
    columns = max(width - LABEL - 3, 20)
    horizon = min(len(fan.target_times), columns // 2)
    past = min(len(fan.history), columns - horizon)
    low, median, high = (_squeeze(fan.quantile(level), horizon) for level in (0.1, 0.5, 0.9))
    actual, history = _squeeze(fan.actual, horizon), fan.history[len(fan.history) - past :]
    shown = np.concatenate([history, low, high, median, actual])
    shown = shown[np.isfinite(shown)]
    bottom, top = (float(shown.min()), float(shown.max())) if len(shown) else (0.0, 1.0)
    span = top - bottom or 1.0

    def row(value: float) -> int:
        return round((top - value) / span * (height - 1))

    grid = [[" "] * (past + 1 + horizon) for _ in range(height)]
    for line in grid:
        line[past] = "┊"
    for i in range(horizon):
        column = past + 1 + i
        for y in range(row(high[i]), row(low[i]) + 1):
            grid[y][column] = MARKS["band"]
        grid[row(median[i])][column] = MARKS["median"]
        if np.isfinite(actual[i]):
            grid[row(actual[i])][column] = MARKS["actual"]
    for i in np.flatnonzero(np.isfinite(history)).tolist():
        grid[row(history[i])][i] = MARKS["observed"]
    places = (0, (height - 1) // 2, height - 1)
    labels = dict(zip(places, _tell_apart([top, top - span * places[1] / (height - 1), bottom]), strict=True))
    room = max(LABEL, *(len(label) for label in labels.values()))
    lines = [f"{labels.get(y, ''):>{room}} ┤{''.join(line).rstrip()}" for y, line in enumerate(grid)]
    under = (_time_axis(fan, past, horizon), _legend())
    return [*lines, *(" " * (room + 2) + each for each in under)]


def _time_axis(fan: Fan, past: int, horizon: int) -> str:
    first, origin, last = (
        _stamp(times) for times in (fan.history_times[-past:][:1], fan.history_times[-1:], fan.target_times[-1:])
    )
    line = first.ljust(max(past - len(origin) // 2, len(first) + 1)) + origin
    return line + " " + last.rjust(max(past + 1 + horizon - len(line) - 1, 0))


def _legend() -> str:
    names = {"observed": "observed", "median": "median", "band": "80 % interval", "actual": "actual"}
    return "   ".join(f"{MARKS[mark]} {name}" for mark, name in names.items())


def _squeeze(values: Floats, columns: int) -> Floats:
    """Pick `columns` values at even distances."""
    return values[np.linspace(0, len(values) - 1, columns).round().astype(np.int64)]


def clock(times: Ints) -> list[datetime]:
    """Turn microseconds into UTC datetimes."""
    return [datetime.fromtimestamp(int(time) / SECOND, UTC) for time in times]


def _stamp(times: Ints) -> str:
    return clock(times)[0].strftime("%Y-%m-%d %H:%M") if len(times) else ""


def _tell_apart(values: Sequence[float]) -> list[str]:
    """Write numbers with four digits, or as many more as it takes to tell them apart."""
    texts: list[str] = []
    for more in range(14):
        texts = [f"{value:,.{more}f}" if abs(value) >= 1000 else f"{value:.{4 + more}g}" for value in values]
        if len(set(texts)) == len(set(values)):
            break
    return texts


PAST = 2  # horizons of history
MOST_STEPS = 10_000


class ForecastReader(Protocol):
    """Rows of the database as plain values: times as text in UTC."""

    def forecasts_latest(self, name: str | None, limit: int) -> list[dict[str, Any]]:
        """Return the steps of the newest forecast of each series, or of one."""
        ...

    def forecasts_as_of(self, at: int, name: str | None) -> list[dict[str, Any]]:
        """Return the steps of the forecast that was newest at a moment (microseconds)."""
        ...

    def observations(self, name: str | None, since: int, until: int) -> Iterable[dict[str, Any]]:
        """Return the observations of a series from `since` to before `until` (microseconds)."""
        ...


def read_fan(reader: ForecastReader, series: str, at: int | None) -> Fan | None:
    """Read the forecast that was newest at `at` (microseconds; now if None), or None when there is none."""
    rows = reader.forecasts_latest(series, MOST_STEPS) if at is None else reader.forecasts_as_of(at, series)
    if not rows:
        return None
    targets = [read_time(row["target_time"]) for row in rows]
    origin = read_time(rows[0]["origin"])
    since = origin - PAST * (targets[-1] - origin)
    known = {
        read_time(row["observed_at"]): np.nan if row["value"] is None else float(row["value"])
        for row in reader.observations(series, since, targets[-1] + 1)
    }
    past = [time for time in known if time <= origin]
    return Fan(
        series=series,
        history_times=np.array(past, np.int64),
        history=np.array([known[time] for time in past]),
        target_times=np.array(targets, np.int64),
        quantiles=np.array([[row[name] for name in QUANTILE_NAMES] for row in rows]),
        actual=np.array([known.get(time, np.nan) for time in targets]),
    )


def read_time(text: str) -> int:
    """Turn a time of the reader's rows, which is UTC, into microseconds."""
    return read_text(f"{text}+00:00")
