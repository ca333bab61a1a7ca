"""The store that tests of the protocol use keeps the contract of the real ones."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from pipeline.settings import Policy
from tests.contracts.covariates import CovariateContract
from tests.contracts.rows import OpenStore
from tests.fakes import MemoryStore


class TestMemoryStore(CovariateContract):
    """In memory."""

    @pytest.fixture
    def open_store(self) -> OpenStore:
        memory = MemoryStore()

        def opened(policy: Policy, covariates: Sequence[str]) -> MemoryStore:
            return replace(memory, policy=policy, covariates=tuple(covariates))  # over the same dictionaries

        return opened
