from types import SimpleNamespace

import pytest

from tests.contracts.ledger import LedgerContract
from tests.unit.jobs.fakes import FakeLedger


class TestTheFakeLedgerKeepsTheContract(LedgerContract):
    @pytest.fixture
    def database(self) -> SimpleNamespace:
        return SimpleNamespace(ledger=FakeLedger())
