"""The plans that PostgreSQL makes for statements: which of them read a large table whole."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, event

READING = re.compile(r"\s*(SELECT|WITH|DELETE|UPDATE)\b", re.IGNORECASE)


class Statements:
    """Those that were executed, each once, with the parameters of its first time."""

    def __init__(self) -> None:
        self.seen: dict[str, Any] = {}

    def scans(self, engine: Engine, tables: Collection[str]) -> list[str]:
        """`table: statement` for each that would read one of these tables from end to end."""
        found = []
        with engine.connect() as connection:
            for statement, parameters in self.seen.items():
                explained = connection.exec_driver_sql(
                    f"EXPLAIN (FORMAT JSON) {statement}", parameters
                ).scalar_one()
                whole = {name for name in scanned(explained[0]["Plan"]) if name in tables}
                found += [f"{name}: {shortened(statement)}" for name in sorted(whole)]
        return found


@contextmanager
def watched(engine: Engine) -> Iterator[Statements]:
    """Collect what is executed on the engine meanwhile."""
    statements = Statements()

    def executed(
        _connection: Any, _cursor: Any, statement: str, given: Any, _context: Any, many: bool
    ) -> None:
        if READING.match(statement):
            statements.seen.setdefault(statement, given[0] if many else given)

    event.listen(engine, "before_cursor_execute", executed)
    try:
        yield statements
    finally:
        event.remove(engine, "before_cursor_execute", executed)


def scanned(plan: dict[str, Any], limited: bool = False) -> Iterator[str]:
    """The tables that a plan reads from end to end, by table or by index. `limited`: a node above ends
    it early, which in the order of an index is what an index is for."""
    kind, table = plan["Node Type"], plan.get("Relation Name")
    bounded = limited or "Index Cond" in plan
    if table and (
        kind == "Seq Scan" or (kind in ("Index Scan", "Index Only Scan") and not bounded)
    ):
        yield table
    below = (limited or kind == "Limit") and kind not in ("Sort", "Aggregate", "Hash")
    for part in plan.get("Plans", ()):
        yield from scanned(part, below)


def shortened(statement: str, length: int = 200) -> str:
    line = " ".join(statement.split())
    line = re.sub(r"(%\(\w+\)s(::\w+)?(, )?){3,}", "... ", line)
    return line if len(line) <= length else line[: length // 2] + " ... " + line[-length // 2 :]
