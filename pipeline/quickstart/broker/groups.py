"""Consumer groups: who is a member, in which generation, with which assignment (the classic protocol).

empty -> preparing (members join) -> completing (the leader assigns) -> stable; any join, leave or expiry of a
stable group starts at `preparing` again. A waiting JoinGroup or SyncGroup is a callback kept with its member.
"""

from collections import Counter
from uuid import uuid4

from pipeline.quickstart.broker.codes import Code
from pipeline.quickstart.broker.members import Answer, Join, Member, Reply, State, refusal
from pipeline.quickstart.broker.offsets import Offsets


class Group:
    """One group; every method that depends on time is given `now` in seconds."""

    def __init__(self) -> None:
        self.state = State.EMPTY
        self.generation = 0
        self.protocol_type = ""
        self.protocol = ""
        self.leader: str | None = None
        self.members: dict[str, Member] = {}
        self.offsets = Offsets()
        self._instances: dict[str, str] = {}
        self._invited: dict[str, float] = {}  # ids given out with MEMBER_ID_REQUIRED -> when they lapse
        self._phase_ends = 0.0

    def join(self, join: Join, reply: Reply, now: float) -> None:
        """Admit a member; the reply is sent when the generation has formed."""
        names = set(join.protocols)
        if not names or (self.members and (join.protocol_type != self.protocol_type or not names & self._common())):
            reply(refusal(Code.INCONSISTENT_GROUP_PROTOCOL, join.member))
        elif join.member in self._invited:
            del self._invited[join.member]
            self._admit(join.member, join, reply, now)
        elif join.member:
            self._rejoin(join, reply, now)
        elif join.instance in self._instances:
            self._replace(join, reply, now)
        elif join.instance is None and join.must_return_with_id:
            name = f"{join.client}-{uuid4()}"
            self._invited[name] = now + join.session_timeout
            reply(refusal(Code.MEMBER_ID_REQUIRED, name))
        else:
            self._admit(f"{join.instance or join.client}-{uuid4()}", join, reply, now)

    def sync(
        self, member: str, instance: str | None, generation: int, plan: dict[str, bytes], reply: Reply, now: float
    ) -> None:
        """Hand out assignments; the leader brings the plan, the others wait for it."""
        refused = self.check(member, instance, generation)
        if not refused and self.state is State.PREPARING:
            refused = Code.REBALANCE_IN_PROGRESS
        if refused:
            reply({"error_code": refused, "assignment": b""})
            return
        if self.state is State.COMPLETING:
            self.members[member].syncing = reply
            if member == self.leader:
                self.state = State.STABLE
                for name, other in self.members.items():
                    other.assignment = plan.get(name, b"")
                    if other.syncing is not None:
                        other.deadline = now + other.join.session_timeout
                    self._answer_sync(other, Code.NONE)
        else:
            reply(self._synced(self.members[member]))

    def heartbeat(self, member: str, instance: str | None, generation: int, now: float) -> Code:
        """Keep a session alive, and tell the member when it has to join again."""
        refused = self.check(member, instance, generation)
        if refused:
            return refused
        found = self.members[member]
        found.deadline = now + found.join.session_timeout
        return Code.REBALANCE_IN_PROGRESS if self.state is State.PREPARING else Code.NONE

    def leave(self, member: str, instance: str | None, now: float) -> Code:
        """Remove a member; an instance name without a member id is how an administrator removes a static one."""
        if self._invited.pop(member, None) is not None:
            self._complete_if_all_joined(now)
            return Code.NONE
        name = self._instances.get(instance, "") if instance and not member else member
        refused = self._identify(name, instance)
        if not refused:
            self._remove([name], now)
        return refused

    def expire(self, now: float) -> None:
        """Act on every deadline that has passed."""
        lapsed = [name for name, deadline in self._invited.items() if deadline <= now]
        for name in lapsed:
            del self._invited[name]
        if lapsed:
            self._complete_if_all_joined(now)
        waiting = [m for m in self.members.values() if m.joining is None and m.syncing is None]
        overdue = [m.name for m in waiting if m.deadline <= now]
        if self.state is State.COMPLETING and self._phase_ends <= now:
            overdue = [m.name for m in waiting]
        self._remove(overdue, now)
        if self.state is State.PREPARING and self._phase_ends <= now:
            self._complete(now)

    def check(self, member: str, instance: str | None, generation: int) -> Code:
        """Say why a request from this member of this generation is refused."""
        return self._identify(member, instance) or (
            Code.ILLEGAL_GENERATION if generation != self.generation else Code.NONE
        )

    def check_commit(self, member: str, instance: str | None, generation: int, *, transactional: bool) -> Code:
        """Say why offsets are refused; this is what stops a member of an earlier generation (KIP-447)."""
        if generation < 0 and self.state is State.EMPTY:
            return Code.NONE  # a consumer without group management, or an administrator
        if generation >= 0 or member or instance:
            refused = self.check(member, instance, generation)
        else:
            refused = Code.NONE if transactional else Code.UNKNOWN_MEMBER_ID
        if not refused and not transactional and self.state is State.COMPLETING:
            return Code.REBALANCE_IN_PROGRESS
        return refused

    def _identify(self, member: str, instance: str | None) -> Code:
        if instance is not None and instance in self._instances and self._instances[instance] != member:
            return Code.FENCED_INSTANCE_ID
        known = member in self.members and (instance is None or instance in self._instances)
        return Code.NONE if known else Code.UNKNOWN_MEMBER_ID

    def _admit(self, name: str, join: Join, reply: Reply, now: float) -> None:
        self.members[name] = Member(name, join, now + join.session_timeout, joining=reply)
        if join.instance is not None:
            self._instances[join.instance] = name
        self.protocol_type = join.protocol_type
        self._rebalance(now)

    def _rejoin(self, join: Join, reply: Reply, now: float) -> None:
        refused = self._identify(join.member, join.instance)
        if refused:
            reply(refusal(refused, join.member))
            return
        member = self.members[join.member]
        unchanged = member.join.protocols == join.protocols
        member.join, member.deadline = join, now + join.session_timeout
        still_valid = self.state is State.COMPLETING or (self.state is State.STABLE and member.name != self.leader)
        if unchanged and still_valid:
            reply(self._joined(member))
            return
        if member.joining is not None:
            member.joining(refusal(Code.REBALANCE_IN_PROGRESS, member.name))
        member.joining = reply
        self._rebalance(now)

    def _replace(self, join: Join, reply: Reply, now: float) -> None:
        """Let a restarted static member take its place; in a stable group nobody else notices."""
        assert join.instance is not None
        old = self.members.pop(self._instances[join.instance])
        if old.joining is not None:
            old.joining(refusal(Code.FENCED_INSTANCE_ID, old.name))
        self._answer_sync(old, Code.FENCED_INSTANCE_ID)
        name = f"{join.instance}-{uuid4()}"
        new = Member(name, join, now + join.session_timeout, assignment=old.assignment)
        self.members[name], self._instances[join.instance] = new, name
        leader = self.leader
        if leader == old.name:
            self.leader = name
        if self.state is State.STABLE and self._elect_protocol() == self.protocol:
            # Naming the old leader keeps the new member from assigning: a stable group would not spread its plan.
            reply(self._joined(new) | {"leader": leader, "members": []})
            return
        new.joining = reply
        self._rebalance(now)

    def _remove(self, names: list[str], now: float) -> None:
        for name in names:
            gone = self.members.pop(name)
            if gone.join.instance is not None:
                del self._instances[gone.join.instance]
            if gone.joining is not None:
                gone.joining(refusal(Code.UNKNOWN_MEMBER_ID, name))
            self._answer_sync(gone, Code.UNKNOWN_MEMBER_ID)
        if names:
            self._rebalance(now)

    def _rebalance(self, now: float) -> None:
        if self.state is not State.PREPARING:
            for member in self.members.values():
                self._answer_sync(member, Code.REBALANCE_IN_PROGRESS)
            self.state = State.PREPARING
            self._phase_ends = now + self._rebalance_timeout()
        self._complete_if_all_joined(now)

    def _complete_if_all_joined(self, now: float) -> None:
        everyone = not self._invited and all(m.joining is not None for m in self.members.values())
        if self.state is State.PREPARING and everyone:
            self._complete(now)

    def _complete(self, now: float) -> None:
        """Form the generation of those who joined; static members keep their place until their session ends."""
        for member in [m for m in self.members.values() if m.joining is None and m.join.instance is None]:
            del self.members[member.name]
        joined = [m for m in self.members.values() if m.joining is not None]
        self._phase_ends = now + self._rebalance_timeout()
        if self.members and not joined:
            return
        self.generation += 1
        if not joined:
            self.state, self.leader, self.protocol = State.EMPTY, None, ""
            return
        self.state, self.protocol = State.COMPLETING, self._elect_protocol()
        if self.leader not in {m.name for m in joined}:
            self.leader = joined[0].name
        for member in joined:
            assert member.joining is not None
            reply, member.joining = member.joining, None
            member.deadline = now + member.join.session_timeout
            reply(self._joined(member))

    def _joined(self, member: Member) -> Answer:
        everyone = [
            {"member_id": m.name, "group_instance_id": m.join.instance, "metadata": m.join.protocols[self.protocol]}
            for m in self.members.values()
        ]
        return {
            "error_code": Code.NONE,
            "generation_id": self.generation,
            "protocol_type": self.protocol_type,
            "protocol_name": self.protocol,
            "leader": self.leader,
            "member_id": member.name,
            "members": everyone if member.name == self.leader else [],
        }

    def _synced(self, member: Member) -> Answer:
        shape = {"protocol_type": self.protocol_type, "protocol_name": self.protocol}
        return {"error_code": Code.NONE, **shape, "assignment": member.assignment}

    def _answer_sync(self, member: Member, code: Code) -> None:
        reply, member.syncing = member.syncing, None
        if reply is not None:
            reply({"error_code": code, "assignment": b""} if code else self._synced(member))

    def _common(self) -> set[str]:
        return set.intersection(*(set(m.join.protocols) for m in self.members.values()))

    def _elect_protocol(self) -> str:
        common = self._common()
        votes = Counter(next(p for p in m.join.protocols if p in common) for m in self.members.values())
        return votes.most_common(1)[0][0]

    def _rebalance_timeout(self) -> float:
        return max((m.join.rebalance_timeout for m in self.members.values()), default=0.0)
