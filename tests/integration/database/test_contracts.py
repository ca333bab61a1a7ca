"""The contracts of store, registry and ledger over SQLite and PostgreSQL."""

from tests.contracts import LedgerContract, RegistryContract, StoreContract


class TestSqlStore(StoreContract):
    """On both databases."""


class TestRegistry(RegistryContract):
    """On both databases."""


class TestLedger(LedgerContract):
    """On both databases."""
