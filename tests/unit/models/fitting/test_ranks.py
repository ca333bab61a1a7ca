"""Ranks from the environment, and a process alone. What ranks say to each other: tests/integration/test_torchrun.py."""

from __future__ import annotations

import time

import pytest
import torch

from models.fitting.ranks import ALONE, Clock, RankLost, Ranks, answering, read_ranks


def test_ranks_are_read_from_the_environment_of_torchrun() -> None:
    assert read_ranks({}) is ALONE
    assert read_ranks({"LOCAL_RANK": "3", "PATH": "/bin"}) is ALONE
    assert read_ranks({"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}) == Ranks(5, 8, 1)
    assert read_ranks({"RANK": "1", "WORLD_SIZE": "2"}) == Ranks(1, 2, 1)


@pytest.mark.parametrize(
    "environ",
    [
        {"RANK": "0"},
        {"WORLD_SIZE": "2"},
        {"RANK": "first", "WORLD_SIZE": "2"},
        {"RANK": "2", "WORLD_SIZE": "2"},
        {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "gpu"},
    ],
)
def test_half_an_environment_is_refused(environ: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="RANK"):
        read_ranks(environ)


def test_a_batch_must_divide_among_the_processes() -> None:
    assert Ranks(1, 4).share(128) == 32
    with pytest.raises(ValueError, match="batch 130 does not divide among 4 processes: use a multiple of 4"):
        Ranks(1, 4).share(130)


def test_a_process_alone_says_and_changes_nothing() -> None:
    values = torch.arange(3.0)
    ALONE.add(values)
    assert values.tolist() == [0.0, 1.0, 2.0]
    assert ALONE.total(1.5, 2) == ALONE.follow(1.5, 2) == [1.5, 2]


def test_the_clock_of_a_process_alone_is_its_own() -> None:
    clock = Clock(ALONE, every=25)
    time.sleep(0.01)
    assert 0.01 <= clock.read(3) <= clock.own() < 60.0


def test_between_two_tellings_a_rank_counts_on_at_rank_0s_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    told = iter([0.0, 2.0, 6.0, 9.0])  # rank 0's clock before steps 1, 2, 4 and 5
    monkeypatch.setattr(Ranks, "follow", lambda self, *_: [next(told)])
    clock = Clock(Ranks(1, 2), every=5)
    assert [clock.read(step) for step in range(1, 8)] == pytest.approx([0.0, 2.0, 4.0, 6.0, 9.0, 11.25, 13.5])


def test_any_error_of_a_backend_means_that_a_rank_is_lost() -> None:
    with pytest.raises(RankLost, match="ended or is silent: Connection closed by peer"), answering():
        raise RuntimeError("Connection closed by peer\nand a long trace")
