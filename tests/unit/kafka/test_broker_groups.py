"""Deadlines of groups and transactions in the development broker; time is an argument, so nothing waits."""

from typing import Any

from pipeline.quickstart.broker.codes import Code
from pipeline.quickstart.broker.groups import Group
from pipeline.quickstart.broker.members import Join, State
from pipeline.quickstart.broker.transactions import LAST_EPOCH, Transaction, Transactions


def join(group: Group, now: float, member: str = "", instance: str | None = None) -> list[dict[str, Any]]:
    """Ask to join with a session of 10 s and a rebalance of 30 s; the answers arrive in the list."""
    answers: list[dict[str, Any]] = []
    asked = Join(member, instance, "client", "127.0.0.1", 10, 30, "consumer", {"range": b"m"}, instance is None)
    group.join(asked, answers.append, now)
    return answers


def member_of(group: Group, now: float) -> str:
    """Let a dynamic member in by both steps and return its id; its JoinGroup may still be waiting."""
    name: str = join(group, now)[0]["member_id"]
    join(group, now, name)
    return name


def sync(group: Group, member: str, now: float, plan: dict[str, bytes] | None = None) -> list[dict[str, Any]]:
    answers: list[dict[str, Any]] = []
    instance = group.members[member].join.instance
    group.sync(member, instance, group.generation, plan or {}, answers.append, now)
    return answers


def test_a_first_join_is_answered_with_an_id_to_return_with() -> None:
    (answer,) = join(Group(), 0)
    assert answer["error_code"] is Code.MEMBER_ID_REQUIRED
    assert answer["member_id"].startswith("client-")


def test_an_id_that_nobody_returns_with_holds_a_rebalance_up_only_for_a_session() -> None:
    group = Group()
    join(group, 0)
    name = join(group, 1)[0]["member_id"]
    answers = join(group, 1, name)
    assert answers == []
    group.expire(9.9)
    assert answers == []
    group.expire(10)
    assert answers[0]["generation_id"] == 1


def test_a_leader_that_never_brings_a_plan_is_removed_and_the_others_assign_again() -> None:
    group = Group()
    leader = member_of(group, 0)
    sync(group, leader, 0, {leader: b"all"})
    name = join(group, 1)[0]["member_id"]
    waiting = join(group, 1, name)
    join(group, 1, leader)
    assert waiting[0]["leader"] == leader
    answers = sync(group, name, 2)
    assert answers == []
    group.heartbeat(leader, None, group.generation, 25)
    group.expire(31)
    assert answers[0]["error_code"] is Code.REBALANCE_IN_PROGRESS
    assert list(group.members) == [name]
    (again,) = join(group, 32, name)
    assert (again["leader"], again["generation_id"]) == (name, 3)


def test_a_dynamic_member_that_does_not_rejoin_in_time_is_left_out() -> None:
    group = Group()
    slow = member_of(group, 0)
    sync(group, slow, 0, {slow: b"all"})
    name = join(group, 1)[0]["member_id"]
    waiting = join(group, 1, name)
    for second in range(2, 31, 4):
        assert group.heartbeat(slow, None, group.generation, second) is Code.REBALANCE_IN_PROGRESS
        group.expire(second)
    assert waiting == []
    group.expire(31)
    assert waiting[0]["leader"] == name
    assert slow not in group.members


def test_a_static_member_keeps_its_place_until_its_session_ends() -> None:
    group = Group()
    (answer,) = join(group, 0, instance="one")
    sync(group, answer["member_id"], 0, {answer["member_id"]: b"all"})
    group.expire(9)
    (back,) = join(group, 9, instance="one")
    assert (back["generation_id"], back["member_id"] != answer["member_id"]) == (1, True)
    assert sync(group, back["member_id"], 9)[0]["assignment"] == b"all"
    group.expire(19)
    assert (group.state, group.members) == (State.EMPTY, {})


