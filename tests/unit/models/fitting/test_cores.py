"""How many cores are free, from the files that a Linux system shows of itself, and without them."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.fitting.cores import count_free, count_threads

GROUP = "sys/fs/cgroup"


class Machine:
    """A machine of files: `busy` share of each CPU, quota and use of control groups, siblings of one core."""

    def __init__(self, root: Path, busy: list[float], siblings: dict[int, str] | None = None) -> None:
        self.root, self.busy, self.ticks = root, busy, 0
        self.after: dict[str, str] = {}
        self.write("proc/stat", self._stat())
        for cpu, listed in (siblings or {}).items():
            self.write(f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", f"{listed}\n")

    def write(self, name: str, text: str) -> None:
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def _stat(self) -> str:
        worked = [round(share * self.ticks) for share in self.busy]
        each = [f"cpu{n} {7 + ticks} 0 0 {9 + self.ticks - ticks} 0 0 0 0 0 0" for n, ticks in enumerate(worked)]
        return "\n".join(["cpu  1 2 3 4 5 6 7 8 0 0", *each, "intr 17 0 0", "ctxt 4", ""])

    def look(self, seconds: float) -> None:
        """Half a second goes by."""
        self.ticks += round(100 * seconds)
        self.write("proc/stat", self._stat())
        for file, text in self.after.items():
            self.write(file, text)

    def free(self, allowed: list[int] | None = None) -> int:
        return count_free(self.root, allowed=range(len(self.busy)) if allowed is None else allowed, look=self.look)


@pytest.mark.parametrize(
    ("busy", "free"),
    [
        ([0.0, 0.0], 2),
        ([0.1, 0.1], 2),
        ([1.0, 0.0], 1),
        ([1.0, 1.0], 1),
        ([0.5, 0.5], 1),
        ([0.3] * 8, 5),
        ([0.02] * 16, 15),
        ([0.01] * 16, 16),
        ([1.0] * 12 + [0.0] * 4, 4),
    ],
)
def test_a_core_that_others_use_is_not_free(tmp_path: Path, busy: list[float], free: int) -> None:
    assert Machine(tmp_path, busy).free() == free


def test_only_allowed_cores_count_and_so_does_what_is_busy_on_them(tmp_path: Path) -> None:
    machine = Machine(tmp_path, [0.0, 0.0, 1.0, 1.0])
    assert machine.free([0, 1]) == 2
    assert machine.free([1, 2]) == 1
    assert machine.free([2, 3]) == 1


@pytest.mark.parametrize("listed", [("0,2", "1,3"), ("0-1", "2-3")])
def test_two_threads_of_a_core_are_one_core(tmp_path: Path, listed: tuple[str, str]) -> None:
    names = dict(
        zip((0, 2, 1, 3) if "," in listed[0] else (0, 1, 2, 3), [listed[0]] * 2 + [listed[1]] * 2, strict=True)
    )
    assert Machine(tmp_path / "idle", [0.0] * 4, names).free() == 2
    assert Machine(tmp_path / "busy", [1.0, 0.0, 0.0, 0.0], names).free() == 1
    assert Machine(tmp_path / "off", [0.0] * 2, {0: "0,6", 1: "1,7"}).free() == 2, "siblings 6 and 7 are switched off"


@pytest.mark.parametrize(
    ("limit", "free"),
    [("400000 100000", 4), ("150000 100000", 1), ("790000 100000", 8), ("50000 100000", 1), ("max 100000", 12)],
)
def test_a_container_has_no_more_than_its_quota(tmp_path: Path, limit: str, free: int) -> None:
    machine = Machine(tmp_path, [0.0] * 12)
    machine.write("proc/self/cgroup", "0::/\n")
    machine.write(f"{GROUP}/cpu.max", f"{limit}\n")
    assert machine.free() == free


def test_the_least_quota_of_all_levels_rules_less_what_is_used_of_it(tmp_path: Path) -> None:
    machine = Machine(tmp_path, [0.0] * 12)
    machine.write("proc/self/cgroup", "0::/kube/pod/box\n")
    machine.write(f"{GROUP}/kube/pod/cpu.max", "600000 100000\n")
    machine.write(f"{GROUP}/kube/pod/box/cpu.max", "max 100000\n")
    assert machine.free() == 6
    machine.write(f"{GROUP}/kube/pod/cpu.stat", "usage_usec 1000000\nuser_usec 7\n")
    machine.after = {f"{GROUP}/kube/pod/cpu.stat": "usage_usec 2500000\nuser_usec 7\n"}  # three cores for half a second
    assert machine.free() == 3


@pytest.mark.parametrize("kinds", ["cpu,cpuacct", "cpu"])
def test_control_groups_of_the_first_version_are_read_too(tmp_path: Path, kinds: str) -> None:
    machine = Machine(tmp_path, [0.0] * 12)
    machine.write("proc/self/cgroup", f"3:cpuset:/docker/5e\n2:{kinds}:/docker/5e\n0::/\n")
    machine.write(f"{GROUP}/{kinds}/cpu.cfs_quota_us", "300000\n")  # the path of the host is not seen from inside
    machine.write(f"{GROUP}/{kinds}/cpu.cfs_period_us", "100000\n")
    assert machine.free() == 3
    machine.write(f"{GROUP}/{kinds}/cpuacct.usage", "1000000000\n")
    machine.after = {f"{GROUP}/{kinds}/cpuacct.usage": "1500000000\n"}
    assert machine.free() == 2
    machine.write(f"{GROUP}/{kinds}/cpu.cfs_quota_us", "-1\n")
    assert machine.free() == 12


@pytest.mark.parametrize(("load", "free"), [(0.0, 8), (0.2, 8), (3.1, 5), (20.0, 1)])
def test_a_system_that_does_not_tell_is_judged_by_its_load(tmp_path: Path, load: float, free: int) -> None:
    assert count_free(tmp_path, allowed=range(8), load=lambda: load) == free


@pytest.mark.parametrize("text", ["", "cpu0\n", "cpu0 1 2\n", "\x00\xff"])
def test_files_of_another_kind_are_no_reason_to_fail(tmp_path: Path, text: str) -> None:
    machine = Machine(tmp_path, [0.0])
    machine.write("proc/self/cgroup", "what is this\n7\n\n0::/../..\n")
    machine.write(f"{GROUP}/cpu.max", "1e5\n")
    machine.write("proc/stat", text)
    assert count_free(tmp_path, allowed=[0, 1], look=lambda _: None, load=lambda: 0.0) == 2


def test_this_machine_has_a_free_core_and_a_wish_is_a_wish(monkeypatch: pytest.MonkeyPatch) -> None:
    assert count_free() >= 1
    assert count_threads(3) == 3
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1000")
    assert count_threads(0) == 1
