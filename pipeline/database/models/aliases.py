"""Which model serves under which name, and by which changes; each function is part of its caller's transaction."""

from sqlalchemy import Connection, delete, select, update

from pipeline.database.schema.tables import alias_history, aliases, inserting

CHAMPION, SHADOW = "champion", "shadow"


def read_alias(connection: Connection, alias: str, *, lock: bool = False) -> int | None:
    """Return the version that an alias points at, or None; `lock` keeps it there to the end of the transaction."""
    query = select(aliases.c.version).where(aliases.c.alias == alias)
    found: int | None = connection.execute(query.with_for_update() if lock else query).scalar()
    return found


def move_alias(
    connection: Connection, alias: str, action: str, version: int, expected: int | None, *, reason: str, now: int
) -> bool:
    """Point an alias at a version, and note it, if it still points at `expected` (None: nowhere); False if not."""
    if expected is None:
        new = inserting(connection, aliases).values(alias=alias, version=version)
        change = new.on_conflict_do_nothing(index_elements=["alias"])
    else:
        held = update(aliases).where(aliases.c.alias == alias, aliases.c.version == expected)
        change = held.values(version=version)
    if connection.execute(change.returning(aliases.c.version)).first() is None:
        return False
    record = {"alias": alias, "action": action, "version": version, "previous": expected, "reason": reason}
    connection.execute(alias_history.insert().values(**record, changed_at=now))
    return True


def drop_shadow_alias(connection: Connection, version: int, *, reason: str, now: int) -> bool:
    """Take the alias of the shadow off a version, and note it; False when it is not there."""
    gone = delete(aliases).where(aliases.c.alias == SHADOW, aliases.c.version == version)
    if connection.execute(gone).rowcount != 1:
        return False
    record = {"alias": SHADOW, "action": "drop", "version": version, "previous": version, "reason": reason}
    connection.execute(alias_history.insert().values(**record, changed_at=now))
    return True


def line_of_succession(connection: Connection) -> list[int]:
    """List the champions, oldest first: a promotion adds one, a rollback takes the last off, so two go back two."""
    line: list[int] = []
    query = select(alias_history.c.action, alias_history.c.version).where(alias_history.c.alias == CHAMPION)
    for action, version in connection.execute(query.order_by(alias_history.c.id)):
        if action == "rollback":
            line.pop()
        else:
            line.append(version)
    return line
