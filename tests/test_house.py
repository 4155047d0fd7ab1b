"""The house rules that a reader relies on: rooms in order, no circles, one door for each heavy library."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# From the ground up, a tuple a floor. A room imports only rooms that stand before it.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("aceslm.core",),
    ("aceslm.config", "aceslm.tasks"),
    ("aceslm.data", "aceslm.models", "aceslm.ace"),
    ("aceslm.plan", "aceslm.engine"),
    ("aceslm.run", "aceslm.bench"),
    ("aceslm.results", "aceslm.analysis"),
    ("aceslm.report", "aceslm.tracking"),
    ("aceslm.aggregate",),
    ("launch.show", "launch.ledger", "launch.slurm", "launch.prepare", "launch.node", "launch.submit"),
    ("launch.doctor", "launch.verbs", "launch.cli", "launch.__main__"),
)
ROOMS = [room for floor in FLOORS for room in floor]
MOST_FLOORS = 10
MOST_MODULE_LINES = 300
MOST_FUNCTION_LINES = 60
MOST_PARAMETERS = 8

DOORS: dict[str, tuple[str, ...]] = {
    "torch": ("aceslm.engine", "aceslm.models"),
    "transformers": ("aceslm.engine", "aceslm.models"),
    "accelerate": ("aceslm.engine",),
    "bitsandbytes": ("aceslm.engine",),
    "huggingface_hub": ("aceslm.engine", "aceslm.models", "aceslm.data.importers"),
    "pyarrow": (
        "aceslm.core.parquet",
        "aceslm.run.parts",
        "aceslm.run.published",
        "aceslm.results",
        "aceslm.data",
    ),
    "submitit": ("launch",),
    "wandb": ("aceslm.tracking",),
    "xgrammar": ("aceslm.engine.grammar",),
    "rapidfuzz": ("aceslm.ace.playbook",),
    "zeus": ("aceslm.run.energy_counters",),
    "pynvml": ("aceslm.run.energy_counters",),
    "jinja2": ("aceslm.report",),
    "bm25s": ("aceslm.ace.playbook.retrieval",),
}


@cache
def modules() -> dict[str, Path]:
    files = [*ROOT.glob("aceslm/**/*.py"), *ROOT.glob("launch/**/*.py")]
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in files}
    return {name.removesuffix(".__init__"): path for name, path in names.items()}


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> Iterator[str]:
    """Yield every imported module, and every name of a `from` import as if it were one."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def arrows() -> dict[str, set[str]]:
    """Return module -> the modules of this project that it imports."""
    known = modules()
    found: dict[str, set[str]] = {}
    for name, path in known.items():
        targets = {target for target in imports(path) if target in known and target != name}
        # `from a.b import c` names a.b too, which counts where it gives more than a place for c
        found[name] = {one for one in targets if not _is_only_a_folder(one, targets, path)}
    return found


def _is_only_a_folder(name: str, targets: set[str], path: Path) -> bool:
    if modules()[name].name != "__init__.py":
        return False
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom) and node.module == name:
            if any(f"{name}.{alias.name}" not in targets for alias in node.names):
                return False
        elif isinstance(node, ast.Import) and any(alias.name == name for alias in node.names):
            return False
    return True


def room(name: str) -> str | None:
    return next((one for one in ROOMS if name == one or name.startswith(f"{one}.")), None)


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the strongly connected components of more than one node (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            circle = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(circle) > 1:
                found.append(sorted(circle))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def test_every_module_stands_in_a_room_and_every_room_exists() -> None:
    assert [name for name in modules() if name not in {"aceslm", "launch"} and room(name) is None] == []
    assert [one for one in ROOMS if one not in modules()] == []
    assert len(FLOORS) <= MOST_FLOORS


def test_a_room_imports_rooms_below_it() -> None:
    upward = [
        f"{name} imports {target}"
        for name, targets in arrows().items()
        for target in targets
        if (mine := room(name)) and (other := room(target)) and ROOMS.index(other) > ROOMS.index(mine)
    ]
    assert upward == []


def test_no_circle_of_files() -> None:
    assert circles(arrows()) == []


def test_no_circle_of_rooms() -> None:
    between: dict[str, set[str]] = {}
    for name, targets in arrows().items():
        for target in targets:
            mine, other = room(name), room(target)
            if mine and other and mine != other:
                between.setdefault(mine, set()).add(other)
    assert circles(between) == []


def test_a_circle_would_be_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


@pytest.mark.parametrize("library", DOORS)
def test_a_heavy_library_has_one_door(library: str) -> None:
    doors = DOORS[library]
    strangers = [
        name
        for name, path in modules().items()
        if any(target.split(".")[0] == library for target in imports(path)) and not name.startswith(doors)
    ]
    assert strangers == []


@pytest.mark.parametrize(
    "verb",
    [
        ["--help"],
        ["data", "import", "--help"],
        ["status"],
        ["submit", "configs/quickstart.yaml", "--engine", "scripted", "--dry-run"],
    ],
)
def test_a_login_node_command_never_imports_torch(verb: list[str]) -> None:
    code = (
        "import sys; sys.argv = ['aceslm', *sys.argv[1:]]; from launch.cli import main; status = main(); "
        "heavy = {'torch', 'transformers', 'accelerate', 'wandb', 'submitit', 'xgrammar'}; "
        "heavy &= set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else status)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *verb], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_no_module_is_crowded() -> None:
    crowded = {
        name: lines
        for name, path in modules().items()
        if (lines := path.read_text(encoding="utf-8").count("\n")) > MOST_MODULE_LINES
    }
    assert crowded == {}


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for name, path in modules().items():
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{name}.{node.name}", node


def test_no_function_is_long() -> None:
    long = {
        name: size
        for name, node in functions()
        if (size := (node.end_lineno or 0) - node.body[0].lineno + 1) > MOST_FUNCTION_LINES
    }
    assert long == {}


# What a library dictates: the attention interface of transformers.
_DICTATED = {"aceslm.engine.attention.interface._attention"}


def test_no_function_but_a_verb_takes_many_parameters() -> None:
    many = {
        name: count
        for name, node in functions()
        if name not in _DICTATED and not _is_verb(name)
        if (count := len(_parameters(node))) > MOST_PARAMETERS
    }
    assert many == {}


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    taken = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return [one.arg for one in taken if one.arg not in {"self", "cls"}]


def _is_verb(name: str) -> bool:
    """Whether a function is a verb: its parameters are the options of the command."""
    return name.startswith("launch.verbs.") and not name.rpartition(".")[2].startswith("_")


def test_no_two_classes_share_a_name() -> None:
    homes: dict[str, list[str]] = {}
    for name, path in modules().items():
        for node in tree_of(path).body:
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name.lstrip("_"), []).append(name)
    assert {name: where for name, where in homes.items() if len(where) > 1} == {}
