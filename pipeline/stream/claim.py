"""Claiming a partition: after it, K = S and this worker alone moves both.

1 SQL          raise the epoch and read S: whoever owned the partition before is fenced from storing; refuse a topic
               that was made anew
2 Kafka        read K, waiting for a dead owner's pending transaction; a K that some tool has set says nothing
3 compare      K < S: publish [K, S) from SQL, or the re-forecast that K does not count yet; K > S: the database is
               older than the topic, refuse
4 consume      from S, or from the oldest offset left when retention has passed S, which is recorded
"""

import enum
from dataclasses import replace

import structlog

from pipeline.errors import ConfigError
from pipeline.records import Advance, Claim, Committed, Turn, no_forecasts, no_observations
from pipeline.stream.incarnations import remade
from pipeline.stream.ring import RingStore
from pipeline.stream.turn import Owned, Parts, publish

log = structlog.get_logger()


class Accept(enum.Flag):
    """What an operator allows a claim to do about a database and a topic that do not belong together."""

    NOTHING = 0
    DATABASE_REWIND = enum.auto()
    OFFSETS_LOST = enum.auto()
    NEW_TOPIC = enum.auto()


def claim(partition: int, owner: str, parts: Parts, accept: Accept = Accept.NOTHING) -> Owned:
    """Claim an assigned partition, which is paused, and start its delivery.

    Raises ConfigError when the group's offset and the database contradict each other and `accept` does not cover it.
    """
    owned = Owned(parts.store.claim(partition, owner), RingStore.of(parts.grid))  # 1 SQL
    _identify(owned, owner, parts, accept)
    parts.passed("in_claim_after_sql")
    committed = _trusted(parts.source.published(partition), owned.claim, accept)  # 2 Kafka
    stored = owned.claim.next_offset
    if committed and committed.offset and not stored and Accept.NEW_TOPIC in accept:
        _publish_offset(owned, parts)
        committed = Committed(stored, reforecasts=owned.claim.reforecasts)
    parts.passed("in_claim_before_publish")
    if committed is None:  # 3 compare
        _begin(owned, accept, parts)
    else:
        published, again = committed.offset, owned.claim.reforecasts
        counted = again if committed.reforecasts is None else committed.reforecasts
        if published > stored or counted > again:
            _refuse_rewind(owned.claim, committed, accept)
            owned.floor = published if published > stored else 0
            owned.claim = _count_on(owned.claim, counted, parts)
        elif published < stored:
            _publish_stored(owned, (published, stored), parts)
        elif counted < again:
            _publish_stored(owned, (-again, -counted), parts)
    parts.passed("in_claim_after_publish")
    owned.claim = _check_bounds(owned.claim, parts)
    parts.source.start(partition, owned.claim.next_offset)  # 4 consume
    parts.worker_state.claim(owned.claim, owned.ring)
    log.info("claimed", partition=partition, epoch=owned.claim.epoch, next_offset=owned.claim.next_offset)
    return owned


def _publish_stored(owned: Owned, offsets: tuple[int, int], parts: Parts) -> None:
    """Publish what is stored of these offsets; after it, K = S."""
    partition, (start, stop) = owned.claim.partition, offsets
    forecasts, letters = parts.store.unpublished(partition, start, stop)
    log.info("publishing what was stored", partition=partition, start=start, stop=stop, forecasts=len(forecasts))
    publish(forecasts, letters, {partition: owned.claim.next_offset}, {partition: owned}, parts)
    parts.worker_state.republish(len(forecasts) + len(letters))


def _count_on(held: Claim, reforecasts: int, parts: Parts) -> Claim:
    """Let a database that is older than the topic count its re-forecasts on from those that were published."""
    if reforecasts <= held.reforecasts:
        return held
    at = held.next_offset
    counted = Advance(held.partition, held.epoch, at, at, reforecasts=reforecasts)
    parts.store.commit(Turn((counted,), no_observations(parts.grid.covariates), no_forecasts(1), ()))
    return replace(held, reforecasts=reforecasts)


