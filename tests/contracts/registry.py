"""The registry of models."""

import math

import pytest
from sqlalchemy import text

from pipeline.database import Database
from pipeline.errors import ConfigError, Corrupt
from tests.contracts.rows import HOUR, NOW, START, at_once


class RegistryContract:
    """Models and the champion."""

    def register(self, database: Database, artifact: bytes = b"weights") -> int:
        return database.registry.register(
            name="gru",
            config={"season": 24},
            metrics={"mase": 0.8},
            train_from=START,
            train_to=START + HOUR,
            seed=2**40,
            code="abc123",
            artifact=artifact,
            now=NOW,
        )

    def test_a_model_comes_back_as_it_was_registered(self, database: Database) -> None:
        content = bytes(range(256)) * 1000
        version = self.register(database, content)
        assert version == 1
        assert database.registry.artifact(version) == content
        row = database.registry.model(version)
        assert (row.config, row.metrics, row.season, row.train_to, row.seed, row.created_at) == (
            {"season": 24},
            {"mase": 0.8},
            24,
            START + HOUR,
            2**40,
            NOW,
        )
        assert [(row.version, row.name) for row in database.registry.models()] == [(1, "gru"), (0, "seasonal-naive")]

    def test_an_artifact_that_was_changed_is_corrupt(self, database: Database) -> None:
        version = self.register(database)
        with database.engine.begin() as connection:
            connection.execute(text("UPDATE models SET artifact = :bytes WHERE version = 1"), {"bytes": b"other"})
        with pytest.raises(Corrupt, match="sha256"):
            database.registry.artifact(version)

    def test_the_baseline_and_unknown_versions_have_no_artifact(self, database: Database) -> None:
        for version in (0, 99):
            with pytest.raises(ConfigError, match="no artifact"):
                database.registry.artifact(version)
        with pytest.raises(ConfigError, match="no artifact"):
            database.registry.promote(99, expected=None, reason="x", now=NOW)

    def test_the_seasonal_naive_can_be_made_champion(self, database: Database) -> None:
        one = self.register(database)
        assert database.registry.promote(one, expected=None, reason="first", now=NOW)
        assert database.registry.promote(0, expected=one, reason="it does not fit the settings", now=NOW)
        assert database.registry.champion() == 0

    def test_a_promotion_needs_the_champion_it_expects(self, database: Database) -> None:
        registry = database.registry
        one, two = self.register(database), self.register(database)
        assert registry.champion() is None
        assert not registry.promote(one, expected=7, reason="wrong", now=NOW)
        assert registry.promote(one, expected=None, reason="first", now=NOW)
        assert not registry.promote(two, expected=None, reason="late", now=NOW)
        assert registry.promote(two, expected=one, reason="gain 3.1 % on 40 origins", now=NOW + 1)
        assert registry.champion() == two
        assert [(change.version, change.previous, change.reason) for change in registry.history()] == [
            (two, one, "gain 3.1 % on 40 origins"),
            (one, None, "first"),
        ]

    @pytest.mark.parametrize("settled", [False, True])
    def test_of_promotions_at_once_one_wins(self, database: Database, settled: bool) -> None:
        versions = [self.register(database) for _ in range(6)]
        expected = versions.pop() if settled else None
        if expected is not None:
            database.registry.promote(expected, expected=None, reason="first", now=NOW)
        won = at_once(
            *(
                lambda version=version: database.registry.promote(version, expected=expected, reason="race", now=NOW)
                for version in versions
            )
        )
        assert won.count(True) == 1
        assert won.count(False) == len(versions) - 1
        assert database.registry.champion() == versions[won.index(True)]
        assert len([change for change in database.registry.history() if change.reason == "race"]) == 1

    def test_what_is_adopted_is_stored_once_and_champion(self, database: Database) -> None:
        given = {"name": "given", "config": {"season": 24}, "metrics": {"a": 1}, "code": "test", "reason": "because"}
        version = database.registry.adopt(**given, artifact=b"one", expected=None, now=5)
        assert version is not None
        row = database.registry.model(version)
        assert (row.name, row.season, row.train_from, row.train_to) == ("given", 24, None, None)
        assert (database.registry.champion(), database.registry.artifact(version)) == (version, b"one")
        other = database.registry.adopt(**given, artifact=b"two", expected=version, now=6)
        assert other is not None
        assert other != version
        assert database.registry.adopt(**given, artifact=b"one", expected=other, now=7) == version, "it has a version"
        changes = [(change.version, change.previous, change.reason) for change in database.registry.history()]
        assert changes == [(version, other, "because"), (other, version, "because"), (version, None, "because")]

    @pytest.mark.parametrize("settled", [False, True])
    def test_of_adoptions_at_once_one_wins_and_the_others_leave_nothing(
        self, database: Database, settled: bool
    ) -> None:
        given = {"name": "given", "config": {}, "metrics": {}, "code": "test", "reason": "because", "now": 5}
        expected = database.registry.adopt(**given, artifact=b"zero", expected=None) if settled else None
        before = len(database.registry.models())

        found = at_once(
            *(
                lambda number=number: database.registry.adopt(**given, artifact=b"%d" % number, expected=expected)
                for number in range(4)
            )
        )
        won = [version for version in found if version is not None]
        assert [database.registry.champion()] == won
        assert len(database.registry.models()) == before + 1

    def test_rolling_back_twice_goes_back_two_champions(self, database: Database) -> None:
        registry = database.registry
        champion = None
        for _ in range(3):
            version = self.register(database)
            registry.promote(version, expected=champion, reason="better", now=NOW)
            champion = version
        assert registry.rollback(NOW) == 2
        assert registry.rollback(NOW) == 1
        with pytest.raises(ConfigError, match="no earlier champion"):
            registry.rollback(NOW)
        assert registry.promote(3, expected=1, reason="back", now=NOW)
        assert registry.rollback(NOW) == 1

    def test_a_backtest_without_evidence_is_null(self, database: Database) -> None:
        version = self.register(database)
        database.registry.record_backtest(
            version=version, compared_to=0, origins=4, mase=math.nan, wql=0.2, coverage_80=None, n=96, now=NOW
        )
        (row,) = database.registry.backtests(version)
        assert (row["mase"], row["wql"], row["coverage_80"], row["n"]) == (None, 0.2, None, 96)
