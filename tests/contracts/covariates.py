"""The port `Store` of the stream: covariates."""

from dataclasses import replace
from itertools import count

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import Fenced
from pipeline.records import (
    Claim,
    Observations,
)
from pipeline.settings import Policy
from tests.contracts.rows import HOUR, POLICIES, START, OpenStore, folded, observations, turn_of, wide_observations


class CovariateContract:
    """`pipeline.stream.ports.Store`: covariates. `open_store` opens stores over one database, which is empty at
    first.
    """

    @pytest.mark.parametrize("policy", POLICIES)
    def test_each_covariate_combines_like_a_fold_over_the_events_in_order(
        self, open_store: OpenStore, policy: Policy
    ) -> None:
        store = open_store(policy, ("temperature", "wind"))
        claim = store.claim(0, "me")
        series_id = int(store.recent(["a"], 5).series_id[0])
        hours, offset = count(), count()
        values = st.one_of(st.none(), st.floats(-1e9, 1e9, allow_subnormal=False).map(lambda value: value + 0.0))

        @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.lists(st.tuples(values, values, values), min_size=1, max_size=5), st.booleans())
        def check(events: list[tuple[float | None, ...]], said_fresh: bool) -> None:
            nonlocal claim
            time = START + HOUR * next(hours)
            for number, (value, *covariates) in enumerate(events):
                cell = (series_id, time, value, covariates, next(offset), said_fresh and number == 0)
                stop = claim.next_offset + 1
                store.commit(turn_of(claim, stop, observations=wide_observations([cell])))
                claim = Claim(0, claim.epoch, stop)
            history = store.recent(["a"], 1)
            assert history.observed_at.tolist() == [time]
            assert history.covariates.shape == history.covariate_events.shape == (1, 2)
            for column in range(2):
                value, merged = folded(policy, [event[1 + column] for event in events])
                np.testing.assert_array_equal(history.covariates[0, column], np.nan if value is None else value)
                assert value is None or history.covariate_events[0, column] == merged
            value, merged = folded(policy, [value for value, *_ in events])
            assert (history.value.tolist(), history.events.tolist()) == ([value or 0.0], [merged])

        check()

    def test_events_of_a_covariate_count_though_the_last_of_their_turn_took_it_back(
        self, open_store: OpenStore
    ) -> None:
        store = open_store("last", ("x",))
        claim = store.claim(0, "me")
        own = int(store.recent(["a"], 1).series_id[0])
        taken_back = wide_observations([(own, START, 1.0, (None,), 1, True)])
        taken_back = replace(taken_back, covariate_events=np.array([[2]]))
        store.commit(turn_of(claim, 2, observations=taken_back))
        assert np.isnan(store.recent(["a"], 1).covariates).tolist() == [[True]]
        again = wide_observations([(own, START, 1.0, (7.0,), 2, False)])
        store.commit(turn_of(Claim(0, claim.epoch, 2), 3, observations=again))
        history = store.recent(["a"], 1)
        assert (history.covariates.tolist(), history.covariate_events.tolist()) == ([[7.0]], [[3]])

    def test_columns_come_in_the_order_of_the_names_beside_their_own_observations(self, open_store: OpenStore) -> None:
        store = open_store("last", ("x", "y"))
        claim = store.claim(0, "me")
        a, b = store.recent(["a", "b"], 1).series_id.tolist()
        cells = [
            (a, START + HOUR * h, None if h == 3 else 1.0, (None if h == 2 else float(h), -float(h)), h, True)
            for h in range(5)
        ]
        store.commit(
            turn_of(claim, 6, observations=wide_observations([*cells, (b, START + 1, 7.5, (None, 8.0), 5, True)]))
        )
        history = open_store("last", ("y", "x")).recent(["new", "b", "a"], 3)
        assert history.bounds.tolist() == [0, 0, 1, 4]
        np.testing.assert_array_equal(history.covariates, [[8.0, np.nan], [-2.0, np.nan], [-3.0, 3.0], [-4.0, 4.0]])
        assert history.covariate_events.tolist() == [[1, 0], [1, 0], [1, 1], [1, 1]]
        assert open_store("last", ("x",)).recent(["a"], 2).covariates.tolist() == [[3.0], [4.0]]

    def test_any_text_can_be_the_name_of_a_covariate(self, open_store: OpenStore) -> None:
        names = ("it's", 'a "b"', "x'); DROP TABLE covariates; --", "%s:x {y}", "<b>☃</b>")
        store = open_store("last", names)
        claim = store.claim(0, "me")
        [a] = store.recent(["a"], 1).series_id.tolist()
        numbers = tuple(float(i) for i in range(len(names)))
        store.commit(turn_of(claim, 1, observations=wide_observations([(a, START, 1.0, numbers, 0, True)])))
        assert open_store("last", names[::-1]).recent(["a"], 1).covariates.tolist() == [list(numbers[::-1])]

    def test_a_name_that_is_added_later_is_missing_before_and_one_taken_away_is_kept(
        self, open_store: OpenStore
    ) -> None:
        before = open_store("last", ())
        claim = before.claim(0, "me")
        own = int(before.recent(["a"], 1).series_id[0])
        turns: list[tuple[tuple[str, ...], Observations]] = [
            ((), observations([(own, START, 1.0, 1, 0, True)])),
            (("x",), wide_observations([(own, START + HOUR, 2.0, (20.0,), 1, True)])),
            (("new", "x"), wide_observations([(own, START + 2 * HOUR, 3.0, (-3.0, 30.0), 2, True)])),
            ((), observations([(own, START + 2 * HOUR, 3.5, 1, 3, False)])),
        ]
        for number, (names, rows) in enumerate(turns):
            open_store("last", names).commit(turn_of(Claim(0, claim.epoch, number), number + 1, observations=rows))
        history = open_store("last", ("x", "new", "unheard")).recent(["a"], 9)
        nan = np.nan
        np.testing.assert_array_equal(history.covariates, [[nan, nan, nan], [20.0, nan, nan], [30.0, -3.0, nan]])
        assert history.value.tolist() == [1.0, 2.0, 3.5]
        assert before.recent(["a"], 9).covariates.shape == (3, 0)

    def test_a_turn_that_is_fenced_stores_no_covariate(self, open_store: OpenStore) -> None:
        store = open_store("sum", ("x",))
        claim = store.claim(0, "me")
        own = int(store.recent(["a"], 1).series_id[0])
        turn = turn_of(claim, 1, observations=wide_observations([(own, START, 1.0, (5.0,), 0, True)]))
        store.commit(turn)
        with pytest.raises(Fenced):
            store.commit(turn)
        assert store.recent(["a"], 1).covariates.tolist() == [[5.0]]
