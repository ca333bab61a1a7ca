"""The port `Store` of the stream: every adapter."""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from pipeline.database import Binding, Database, SqlStore
from pipeline.errors import ConfigError, Corrupt, Fenced
from pipeline.records import (
    DEAD_LETTER,
    NOTHING,
    Advance,
    Claim,
    DeadLetter,
    Left,
    Standing,
    Turn,
    no_forecasts,
    no_observations,
)
from pipeline.settings import Policy
from tests.contracts.rows import (
    HOUR,
    NOW,
    START,
    at_once,
    folded,
    forecasts,
    mark_requeued,
    observations,
    same,
    turn_of,
    wide_observations,
)


class StoreContract:
    """`pipeline.stream.ports.Store` over SQL."""

    @pytest.fixture
    def store(self, database: Database) -> SqlStore:
        return database.store("meters", "last", lambda: NOW)

    def test_a_new_partition_starts_at_zero_and_each_claim_raises_the_epoch(self, store: SqlStore) -> None:
        assert store.claim(3, "one") == Claim(3, 1, 0)
        assert store.claim(3, "two") == Claim(3, 2, 0)

    def test_two_threads_that_claim_at_once_get_different_epochs(self, store: SqlStore) -> None:
        claims = at_once(*(lambda: store.claim(0, "me") for _ in range(6)))
        assert sorted(claim.epoch for claim in claims) == [1, 2, 3, 4, 5, 6]

    def test_a_stale_epoch_stores_nothing(self, store: SqlStore, database: Database) -> None:
        stale = store.claim(0, "frozen")
        ids = store.recent(["a"], 5).series_id
        store.claim(0, "new owner")
        with pytest.raises(Fenced, match="another worker"):
            store.commit(
                turn_of(
                    stale,
                    5,
                    observations=observations([(int(ids[0]), START, 1.0, 1, 0, True)]),
                    forecasts=forecasts({"a": int(ids[0])}, START, 0),
                    dead_letters=(DeadLetter(0, 1, "bad", None, b"x"),),
                )
            )
        counts = database.reader.counts()
        assert counts == {**dict.fromkeys(counts, 0), "series": 1}
        assert store.claim(0, "again").next_offset == 0

    def test_one_stale_partition_of_two_stores_nothing_of_either(self, store: SqlStore) -> None:
        good, stale = store.claim(0, "me"), store.claim(1, "me")
        store.claim(1, "other")
        advances = (Advance(0, good.epoch, 0, 7), Advance(1, stale.epoch, 0, 7))
        with pytest.raises(Fenced):
            store.commit(Turn(advances, no_observations(), no_forecasts(3), ()))
        assert store.claim(0, "me").next_offset == 0

    def test_the_same_turn_again_is_fenced_and_stores_nothing(self, store: SqlStore, database: Database) -> None:
        claim = store.claim(0, "me")
        series_id = int(store.recent(["a"], 5).series_id[0])
        turn = turn_of(claim, 1, observations=observations([(series_id, START, 2.0, 1, 0, True)]))
        store.commit(turn)
        with pytest.raises(Fenced):
            store.commit(turn)
        assert database.reader.counts()["events"] == 1

    def test_two_turns_sum_exactly_once(self, database: Database) -> None:
        store = database.store("meters", "sum", lambda: NOW)
        claim = store.claim(0, "me")
        series_id = int(store.recent(["a"], 5).series_id[0])
        store.commit(turn_of(claim, 2, observations=observations([(series_id, START, 3.0, 2, 1, True)])))
        claim = Claim(0, claim.epoch, 2)
        store.commit(turn_of(claim, 3, observations=observations([(series_id, START, 4.0, 1, 2, False)])))
        history = store.recent(["a"], 5)
        assert history.value.tolist() == [7.0]
        assert history.events.tolist() == [3]

    @pytest.mark.parametrize("policy", ["last", "first", "mean", "sum", "max"])
    def test_rows_combine_like_a_fold_over_the_events_in_order(self, database: Database, policy: Any) -> None:
        store = database.store("meters", policy, lambda: NOW)
        claim = store.claim(0, "me")
        series_id = int(store.recent(["a"], 5).series_id[0])
        hours, offset = count(), count()
        values = st.one_of(st.none(), st.floats(-1e9, 1e9, allow_subnormal=False).map(lambda value: value + 0.0))

        @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.lists(st.tuples(values, st.booleans()), min_size=1, max_size=5))
        def check(events: list[tuple[float | None, bool]]) -> None:
            nonlocal claim
            time = START + HOUR * next(hours)
            for value, said_fresh in events:
                cell = (series_id, time, value, int(value is not None), next(offset), said_fresh)
                stop = claim.next_offset + 1
                store.commit(turn_of(claim, stop, observations=observations([cell])))
                claim = Claim(0, claim.epoch, stop)
            history = store.recent(["a"], 1)
            value, merged = folded(policy, [value for value, _ in events])
            assert history.observed.tolist() == [value is not None]
            assert history.value.tolist() == [0.0 if value is None else value]
            assert history.events.tolist() == [merged]
            assert history.observed_at.tolist() == [time]

        check()

    def test_a_crash_in_the_middle_of_a_commit_stores_nothing(self, store: SqlStore, database: Database) -> None:
        claim = store.claim(0, "me")
        series_id = int(store.recent(["a"], 5).series_id[0])

        def crash(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
            if "dead_letters" in statement:
                raise KeyboardInterrupt

        turn = turn_of(
            claim,
            5,
            observations=observations([(series_id, START, 1.0, 1, 0, True)]),
            forecasts=forecasts({"a": series_id}, START, 0),
            dead_letters=(DeadLetter(0, 1, "bad", None, b"x"),),
        )
        event.listen(database.engine, "before_cursor_execute", crash)
        with pytest.raises(KeyboardInterrupt):
            store.commit(turn)
        event.remove(database.engine, "before_cursor_execute", crash)
        counts = database.reader.counts()
        assert counts == {**dict.fromkeys(counts, 0), "series": 1}
        assert len(store.commit(turn)) == 1

    def test_unpublished_returns_the_same_bits_in_offset_order(self, store: SqlStore) -> None:
        claim = store.claim(0, "me")
        names = ["b", "a", "c"]
        ids = dict(zip(names, store.recent(names, 1).series_id.tolist(), strict=True))
        new = forecasts(ids, START, 10, quality=["ok", "fallback", "degraded"])
        letters = (
            DeadLetter(
                0, 11, "not JSON", b"\x00k", b"\xff{", headers=(("a", b"\x00\xff"), ("a", None)), written_at=NOW
            ),
            DeadLetter(0, 19, "empty", None, None, written_at=0),
        )
        stored = store.commit(turn_of(claim, 20, forecasts=new, dead_letters=letters))
        assert same(stored, new)
        again, letters_again = store.unpublished(0, 0, 20)
        assert same(again, new)
        assert letters_again == letters
        part, letters_part = store.unpublished(0, 11, 12)
        assert same(part, new.take(np.array([1])))
        assert letters_part == letters[:1]
        assert len(store.unpublished(0, 20, 30)[0]) == 0
        assert len(store.unpublished(1, 0, 20)[0]) == 0

    def test_a_turn_without_events_is_counted_and_its_rows_are_at_the_negative_of_its_number(
        self, store: SqlStore
    ) -> None:
        claim = store.claim(0, "me")
        own = {"a": int(store.recent(["a"], 1).series_id[0])}
        event_made = forecasts(own, START, 4)
        store.commit(turn_of(claim, 5, forecasts=event_made))
        for number in (1, 2):
            advance = Advance(0, claim.epoch, 5, 5, reforecasts=number)
            store.commit(Turn((advance,), no_observations(), forecasts(own, START, -number, version=1 + number), ()))
        again = store.claim(0, "me")
        assert (again.next_offset, again.turn_start, again.reforecasts) == (5, 5, 2)
        store.commit(turn_of(again, 6))
        assert store.claim(0, "me").reforecasts == 2, "a turn with events leaves the count"
        assert same(store.unpublished(0, -2, -1)[0], forecasts(own, START, -2, version=3))
        assert store.unpublished(0, -2, 0)[0].model_version.tolist() == [3, 2]
        assert same(store.unpublished(0, 0, 9)[0], event_made)

    def test_a_stale_epoch_stores_no_reforecast(self, store: SqlStore, database: Database) -> None:
        stale = store.claim(0, "frozen")
        own = {"a": int(store.recent(["a"], 1).series_id[0])}
        store.claim(0, "new owner")
        with pytest.raises(Fenced):
            advance = Advance(0, stale.epoch, 0, 0, reforecasts=1)
            store.commit(Turn((advance,), no_observations(), forecasts(own, START, -1), ()))
        assert database.reader.counts()["forecasts"] == 0
        assert store.claim(0, "me").reforecasts == 0

    def test_outdated_are_the_series_whose_newest_origin_a_version_has_not_forecast(
        self, store: SqlStore, database: Database
    ) -> None:
        ids = dict(zip("abcde", store.recent(list("abcde"), 1).series_id.tolist(), strict=True))
        left, right = store.claim(0, "me"), store.claim(1, "me")
        store.place(["b"], 0)
        store.place(["b"], 1)  # b is spread, e is never forecast
        own = {name: ids[name] for name in "abc"}
        store.commit(turn_of(left, 9, forecasts=forecasts(own, START, 0)))
        store.commit(turn_of(right, 9, forecasts=forecasts({"d": ids["d"]}, START, 0, partition=1)))
        newer = forecasts({"a": ids["a"]}, START + HOUR, 9)
        store.commit(turn_of(replace(left, next_offset=9), 10, forecasts=newer))

        def found(partitions: list[int], version: int, after: int = 0, most: int = 9) -> list[tuple[Any, ...]]:
            outdated = store.outdated(partitions, version, after, most)
            columns = (outdated.partition, outdated.series_id, outdated.origin, outdated.spread)
            return list(zip(outdated.series, *(column.tolist() for column in columns), strict=True))

        a, b = ("a", 0, ids["a"], START + HOUR, False), ("b", 0, ids["b"], START, True)
        c, d = ("c", 0, ids["c"], START, False), ("d", 1, ids["d"], START, False)
        assert found([0, 1], 1) == []
        assert found([0, 1], 2) == [a, b, c, d]
        assert found([0], 2) == [a, b, c]
        assert found([1], 2) == [d]
        assert found([0, 1], 2, after=ids["b"]) == [c, d]
        assert store.outdated([0], 2, 0, 2).reached == ids["b"]
        assert store.outdated([0], 2, ids["b"], 2).reached is None
        advance = Advance(0, left.epoch, 10, 10, reforecasts=1)
        store.commit(Turn((advance,), no_observations(), forecasts({"a": ids["a"]}, START + HOUR, -1, version=2), ()))
        assert found([0, 1], 2) == [b, c, d]
        assert database.store("others", "last", lambda: NOW).outdated([0, 1], 3, 0, 9).series == []

    def test_one_look_for_outdated_series_is_bounded(self, store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("pipeline.database.turns.outdated.LOOKED_AT", 2)
        names = list("abcde")
        ids = store.recent(names, 1).series_id.tolist()
        store.commit(turn_of(store.claim(0, "me"), 9, forecasts=forecasts({"d": ids[3]}, START, 0)))
        looks, after = [], 0
        while True:
            outdated = store.outdated([0], 2, after, 9)
            looks.append(list(outdated.series))
            if outdated.reached is None:
                break
            after = outdated.reached
        assert looks == [[], ["d"], []]

    def test_negative_zero_is_returned_as_it_is_stored(self, store: SqlStore) -> None:
        claim = store.claim(0, "me")
        new = forecasts({"a": int(store.recent(["a"], 1).series_id[0])}, START, 0)
        new.quantiles[0, 0, 3] = -0.0
        stored = store.commit(turn_of(claim, 1, forecasts=new))
        assert same(stored, store.unpublished(0, 0, 1)[0])
        assert math.copysign(1, stored.quantiles[0, 0, 3]) == 1

    def test_another_topic_has_its_own_offsets_and_outbox(self, store: SqlStore, database: Database) -> None:
        claim = store.claim(0, "me")
        new = forecasts({"a": int(store.recent(["a"], 1).series_id[0])}, START, 0)
        store.commit(turn_of(claim, 1, forecasts=new))
        other = database.store("renamed", "last", lambda: NOW)
        assert other.claim(0, "me") == Claim(0, 1, 0)
        assert len(other.unpublished(0, 0, 10)[0]) == 0

    def test_a_forecast_that_is_already_stored_is_left_as_it_was(self, store: SqlStore) -> None:
        claim = store.claim(0, "me")
        ids = dict(zip("abc", store.recent(["a", "b", "c"], 1).series_id.tolist(), strict=True))
        first = forecasts({"b": ids["b"]}, START, 0)
        store.commit(turn_of(claim, 1, forecasts=first))
        second = forecasts(ids, START, 1, seed=5)
        stored = store.commit(turn_of(Claim(0, claim.epoch, 1), 4, forecasts=second))
        assert same(stored, second.take(np.array([0, 2])))
        assert same(store.unpublished(0, 0, 1)[0], first)

    def test_a_row_wrongly_called_fresh_is_merged(self, database: Database) -> None:
        store = database.store("meters", "sum", lambda: NOW)
        claim = store.claim(0, "me")
        series_id = int(store.recent(["a"], 1).series_id[0])
        store.commit(turn_of(claim, 1, observations=observations([(series_id, START, 1.0, 1, 0, True)])))
        cells = [(series_id, START, 2.0, 1, 1, True), (series_id, START + HOUR, 5.0, 1, 2, True)]
        store.commit(turn_of(Claim(0, claim.epoch, 1), 3, observations=observations(cells)))
        assert store.recent(["a"], 9).value.tolist() == [3.0, 5.0]

    @pytest.mark.parametrize(("policy", "expected"), [("sum", (3.0, 5.0)), ("last", (2.0, math.nan))])
    def test_covariates_of_a_row_wrongly_called_fresh_are_merged(
        self, database: Database, policy: Policy, expected: tuple[float, float]
    ) -> None:
        store = database.store("meters", policy, lambda: NOW, ("x", "y"))
        claim = store.claim(0, "me")
        own = int(store.recent(["a"], 1).series_id[0])
        first = wide_observations([(own, START, 1.0, (1.0, 5.0), 0, True)])
        store.commit(turn_of(claim, 1, observations=first))
        cells = [(own, START, None, (2.0, None), 1, True), (own, START + HOUR, 5.0, (None, None), 2, True)]
        store.commit(turn_of(Claim(0, claim.epoch, 1), 3, observations=wide_observations(cells)))
        np.testing.assert_array_equal(store.recent(["a"], 9).covariates, [expected, (np.nan, np.nan)])

    def test_a_crash_in_the_middle_of_a_commit_stores_no_covariate_and_no_name(self, database: Database) -> None:
        store = database.store("meters", "last", lambda: NOW, ("x",))
        claim = store.claim(0, "me")
        own = int(store.recent(["a"], 5).series_id[0])

        def crash(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
            if "dead_letters" in statement:
                raise KeyboardInterrupt

        rows = wide_observations([(own, START, 1.0, (2.0,), 0, True)])
        turn = turn_of(claim, 5, observations=rows, dead_letters=(DeadLetter(0, 1, "bad", None, b"x"),))
        event.listen(database.engine, "before_cursor_execute", crash)
        with pytest.raises(KeyboardInterrupt):
            store.commit(turn)
        event.remove(database.engine, "before_cursor_execute", crash)
        for table in ("covariates", "covariate_names", "observations"):
            assert database.reader.query(f"SELECT * FROM {table}") == []
        store.commit(turn)
        assert store.recent(["a"], 5).covariates.tolist() == [[2.0]]

    def test_training_reads_the_covariates_that_it_names(self, database: Database) -> None:
        store = database.store("meters", "last", lambda: NOW, ("x", "y"))
        claim = store.claim(0, "me")
        names = [f"s{i:04}" for i in range(2100)]
        ids = store.recent(names, 1).series_id.tolist()
        cells = [(own, START + HOUR * h, 1.0, (own + h / 8, -own), own, True) for own in ids[::-1] for h in range(3)]
        store.commit(turn_of(claim, 9999, observations=wide_observations(cells)))
        found, history = database.reader.training_history(START + HOUR, 2, ("y", "unheard", "x"))
        assert found == names
        expected = [[-own, np.nan, own + h / 8] for own in ids for h in (1, 2)]
        np.testing.assert_array_equal(history.covariates, expected)
        assert database.reader.training_history(None, 9)[1].covariates.shape == (6300, 0)

    def test_training_counts_first_and_can_read_some_of_the_series(self, store: SqlStore, database: Database) -> None:
        assert [column.tolist() for column in database.reader.count_history(3)] == [[], []]
        ids = store.recent(["a", "b", "c"], 1).series_id.tolist()
        cells = [(ids[0], step) for step in range(5)] + [(ids[2], step) for step in range(2)]
        rows = observations([(own, START + step * HOUR, float(step), 1, step, True) for own, step in cells])
        store.commit(turn_of(store.claim(0, "me"), 9, observations=rows))
        found, counts = database.reader.count_history(3)
        assert (found.tolist(), counts.tolist()) == (ids, [3, 0, 2])
        assert database.reader.count_history(99)[1].tolist() == [5, 0, 2]
        names, history = database.reader.training_history(None, 3, series_ids=np.array([ids[0], ids[1]]))
        assert (names, history.bounds.tolist(), history.value.tolist()) == (["a", "b"], [0, 3, 3], [2.0, 3.0, 4.0])

    def test_without_covariates_no_query_is_about_them(self, store: SqlStore, database: Database) -> None:
        seen: list[str] = []

        def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
            seen.append(statement)

        event.listen(database.engine, "before_cursor_execute", note)
        claim = store.claim(0, "me")
        own = int(store.recent(["a"], 5).series_id[0])
        store.commit(turn_of(claim, 1, observations=observations([(own, START, 1.0, 1, 0, True)])))
        store.recent(["a"], 5)
        database.reader.training_history(None, 5)
        event.remove(database.engine, "before_cursor_execute", note)
        assert len(seen) > 5
        assert [statement for statement in seen if "covariate" in statement] == []

    def test_workers_that_enter_the_same_names_at_once_agree_on_them(self, database: Database) -> None:
        def store_one(partition: int, names: tuple[str, ...]) -> None:
            store = database.store("meters", "last", lambda: NOW, names)
            claim = store.claim(partition, "me")
            own = int(store.recent([f"s{partition}"], 1).series_id[0])
            cell = (own, START, 1.0, [float(ord(name)) for name in names], 0, True)
            store.commit(turn_of(claim, 1, observations=wide_observations([cell])))

        done = at_once(*(lambda at=at: store_one(at, tuple("abcd" if at % 2 else "dcba")) for at in range(4)))
        assert done == [None] * 4
        history = database.reader.training_history(None, 1, tuple("abcd"))[1]
        assert history.covariates.tolist() == [[97.0, 98.0, 99.0, 100.0]] * 4

    def test_a_covariate_that_is_infinite_is_refused(self, database: Database) -> None:
        store = database.store("meters", "last", lambda: NOW, ("x",))
        claim = store.claim(0, "me")
        own = int(store.recent(["a"], 1).series_id[0])
        rows = wide_observations([(own, START, 1.0, (math.inf,), 0, True)])
        with pytest.raises(Corrupt, match="not finite"):
            store.commit(turn_of(claim, 1, observations=rows))

    def test_recent_is_bounded_in_the_order_of_the_names_and_oldest_first(self, store: SqlStore) -> None:
        claim = store.claim(0, "me")
        a, b = store.recent(["a", "b"], 1).series_id.tolist()
        cells = [(a, START + HOUR * h, None if h == 3 else float(h), int(h != 3), h, True) for h in range(5)]
        store.commit(turn_of(claim, 6, observations=observations([*cells, (b, START + 1, 7.5, 1, 5, True)])))
        history = store.recent(["new", "b", "a"], 3)
        assert history.series_id.tolist()[1:] == [b, a]
        assert history.bounds.tolist() == [0, 0, 1, 4]
        assert history.observed_at.tolist() == [START + 1, *(START + HOUR * h for h in (2, 3, 4))]
        assert history.value.tolist() == [7.5, 2.0, 0.0, 4.0]
        assert history.observed.tolist() == [True, True, False, True]
        assert history.events.tolist() == [1, 1, 0, 1]

    @pytest.mark.parametrize("instant", [START + 1, START + 999_999, 0, -1, -62_135_596_800_000_000, 2**55 + 1])
    def test_times_keep_every_microsecond(self, store: SqlStore, instant: int) -> None:
        claim = store.claim(0, "me")
        a, b = store.recent(["a", "b"], 1).series_id.tolist()
        cells = [(a, instant, 1.0, 1, 0, True), (b, instant, 1.0, 1, 0, False)]
        store.commit(turn_of(claim, 1, observations=observations(cells)))
        assert store.recent(["a", "b"], 1).observed_at.tolist() == [instant, instant]

    @pytest.mark.parametrize(
        "name",
        ["it's", 'a "b"', "naïve ☃ 😀", "a%s:x", "'; DROP TABLE series; --", " ", "日本", "two\nlines", "<b>{x}</b>"],
    )
    def test_any_text_can_be_a_series_name(self, store: SqlStore, database: Database, name: str) -> None:
        series_id = store.recent([name, "other"], 1).series_id
        assert store.recent(["other", name], 1).series_id.tolist() == series_id.tolist()[::-1]
        assert name in database.reader.training_history(None, 5)[0]

    def test_known_are_the_names_that_have_an_id_and_asking_gives_none(self, store: SqlStore) -> None:
        names = ["a", "b'; DROP TABLE series; --"]
        assert store.known(names) == set()
        assert store.known(names) == set()
        store.recent(names, 1)
        assert store.known(["c", *names]) == set(names)
        assert store.count_series() == len(names)

    @pytest.mark.parametrize("name", ["a\0b", "\ud800"])
    def test_a_name_that_is_not_text_in_sql_is_refused(self, store: SqlStore, name: str) -> None:
        with pytest.raises(Corrupt, match="should have refused"):
            store.recent([name], 1)

    def test_workers_that_meet_the_same_names_give_them_the_same_ids(self, store: SqlStore) -> None:
        names = [f"s{i}" for i in range(300)]
        one, other = at_once(lambda: store.recent(names, 1), lambda: store.recent(names[::-1], 1))
        assert one.series_id.tolist() == other.series_id.tolist()[::-1]
        assert len(set(one.series_id.tolist())) == 300

    def test_a_number_that_is_not_finite_is_refused(self, store: SqlStore) -> None:
        claim = store.claim(0, "me")
        new = forecasts({"a": int(store.recent(["a"], 1).series_id[0])}, START, 0)
        new.quantiles[0, 1, 2] = np.nan
        with pytest.raises(Corrupt, match="not finite"):
            store.commit(turn_of(claim, 1, forecasts=new))

    def test_a_rewind_moves_the_offset_and_is_on_record(self, store: SqlStore, database: Database) -> None:
        claim = store.claim(2, "me")
        moved = store.rewind(claim, 900, "retention passed us")
        assert moved == Claim(2, claim.epoch, 900)
        with pytest.raises(Fenced):
            store.rewind(claim, 5, "stale")
        jumps = database.reader.query("SELECT * FROM ingest_jumps")
        assert [(row["from_offset"], row["to_offset"], row["reason"]) for row in jumps] == [
            (0, 900, "retention passed us")
        ]

    def test_a_series_is_placed_where_it_is_first_met_and_spread_once_it_is_met_elsewhere(
        self, store: SqlStore, database: Database
    ) -> None:
        assert store.place(["a", "b"], 0) == set()
        assert store.place(["a"], 0) == set()
        before = store.standing()
        assert store.place(["b", "c"], 1) == {"b"}
        after = store.standing()
        assert (before.spreads, after.spreads) == (0, 1)
        assert store.spread_after(before.spreads) == {"b"}
        assert store.spread_after(after.spreads) == set()
        assert store.place(["b", "a"], 0) == {"b"}, "also for the worker that met it first"
        assert store.place(["a", "c"], 2) == {"a", "c"}
        assert store.spread_after(after.spreads) == {"a", "c"}
        other = database.store("another", "last", lambda: NOW)
        assert other.place(["c", "d"], 5) == {"c"}, "what was spread stays so"
        assert store.recent(["a", "b", "c", "d"], 1).series_id.tolist() == [1, 2, 3, 4]

    def test_a_standing_tells_how_far_each_partition_is_stored(self, store: SqlStore, database: Database) -> None:
        assert store.standing() == Standing({})
        store.commit(turn_of(store.claim(0, "x"), 7))
        store.claim(3, "y")
        database.store("another", "last", lambda: NOW).claim(1, "z")
        assert store.standing() == Standing({0: 7, 3: 0})

    def test_a_turn_is_fenced_if_one_of_its_own_series_was_spread_meanwhile(self, store: SqlStore) -> None:
        store.place(["a", "b"], 0)
        own = store.recent(["a", "b"], 1).series_id
        claim = store.claim(0, "x")
        turn = replace(turn_of(claim, 4), standing=store.standing(), own=own[:1])
        store.place(["b"], 1)
        store.commit(turn)  # b is none of its own
        later = replace(turn_of(Claim(0, claim.epoch, 4), 5), standing=turn.standing, own=own)
        with pytest.raises(Fenced, match="another partition"):
            store.commit(later)
        assert store.standing().stored == {0: 4}
        store.commit(replace(later, standing=store.standing()))

    def test_workers_that_meet_the_same_series_in_different_partitions_agree_that_it_is_spread(
        self, store: SqlStore
    ) -> None:
        names = [f"s{n}" for n in range(50)]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda at: store.place(names, at), range(4)))
        assert store.spread_after(0) == set(names)
        assert all(store.place(names, at) == set(names) for at in range(4))

    def test_recent_up_to_a_time_says_what_lies_beyond(self, store: SqlStore) -> None:
        a, b = store.recent(["a", "b"], 1).series_id.tolist()
        cells = [(a, START + HOUR * step, float(step), 1, step, True) for step in range(6)]
        store.commit(turn_of(store.claim(0, "x"), 9, observations=observations([*cells, (b, START, 1.0, 1, 8, True)])))
        found = store.recent(["b", "a"], 3, START + 3 * HOUR)
        assert found.value.tolist() == [1.0, 1.0, 2.0, 3.0]
        assert found.beyond.tolist() == [[NOTHING, NOTHING], [START + 4 * HOUR, START + 5 * HOUR]]
        assert store.recent(["a"], 1, START).beyond.tolist() == [[START + HOUR, START + 5 * HOUR]], "beyond the depth"
        assert store.recent(["a"], 3, START + 5 * HOUR).beyond.tolist() == [[NOTHING, NOTHING]]
        assert store.recent(["a"], 3).beyond.tolist() == [[NOTHING, NOTHING]]

    def test_the_topics_id_is_noted_once_and_a_former_topic_is_kept_under_another_name(
        self, store: SqlStore, database: Database
    ) -> None:
        claim = store.claim(0, "x")
        assert store.identify(0, "first") == store.identify(0, "second") == "first"
        own = int(store.recent(["a"], 1).series_id[0])
        letter = DeadLetter(0, 3, "bad", b"k", b"v")
        cells = [(own, START, 1.0, 1, 2, True)]
        made = forecasts({"a": own}, START, 2)
        store.commit(turn_of(claim, 4, observations=observations(cells), forecasts=made, dead_letters=(letter,)))
        store.claim(1, "x")  # a partition that was never identified belongs to the same topic
        kept = store.retire("first", "made anew")
        assert kept.endswith("@first")
        with pytest.raises(Fenced):
            store.commit(turn_of(Claim(0, claim.epoch, 4), 5))
        again = store.claim(0, "x")
        assert (again.next_offset, store.identify(0, "second")) == (0, "second")
        assert store.retire("first", "made anew") == kept, "a second worker finds it done"
        assert store.standing().stored == {0: 0}
        assert [len(part) for part in store.unpublished(0, 0, 100)] == [0, 0]
        store.commit(turn_of(again, 4, dead_letters=(DeadLetter(0, 3, "other", None, b"new"),)))
        rows = database.reader.query("SELECT topic, reason FROM dead_letters ORDER BY reason")
        assert [(row["topic"] == kept, row["reason"]) for row in rows] == [(True, "bad"), (False, "other")]
        jumps = database.reader.query("SELECT partition, from_offset, reason FROM ingest_jumps ORDER BY partition")
        assert [(row["partition"], row["from_offset"]) for row in jumps] == [(0, 4), (1, 0)]
        lineage = database.reader.query("SELECT t.topic FROM forecasts f JOIN topics t ON t.topic_id = f.source_topic")
        assert {row["topic"] for row in lineage} == {kept}

    def test_a_store_that_was_open_while_another_retired_the_topic_names_the_new_one(self, database: Database) -> None:
        first, other = (database.store("meters", "last", lambda: NOW) for _ in range(2))
        claim = first.claim(0, "me")
        first.identify(0, "first")
        own = int(first.recent(["a"], 1).series_id[0])
        first.commit(turn_of(claim, 1, forecasts=forecasts({"a": own}, START, 0)))
        other.retire("first", "made anew")
        again = first.claim(0, "me")
        assert first.identify(0, "second") == "second"
        first.commit(turn_of(again, 1, forecasts=forecasts({"a": own}, START + HOUR, 0)))
        assert len(first.unpublished(0, 0, 1)[0]) == 1, "or a crash before publishing would lose it"

    def test_a_database_belongs_to_the_deployment_that_came_first(self, database: Database) -> None:
        first = Binding("group", "in", "out", "dead", "3600s")
        database.pipelines.bind(first, NOW)
        database.pipelines.bind(first, NOW)
        with pytest.raises(ConfigError, match=r"kafka\.input_topic is other here and in there"):
            database.pipelines.bind(replace(first, input_topic="other"), NOW)
        with pytest.raises(ConfigError, match=r"grid 3600s, and series\.frequency is 900s"):
            database.pipelines.bind(replace(first, frequency="900s", consumer_group="x"), NOW)
        with pytest.raises(ConfigError, match="grid 3600s"):
            database.pipelines.check_frequency("900s")
        renamed = replace(first, consumer_group="renamed")
        with pytest.raises(ConfigError, match="tidecast db rebind"):
            database.pipelines.bind(renamed, NOW)
        database.pipelines.bind(renamed, NOW, new_group=True)
        moved = replace(renamed, output_topic="out-2", frequency="900s")
        assert database.pipelines.rebind(moved, NOW) == ["kafka.output_topic", "series.frequency"]
        assert database.pipelines.rebind(moved, NOW) == []
        store = database.store("in", "last", lambda: NOW)
        own = int(store.recent(["a"], 1).series_id[0])
        store.commit(turn_of(store.claim(0, "x"), 2, observations=observations([(own, START, 1.0, 1, 1, True)])))
        with pytest.raises(ConfigError, match="grid 900s"):
            database.pipelines.rebind(replace(moved, frequency="3600s"), NOW)

    def test_the_grid_has_the_phase_that_was_noted_first(self, database: Database) -> None:
        pipelines = database.pipelines
        unknown = Binding("group", "in", "out", "dead", "86400s")
        assert pipelines.phase() is None
        assert pipelines.bind(unknown, NOW) is None
        assert pipelines.decide_phase(3600) == 3600
        assert pipelines.decide_phase(0) == 3600
        assert pipelines.phase() == pipelines.bind(unknown, NOW) == 3600
        assert pipelines.bind(replace(unknown, phase=3600), NOW) == 3600
        pipelines.check_frequency("86400s", None)
        for refused in (
            lambda: pipelines.bind(replace(unknown, phase=60), NOW),
            lambda: pipelines.check_frequency("86400s", 60),
        ):
            with pytest.raises(ConfigError, match=r"grid 86400s and 1 h, and series\.frequency is 86400s and 1 min"):
                refused()
        assert pipelines.rebind(replace(unknown, phase=60), NOW) == ["series.phase"]
        assert pipelines.phase() == 60
        assert pipelines.rebind(replace(unknown, frequency="3600s"), NOW) == ["series.frequency"]
        assert pipelines.phase() is None, "it is found anew"

    def test_a_phase_in_the_settings_is_noted_when_none_is_known(self, database: Database) -> None:
        unknown = Binding("group", "in", "out", "dead", "86400s")
        database.pipelines.bind(unknown, NOW)
        database.pipelines.check_frequency("86400s", 60)
        assert database.pipelines.bind(replace(unknown, phase=60), NOW) == database.pipelines.phase() == 60

    def test_observations_of_before_are_on_a_grid_without_a_phase(self, database: Database) -> None:
        store = database.store("in", "last", lambda: NOW)
        own = int(store.recent(["a"], 1).series_id[0])
        store.commit(turn_of(store.claim(0, "x"), 2, observations=observations([(own, START, 1.0, 1, 1, True)])))
        assert database.pipelines.bind(Binding("group", "in", "out", "dead", "86400s"), NOW) == 0

    def test_events_between_two_steps_are_counted(self, database: Database) -> None:
        store = database.store("in", "last", lambda: NOW)
        claim = store.claim(0, "x")
        turn = turn_of(claim, 5)
        store.commit(replace(turn, advances=(replace(turn.advances[0], off_grid=3),)))
        turn = turn_of(replace(claim, next_offset=5), 9)
        store.commit(replace(turn, advances=(replace(turn.advances[0], off_grid=1),)))
        assert database.reader.count_off_grid("in") == (4, 9)
        assert database.reader.count_off_grid("other") == (0, 0)

    def test_topics_that_were_written_to_are_known_by_their_ids(self, database: Database) -> None:
        database.pipelines.bind(Binding("group", "in", "out", "dead", "3600s"), NOW)
        assert database.pipelines.known_topics() == set()
        assert database.pipelines.identify("a", "", NOW, accept=False) == {
            "output_incarnation": "a",
            "dead_letter_incarnation": "",
        }
        assert database.pipelines.known_topics() == {"out"}
        assert database.pipelines.identify("b", "c", NOW, accept=False)["output_incarnation"] == "a"
        assert database.pipelines.identify("b", "c", NOW, accept=True)["output_incarnation"] == "b"
        [jump] = database.reader.query("SELECT topic, reason FROM ingest_jumps")
        assert jump["topic"] == "out" and "out@a" in jump["reason"]

    def test_what_a_topic_refuses_is_one_row_with_its_newest_reason(self, store: SqlStore, database: Database) -> None:
        letter = Left(0, 7, DEAD_LETTER, "dead", 0, "too large")
        forecast = Left(0, 7, "nul \0@1970-01-01T01:00:00Z#1", "out", 3, "nul \0 and \ud800")
        store.leave([letter, forecast])
        store.leave([replace(letter, reason="its stub, too", stub=True)])
        store.commit(turn_of(store.claim(0, "me"), 8, dead_letters=(DeadLetter(0, 7, "bad", None, b"x"),)))
        rows = database.reader.query("SELECT message, topic, reason FROM left_in_sql ORDER BY topic")
        assert [tuple(row.values()) for row in rows] == [
            (DEAD_LETTER, "dead", "its stub, too"),
            ("nul \\0@1970-01-01T01:00:00Z#1", "out", "nul \\0 and \\ud800"),
        ]
        assert [row["left_in_sql"] for row in database.reader.dead_letters()] == ["its stub, too"]
        assert database.reader.left_in_sql(NOW - HOUR) == {"dead": 1, "out": 1}
        assert database.reader.left_in_sql(NOW + HOUR) == {}

    def test_a_dead_letter_twice_is_one_row_and_can_be_requeued_once(self, store: SqlStore, database: Database) -> None:
        claim = store.claim(0, "me")
        letter = DeadLetter(0, 0, "nul \0 and \ud800", b"\xff", None, headers=(("nul \0, \ud800", b"\0"),))
        store.commit(turn_of(claim, 1, dead_letters=(letter,)))
        claim = store.rewind(Claim(0, claim.epoch, 1), 0, "again")
        store.commit(turn_of(claim, 1, dead_letters=(letter,)))
        reader = database.reader
        assert [row["reason"] for row in reader.dead_letters()] == ["nul \\0 and \\ud800"]
        assert reader.dead_letter("meters", 0, 0).key == b"\xff"
        mark_requeued(database, "meters", 0, 0, NOW)
        assert reader.dead_letters(waiting=True) == []
        with pytest.raises(ConfigError, match="no dead letter"):
            reader.dead_letter("meters", 0, 1)