def _identify(owned: Owned, owner: str, parts: Parts, accept: Accept) -> None:
    """Compare Kafka's id of the topic with the one whose offsets are stored; a new topic needs to be accepted."""
    topics, partition = parts.incarnations, owned.claim.partition
    found = topics.identify()
    known = parts.store.identify(partition, found) if found else ""
    if known != found:
        if Accept.NEW_TOPIC not in accept:
            raise remade(topics.input_topic, known, is_input=True)
        reason = "the topic was deleted and made anew; what was not read of it by then is gone"
        kept = parts.store.retire(known, reason)
        log.warning("topic made anew", topic=topics.input_topic, former=kept, partition=partition)
        owned.claim = parts.store.claim(partition, owner)
        parts.store.identify(partition, found)
    topics.known[topics.input_topic] = found


def _publish_offset(owned: Owned, parts: Parts) -> None:
    at = owned.claim.partition
    own = Committed(owned.claim.next_offset, reforecasts=owned.claim.reforecasts)
    parts.publisher.publish(*parts.store.unpublished(at, 0, 0), {at: own})


def _begin(owned: Owned, accept: Accept, parts: Parts) -> None:
    """Give the group its first offset, so that a missing one later means that it was lost."""
    held = owned.claim
    if held.next_offset > 0 and Accept.OFFSETS_LOST not in accept:
        raise ConfigError(
            f"the group has no offset for partition {held.partition}, but the database holds it up to "
            f"{held.next_offset}: was kafka.group renamed, or did the offset expire? Start once with "
            "--accept-offsets-lost to take everything stored as published"
        )
    _publish_offset(owned, parts)


def _trusted(committed: Committed | None, held: Claim, accept: Accept) -> Committed | None:
    """Return the group's offset if it says what is published; one that a tool has set says nothing, and is lost.

    A release before this one set no mark, so an offset without one is believed when the partition is first met.
    """
    if committed is None:
        return None
    ours = committed.marked or not held.met
    if committed.offset == held.next_offset or (ours and committed.offset >= held.turn_start):
        return committed
    if Accept.DATABASE_REWIND in accept and committed.offset > held.next_offset:
        return committed
    if Accept.OFFSETS_LOST in accept or (Accept.NEW_TOPIC in accept and not held.next_offset):
        return None
    raise ConfigError(
        f"partition {held.partition}: the group's offset is {committed.offset}, and no worker committed it: did "
        "kafka-consumer-groups or another tool reset it? The database holds the partition up to "
        f"{held.next_offset}, and that alone says where reading goes on. Start once with --accept-offsets-lost to take "
        "everything stored as published; --accept-database-rewind is for a database restored from an older backup"
    )


def _refuse_rewind(held: Claim, committed: Committed, accept: Accept) -> None:
    partition, published, stored = held.partition, committed.offset, held.next_offset
    if Accept.DATABASE_REWIND not in accept:
        found = f"was published up to {published}, but the database holds it up to {stored} only"
        if published <= stored:
            found = (
                f"has {committed.reforecasts} published re-forecasts, but the database holds {held.reforecasts} only"
            )
        raise ConfigError(
            f"partition {partition} {found}: was it restored from an older backup? Start once with "
            "--accept-database-rewind to store the rest again without publishing it twice"
        )
    log.warning("storing again what was published", partition=partition, start=stored, stop=published)


def _check_bounds(held: Claim, parts: Parts) -> Claim:
    beginning, end = parts.source.bounds(held.partition)
    if held.next_offset > end:
        raise ConfigError(
            f"partition {held.partition} ends at {end}, but the database holds it up to {held.next_offset}: Kafka has "
            "lost messages, by an unclean leader election or a restored disk. New messages would have offsets that are "
            "stored already: restore the topic, or read from another kafka.input_topic after tidecast db rebind"
        )
    if held.next_offset >= beginning:
        return held
    reason = "the topic begins here" if held.next_offset == 0 else "retention deleted what was not yet read"
    level = log.info if held.next_offset == 0 else log.error
    level("offsets skipped", partition=held.partition, start=held.next_offset, stop=beginning, reason=reason)
    moved = parts.store.rewind(held, beginning, reason)
    parts.worker_state.skipped += beginning - held.next_offset if held.next_offset else 0
    return moved