def test_a_member_without_heartbeats_is_removed_after_its_session() -> None:
    group = Group()
    name = member_of(group, 0)
    sync(group, name, 0, {name: b"all"})
    assert group.heartbeat(name, None, 1, 8) is Code.NONE
    group.expire(17)
    assert group.heartbeat(name, None, 1, 17.5) is Code.NONE
    group.expire(28)
    assert group.heartbeat(name, None, 1, 28) is Code.UNKNOWN_MEMBER_ID


def test_offsets_of_an_earlier_generation_are_refused_also_in_a_transaction() -> None:
    group = Group()
    name = member_of(group, 0)
    sync(group, name, 0, {name: b"all"})
    for transactional in (False, True):
        assert group.check_commit(name, None, 1, transactional=transactional) is Code.NONE
        assert group.check_commit(name, None, 0, transactional=transactional) is Code.ILLEGAL_GENERATION
        assert group.check_commit("gone", None, 1, transactional=transactional) is Code.UNKNOWN_MEMBER_ID


class Finished:
    """Records what the coordinator finished: (epoch of the markers, whether it committed)."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, bool]] = []

    def __call__(self, ended: Transaction, commit: bool) -> None:
        self.calls.append((ended.epoch, commit))


def test_initialising_again_aborts_the_open_transaction_with_markers_of_the_new_epoch() -> None:
    finished = Finished()
    coordinator = Transactions(finished)
    _, producer, epoch = coordinator.init("t", 1000, -1, -1)
    coordinator.add("t", {("topic", 0)}, set(), 0)
    assert coordinator.init("t", 1000, -1, -1) == (Code.NONE, producer, epoch + 1)
    assert finished.calls == [(epoch + 1, False)]
    assert coordinator.end("t", producer, epoch, commit=True) is Code.PRODUCER_FENCED


def test_a_transaction_is_aborted_and_its_owner_fenced_when_its_time_is_over() -> None:
    finished = Finished()
    coordinator = Transactions(finished)
    _, producer, epoch = coordinator.init("t", 1000, -1, -1)
    coordinator.add("t", {("topic", 0)}, set(), 5)
    coordinator.expire(5.9)
    assert finished.calls == []
    coordinator.expire(6)
    assert finished.calls == [(epoch + 1, False)]
    assert coordinator.check_write(producer, epoch, ("topic", 0)) is Code.INVALID_PRODUCER_EPOCH


def test_an_end_that_is_asked_again_after_a_lost_answer_is_granted_once_more_but_not_reversed() -> None:
    finished = Finished()
    coordinator = Transactions(finished)
    _, producer, epoch = coordinator.init("t", 1000, -1, -1)
    coordinator.add("t", {("topic", 0)}, set(), 0)
    assert coordinator.end("t", producer, epoch, commit=True) is Code.NONE
    assert coordinator.end("t", producer, epoch, commit=True) is Code.NONE
    assert coordinator.end("t", producer, epoch, commit=False) is Code.INVALID_TXN_STATE
    assert finished.calls == [(epoch, True)]


def test_a_partition_outside_the_transaction_cannot_be_written() -> None:
    coordinator = Transactions(Finished())
    _, producer, epoch = coordinator.init("t", 1000, -1, -1)
    coordinator.add("t", {("topic", 0)}, set(), 0)
    assert coordinator.check_write(producer, epoch, ("topic", 0)) is Code.NONE
    assert coordinator.check_write(producer, epoch, ("topic", 1)) is Code.INVALID_TXN_STATE


def test_when_the_epochs_run_out_the_transactional_id_gets_a_new_producer_id() -> None:
    coordinator = Transactions(Finished())
    _, producer, _ = coordinator.init("t", 1000, -1, -1)
    for _ in range(LAST_EPOCH):
        coordinator.init("t", 1000, -1, -1)
    code, renewed, epoch = coordinator.init("t", 1000, -1, -1)
    assert (code, renewed != producer, epoch) == (Code.NONE, True, 0)
