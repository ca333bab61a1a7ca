"""Nothing that is read can run code: no pickle, by any of its names, no eval, no shell."""

import ast
from functools import cache
from pathlib import Path

import pytest

from tests.unit.test_imports import MODULES, ROOT, name

MODULES_THAT_PICKLE = {
    "pickle",
    "cPickle",
    "_pickle",
    "pickletools",
    "marshal",
    "shelve",
    "dbm",
    "dill",
    "cloudpickle",
    "joblib",
    "jsonpickle",
    "multiprocessing",
    "concurrent.futures.process",
    "torch.multiprocessing",
    "torch.package",
    "copyreg",
}
CALLS_THAT_PICKLE = {
    "torch.load",
    "torch.save",
    "torch.jit.load",
    "torch.export.load",
    "np.fromfile",
    "pd.read_hdf",
    "ProcessPoolExecutor",
    "PickleType",
    "yaml.load",
    "yaml.load_all",
    "yaml.full_load",
    "yaml.unsafe_load",
}
METHODS_THAT_PICKLE = {
    "read_pickle",
    "to_pickle",
    "all_gather_object",
    "gather_object",
    "broadcast_object_list",
    "scatter_object_list",
    "send_object_list",
    "recv_object_list",
}
RUN_CODE = {"eval", "exec", "compile", "__import__", "os.system", "os.popen"}
REASONS = {
    "tests/processes.py calls exec": "runs the code of `python -c` that a test starts",
    "tests/processes.py calls compile": "runs the code of `python -c` that a test starts",
    "tests/integration/database/test_promotion_race.py imports multiprocessing": "two processes of the test's own",
    "tests/unit/stream/test_protocol.py calls exec": "runs turn.py with a line moved",
    "tests/unit/stream/test_protocol.py calls compile": "runs turn.py with a line moved",
    "tests/unit/test_readme.py calls exec": "runs the code of README and docs/",
    "tests/unit/test_readme.py calls compile": "runs the code of README and docs/",
}
LAST_NAMES = METHODS_THAT_PICKLE | {each.rpartition(".")[2] for each in CALLS_THAT_PICKLE | RUN_CODE}
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def dangers(code: str) -> set[str]:
    """What a module does that could run code out of what it reads."""
    found = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            own = [alias.name for alias in node.names]
            if isinstance(node, ast.ImportFrom):
                own = [node.module or "", *(f"{node.module}.{one}" for one in own)]
            banned = {one for one in own for bad in MODULES_THAT_PICKLE if one == bad or one.startswith(f"{bad}.")}
            found |= {f"imports {one}" for one in banned}
        elif isinstance(node, ast.Attribute | ast.Name) and last_name(node) in LAST_NAMES:
            text = ast.unparse(node)
            if text in CALLS_THAT_PICKLE or text.rpartition(".")[2] in METHODS_THAT_PICKLE:
                found.add(f"uses {text}")
        elif isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "shell"):
            off = isinstance(node.value, ast.Constant) and node.value.value is False
            found |= set() if off else {f"passes {node.arg}"}
        if isinstance(node, ast.Call) and last_name(node.func) in LAST_NAMES and ast.unparse(node.func) in RUN_CODE:
            found.add(f"calls {ast.unparse(node.func)}")
    return found


def last_name(node: ast.expr) -> str:
    """`load` of `torch.load`; cheaper than the whole text, which few nodes need."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


@cache
def dangers_of(path: Path) -> set[str]:
    return {f"{name(path)} {danger}" for danger in dangers(path.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("paths", [MODULES, TESTS], ids=["product", "tests"])
def test_no_module_reads_or_writes_pickles_or_runs_text_as_code(paths: list[Path]) -> None:
    assert set().union(*map(dangers_of, paths)) - REASONS.keys() == set()


def test_every_reason_is_still_needed_and_none_is_in_the_product() -> None:
    assert REASONS.keys() <= set().union(*map(dangers_of, TESTS))


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import loads",
        "import cloudpickle as c",
        "from concurrent.futures.process import ProcessPoolExecutor",
        "from concurrent.futures import ProcessPoolExecutor\nProcessPoolExecutor(2)",
        "from torch import multiprocessing",
        "import multiprocessing.connection",
        "torch.load(path, weights_only=True)",
        "model = torch.save",
        "frame.to_pickle(path)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "dist.broadcast_object_list(words)",
        "subprocess.run(text, shell=True)",
        "eval(text)",
        "os.system(text)",
        "yaml.load(text)",
    ],
)
def test_each_way_to_unpickle_or_to_run_text_is_found(code: str) -> None:
    assert dangers(code)


@pytest.mark.parametrize(
    "code", ["model.eval()", "re.compile(x)", "np.load(path, allow_pickle=False)", "json.loads(x)"]
)
def test_what_only_sounds_like_it_is_not_found(code: str) -> None:
    assert not dangers(code)
