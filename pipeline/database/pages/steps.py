"""Every step of every forecast, for an export: a series' forecasts are unpacked by NumPy and put into order here."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from sqlalchemy import Connection, bindparam, func, select, text

from models.config import QUANTILE_NAMES
from pipeline.database.packed import longest_reach, packed_columns_of, unpack_steps
from pipeline.database.schema.instants import FIRST, Instant, to_texts
from pipeline.database.schema.tables import packed_forecasts, series, topics

Row = dict[str, Any]
MOST = 1_000_000
"""Steps of a series that are held at once, some 250 MB; of a series that has more, the view `forecasts` is read."""
_F = packed_forecasts.c
_NAMES = (
    *("series", "target_time", "origin", "step", "issued_at", "model_version", "quality"),
    *(*QUANTILE_NAMES, "calibration", "source_topic", "source_partition", "source_offset"),
)
_IN_ORDER = f"""
SELECT f.target_time, f.origin, f.step, f.issued_at, f.model_version, f.quality,
       {", ".join(f"f.{name}" for name in QUANTILE_NAMES)}, f.calibration,
       t.topic AS source_topic, f.source_partition, f.source_offset
FROM forecasts f
LEFT JOIN topics t ON t.topic_id = f.source_topic
WHERE f.series_id = :own AND f.target_time >= :since AND f.target_time < :until
ORDER BY f.target_time, f.origin, f.model_version
"""


def stream_steps(connection: Connection, name: str | None, since: int, until: int) -> Iterator[Row]:
    """Yield the steps with since <= target time < until, of one series or of all, series by series in time order.

    Times in rows are texts, those of the arguments microseconds UTC.
    """
    reach = longest_reach(connection)
    named = {row.topic_id: row.topic for row in connection.execute(select(topics.c.topic_id, topics.c.topic))}
    query = select(series.c.series_id, series.c.name).order_by(series.c.series_id)
    if name is not None:
        query = query.where(series.c.name == name)
    for own, called in connection.execute(query).all():
        chosen = _F.series_id == own, _F.origin >= max(since - reach, FIRST), _F.origin < until
        count = connection.execute(select(func.sum(_F.steps)).where(*chosen)).scalar() or 0
        if count > MOST:
            yield from _read_in_order(connection, own, called, since, until)
            continue
        wanted = _F.origin, _F.issued_at, _F.model_version, _F.quality, _F.calibration, _F.source_topic
        columns = *wanted, _F.source_partition, _F.source_offset, *packed_columns_of(packed_forecasts)
        rows = connection.execute(select(*columns).where(*chosen)).all()
        yield from _put_in_order(rows, called, named, since, until)


def _put_in_order(rows: Any, called: str, named: dict[int, str], since: int, until: int) -> Iterator[Row]:
    """Yield the steps of a series' forecasts in the order of `_IN_ORDER`."""
    origin = np.array([row.origin for row in rows], np.int64)
    version = np.array([row.model_version for row in rows], np.int64)
    parts = []
    for steps in unpack_steps(origin, rows):
        forecast, step = np.nonzero((steps.target_times >= since) & (steps.target_times < until))
        targets = steps.target_times[forecast, step]
        parts.append((steps.places[forecast], step + 1, targets, steps.quantiles[forecast, step]))
    if not parts:
        return
    place, step, target, quantiles = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((version[place], origin[place], target))
    origins, issued = to_texts(origin), to_texts(np.array([row.issued_at for row in rows], np.int64))
    heads = [(origins[at], issued[at], row.model_version, row.quality) for at, row in enumerate(rows)]
    tails = [(row.calibration, named.get(row.source_topic), row.source_partition, row.source_offset) for row in rows]
    for at, number, ends, numbers in zip(
        place[order].tolist(), step[order].tolist(), to_texts(target[order]), quantiles[order].tolist(), strict=True
    ):
        begun, said, model, quality = heads[at]
        yield dict(zip(_NAMES, (called, ends, begun, number, said, model, quality, *numbers, *tails[at]), strict=True))


def _read_in_order(connection: Connection, own: int, called: str, since: int, until: int) -> Iterator[Row]:
    times = bindparam("since", type_=Instant()), bindparam("until", type_=Instant())
    query = text(_IN_ORDER).bindparams(*times).columns(target_time=Instant, origin=Instant, issued_at=Instant)
    bounds = {"own": own, "since": since, "until": until}
    found = connection.execute(query, bounds, execution_options={"stream_results": True, "yield_per": 2000})
    for row in found.mappings():
        texts = dict(zip(("target_time", "origin", "issued_at"), _spell(row), strict=True))
        yield {"series": called, **row, **texts}


def _spell(row: Any) -> list[str]:
    return to_texts(np.array([row["target_time"], row["origin"], row["issued_at"]], np.int64))
