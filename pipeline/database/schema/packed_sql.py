"""What views say of a packed forecast, in each dialect: the time of a step, and its numbers (see `packed_columns`).

On PostgreSQL the numbers of a step are cut out of the forecast's once (OFFSET 0 keeps that from being repeated for
every number), by a look at these bytes alone where they are stored out of line.
"""

from models.config import QUANTILE_LEVELS, QUANTILE_NAMES
from pipeline.database.schema.tables import END_BYTES

COUNT = len(QUANTILE_LEVELS)


def fill(body: str, dialect: str) -> str:
    """Put the expressions of a dialect into the text of a view, in place of their names in braces.

    {target_time} and {last_target} of row `p` and step `n`; {numbers}, each with its name, of them; {cut} joins what
    the numbers need; {seconds_to_next} is from the origin of row `w` to `next_origin`; {newest} joins row `p`, the
    newest forecast of series `s`, which may have none.
    """
    numbers = ",\n       ".join(f"{number(dialect, j)} AS {name}" for j, name in enumerate(QUANTILE_NAMES))
    parts = {
        "{target_time}": target_time(dialect, "n.step"),
        "{last_target}": target_time(dialect, "p.steps"),
        "{last_target_of_f}": target_time(dialect, "f.steps", "f"),
        "{numbers}": numbers,
        "{seconds_to_next}": _SECONDS_TO_NEXT[dialect],
        "{cut}": _CUT if dialect == "postgresql" else "",
        "{newest}": newest(dialect),
    }
    for name, text in parts.items():
        body = body.replace(name, text)
    return body


def target_time(dialect: str, step: str, row: str = "p") -> str:
    """Spell the time of a step of a row."""
    place = f"({step} - 1) * {END_BYTES} + 1"
    if dialect == "postgresql":
        ends = f"encode(substring({row}.step_ends FROM {place} FOR {END_BYTES}), 'hex')::bigint"
        return f"{row}.origin + interval '1 second' * COALESCE({step} * {row}.step_seconds, {ends})"
    ends = f"CAST(hex(substr({row}.step_ends, {place}, {END_BYTES})) AS INTEGER)"
    return f"datetime({row}.origin, '+' || COALESCE({step} * {row}.step_seconds, {ends}) || ' seconds')"


_SECONDS_TO_NEXT = {
    "postgresql": "EXTRACT(EPOCH FROM w.next_origin - w.origin)::bigint",
    "sqlite": "(strftime('%s', w.next_origin) - strftime('%s', w.origin))",
}
_CUT = f"""
CROSS JOIN LATERAL (
    SELECT substring(p.quantiles FROM (n.step - 1) * {COUNT} * p.width + 1 FOR {COUNT} * p.width) AS piece OFFSET 0
) c"""


def newest(dialect: str, until: str = "") -> str:
    """Spell the join of row `p`, the newest forecast of series `s`: the latest origin, then the latest issued.

    `until` names a parameter: only forecasts that were issued by then count. PostgreSQL knows the origin before it
    looks for the row, and so opens the partition of that time alone.
    """
    origin = f"SELECT MAX(h.origin){{}} FROM packed_forecasts h WHERE h.series_id = s.series_id{_issued('h', until)}"
    last = f"{_issued('v', until)} ORDER BY v.issued_at DESC, v.model_version DESC LIMIT 1"
    if dialect == "postgresql":
        return f"""LEFT JOIN LATERAL (
    {origin.format(" AS origin")}
) h ON true
LEFT JOIN LATERAL (
    SELECT v.* FROM packed_forecasts v WHERE v.series_id = s.series_id AND v.origin = h.origin{last}
) p ON true"""
    return f"""LEFT JOIN packed_forecasts p ON p.series_id = s.series_id
  AND p.origin = ({origin.format("")})
  AND p.model_version = (
    SELECT v.model_version FROM packed_forecasts v WHERE v.series_id = s.series_id
      AND v.origin = ({origin.format("")}){last})"""


def _issued(row: str, until: str) -> str:
    return f" AND {row}.issued_at <= :{until}" if until else ""


def number(dialect: str, index: int) -> str:
    """Spell number `index` of step `n` of row `p`."""
    if dialect == "postgresql":
        digits = f"encode(substring(c.piece FROM {index} * p.width + 1 FOR p.width), 'hex')::bigint"
    else:
        digits = f"CAST(hex(substr(p.quantiles, ((n.step - 1) * {COUNT} + {index}) * p.width + 1, p.width)) AS INTEGER)"
    return f"(p.base + {digits}) / p.scale"
