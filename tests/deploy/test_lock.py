"""What the image installs: every package pinned with its hashes, as constraints.txt says, and none missing."""

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deploy.test_dockerfile import INSTRUCTIONS
from tests.faults.fleet import ROOT

LOCKS = {name: (ROOT / "deploy" / f"{name}.lock").read_text(encoding="utf-8") for name in ("requirements", "torch")}
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def records(text: str) -> dict[str, tuple[str, int]]:
    """Version and number of hashes by package."""
    found = {}
    for record in re.split(r"\n(?=\S)", text.strip()):
        name, _, rest = record.partition("==")
        found[canonicalize_name(name)] = (re.split(r"[\s;]", rest)[0], len(HASH.findall(record)))
    return found


LOCKED = {name: each for text in LOCKS.values() for name, each in records(text).items()}


def needed(name: str, extras: frozenset[str], found: set[str]) -> set[str]:
    """The names of everything that a package needs here, and its extras."""
    for text in metadata.requires(name) or ():
        requirement = Requirement(text)
        wanted = [{"extra": extra} for extra in extras] or [{"extra": ""}]
        if requirement.marker is None or any(requirement.marker.evaluate(each) for each in wanted):
            own = canonicalize_name(requirement.name)
            if own not in found or requirement.extras:
                found.add(own)
                needed(own, frozenset(requirement.extras), found)
    return found


def test_every_package_is_pinned_with_its_hashes() -> None:
    assert len(LOCKED) > 60
    assert {name: count for name, (_, count) in LOCKED.items() if count == 0} == {}
    assert {"torch", "triton"} <= set(records(LOCKS["torch"])) and "numpy" in records(LOCKS["requirements"])


def test_the_locks_say_what_the_constraints_say() -> None:
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line)
    constrained = {canonicalize_name(name): version for name, version in pins.items()}
    differ = {name: version for name, (version, _) in LOCKED.items() if constrained.get(name, version) != version}
    assert differ == {}, "run make lock"


def test_nothing_that_is_needed_lacks() -> None:
    everything = needed("tidecast", frozenset({"all"}), set()) - {"tidecast"}
    assert len(everything) > 40
    assert everything - set(LOCKED) == set(), "run make lock"


def test_the_image_installs_by_hashes_and_builds_with_what_it_installed() -> None:
    calls = [rest for word, rest in INSTRUCTIONS if word == "RUN" and "pip install" in rest]
    assert len(calls) == 3
    assert all("--no-deps" in call for call in calls)
    assert "--require-hashes -r torch.lock" in calls[0] and "--require-hashes -r requirements.lock" in calls[1]
    assert "--no-build-isolation" in calls[2] and "setuptools" in LOCKED


@pytest.mark.parametrize("lock", LOCKS)
def test_pip_reads_a_lock_and_refuses_another_hash(lock: str, tmp_path: Path) -> None:
    name, (version, _) = next(iter(records(LOCKS[lock]).items()))
    wrong = tmp_path / "wrong.lock"
    wrong.write_text(f"{name}=={version} --hash=sha256:{'0' * 64}\n")
    call = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--require-hashes",
        "--dest",
        str(tmp_path),
    ]
    done = subprocess.run([*call, "-r", str(wrong)], capture_output=True, text=True, check=False)
    if "No matching distribution" in done.stderr:
        pytest.skip("pip reaches no package index")
    assert done.returncode != 0 and "DO NOT MATCH THE HASHES" in done.stderr
