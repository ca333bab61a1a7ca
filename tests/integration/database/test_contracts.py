"""The contracts of store, registry and ledger over SQLite and PostgreSQL."""

from collections.abc import Sequence

import pytest

from pipeline.database import Database, SqlStore
from pipeline.settings import Policy
from tests.contracts.covariates import CovariateContract
from tests.contracts.ledger import LedgerContract
from tests.contracts.registry import RegistryContract
from tests.contracts.rows import NOW, OpenStore
from tests.contracts.store import StoreContract


class TestSqlStore(StoreContract):
    """On both databases."""


class TestCovariates(CovariateContract):
    """On both databases."""

    @pytest.fixture
    def open_store(self, database: Database) -> OpenStore:
        def opened(policy: Policy, covariates: Sequence[str]) -> SqlStore:
            return database.store("meters", policy, lambda: NOW, covariates)

        return opened


class TestRegistry(RegistryContract):
    """On both databases."""


class TestLedger(LedgerContract):
    """On both databases."""
