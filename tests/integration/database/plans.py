"""What the plans of a query read from one end to the other, on both databases."""

import re
from collections.abc import Iterator
from typing import Any

LARGE = {"packed_forecasts", "packed_shadow_forecasts", "observations"}


def scanned(connection: Any, query: str) -> set[str]:
    """The large tables that a query reads from one end to the other."""
    if connection.dialect.name == "sqlite":
        lines = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}")]
        aliases = {"p", "f", "o", "h", "v", "b", "l", "d", "c"} | LARGE
        return {line for line in lines if line.startswith("SCAN ") and line.split()[1] in aliases}
    return read_whole(connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {query}").scalar()[0]["Plan"]) & LARGE


def read_whole(plan: dict[str, Any]) -> set[str]:
    """The tables that a plan of PostgreSQL reads from one end to the other; a partition counts as its table.

    Of an empty partition there is nothing else to do.
    """
    return {
        re.sub(r"_(past|open|\d{4}_\d\d_\d\d)$", "", node["Relation Name"])
        for node in nodes(plan)
        if node["Node Type"] == "Seq Scan" and node["Plan Rows"] > 1
    }


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", []):
        yield from nodes(part)
