"""What a group knows of its members."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from pipeline.quickstart.broker.codes import Code

Answer = dict[str, Any]
Reply = Callable[[Answer], None]


class State(Enum):
    """A group's state, named as DescribeGroups shows it."""

    EMPTY = "Empty"
    PREPARING = "PreparingRebalance"
    COMPLETING = "CompletingRebalance"
    STABLE = "Stable"


@dataclass(frozen=True, slots=True)
class Join:
    """A request to join; timeouts in seconds, `protocols` in the member's order of preference."""

    member: str
    instance: str | None
    client: str
    host: str
    session_timeout: float
    rebalance_timeout: float
    protocol_type: str
    protocols: dict[str, bytes]
    must_return_with_id: bool


@dataclass(slots=True)
class Member:
    """A member as the coordinator knows it; `deadline` is when its session ends without a sign of life."""

    name: str
    join: Join
    deadline: float
    assignment: bytes = b""
    joining: Reply | None = None
    syncing: Reply | None = None


def refusal(code: Code, member: str) -> Answer:
    """Answer a join with an error."""
    return {
        "error_code": code,
        "generation_id": -1,
        "protocol_name": "",
        "leader": "",
        "member_id": member,
        "members": [],
    }
