"""A topic that was made anew: what is stored of the former one gets another name, so that offsets mean one thing."""

from sqlalchemy import Connection, select, update

from pipeline.database.schema.tables import dead_letters, ingest_jumps, ingest_state, left_in_sql, topics


def name_retired(topic: str, incarnation: str) -> str:
    """Name what is left of a former topic; no topic of Kafka has an @ in its name."""
    return f"{topic}@{incarnation}"


def retire_topic(connection: Connection, topic: str, incarnation: str, reason: str, now: int) -> str:
    """Rename a former topic wherever SQL names it, and put on record where reading it ended."""
    retired = name_retired(topic, incarnation)
    state = ingest_state.c
    rows = select(state.partition, state.next_offset, state.incarnation).where(state.topic == topic)
    # Locked, so that of two workers that retire it at once the second one finds it done; in the order of `commit`.
    ends = connection.execute(rows.order_by(state.partition).with_for_update()).all()
    if incarnation not in [row.incarnation for row in ends]:
        return retired
    mine = (state.topic == topic) & ((state.incarnation == incarnation) | state.incarnation.is_(None))
    jumps = [
        {
            "topic": topic,
            "partition": row.partition,
            "from_offset": row.next_offset,
            "to_offset": 0,
            "reason": f"{reason}; it is kept as {retired}",
            "jumped_at": now,
        }
        for row in ends
        if row.incarnation in (incarnation, None)
    ]
    # Every other claim is fenced from here on: an advance finds no row of this name, epoch and offset.
    connection.execute(update(ingest_state).where(mine).values(topic=retired))
    for table, column in (
        (topics, topics.c.topic),
        (dead_letters, dead_letters.c.topic),
        (left_in_sql, left_in_sql.c.source_topic),
        (ingest_jumps, ingest_jumps.c.topic),
    ):
        connection.execute(update(table).where(column == topic).values({column.name: retired}))
    connection.execute(ingest_jumps.insert(), jumps)
    return retired
