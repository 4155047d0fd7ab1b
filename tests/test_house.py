"""The house rules that a reader relies on: imports point down, one door for each heavy library."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# A module may import from its own floor or a lower one.
FLOORS: dict[str, int] = {
    "aceslm.core.errors": 0,
    "aceslm.core.digests": 0,
    "aceslm.core.logs": 0,
    "aceslm.core.values": 0,
    "aceslm.config.strict_yaml": 0,
    "aceslm.config.grid": 0,
    "aceslm.core.ace_config": 0,
    "aceslm.config.tracking": 0,
    "aceslm.tasks.quantities": 0,
    "aceslm.core.paths": 1,
    "aceslm.models.default_model": 1,
    "aceslm.core.files": 1,
    "aceslm.core.parquet": 1,
    "aceslm.analysis.statistics": 1,
    "aceslm.run.attempts": 2,
    "aceslm.data": 2,
    "aceslm.tasks": 2,
    "aceslm.engine": 2,
    "aceslm.models.registry": 2,
    "aceslm.bench": 3,
    "aceslm.plan.cells": 3,
    "aceslm.run.metering": 3,
    "aceslm.plan.shards": 3,
    "aceslm.ace": 3,
    "aceslm.run.parts": 3,
    "aceslm.analysis.rows": 3,
    "aceslm.analysis.comparisons": 3,
    "aceslm.analysis.costs": 3,
    "aceslm.analysis.scored_before": 3,
    "aceslm.analysis.preregistration": 3,
    "aceslm.analysis.summary": 3,
    "aceslm.tasks.rows": 3,
    "aceslm.analysis.tables": 3,
    "aceslm.run.evolution_journal": 3,
    "aceslm.run.evolution_steps": 4,
    "aceslm.tracking": 3,
    "aceslm.tracking.figures": 4,
    "aceslm.tracking.aggregate": 4,
    "aceslm.tracking.upload": 4,
    "aceslm.report": 4,
    "aceslm.run.evolve": 4,
    "aceslm.run.answer": 4,
    "aceslm.analysis.evolved_playbooks": 3,
    "aceslm.run.shard": 4,
    "aceslm.results.merge": 4,
    "aceslm.results.status": 4,
    "aceslm.results.verify": 4,
    "launch": 5,
}

DOORS: dict[str, tuple[str, ...]] = {
    "torch": ("aceslm.engine", "aceslm.models.registry"),
    "transformers": ("aceslm.engine", "aceslm.models.registry"),
    "accelerate": ("aceslm.engine",),
    "bitsandbytes": ("aceslm.engine",),
    "huggingface_hub": ("aceslm.engine", "aceslm.models.registry", "aceslm.data.importers.columns"),
    "pyarrow": ("aceslm.core.parquet", "aceslm.run.parts", "aceslm.results.merge", "aceslm.data"),
    "submitit": ("launch",),
    "wandb": ("aceslm.tracking",),
    "xgrammar": ("aceslm.engine.grammar.masks",),
    "rapidfuzz": ("aceslm.ace.playbook.limits",),
    "zeus": ("aceslm.run.energy_counters",),
    "pynvml": ("aceslm.run.energy_counters",),
    "jinja2": ("aceslm.report",),
    "bm25s": ("aceslm.ace.playbook.retrieval",),
}


def modules() -> dict[str, Path]:
    files = [*ROOT.glob("aceslm/**/*.py"), *ROOT.glob("launch/**/*.py")]
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in files}
    return {name.removesuffix(".__init__"): path for name, path in names.items()}


def imports(path: Path, *, top_level_only: bool = False) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def floor(name: str) -> int | None:
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        found = FLOORS.get(".".join(parts[:end]))
        if found is not None:
            return found
    return None


def test_every_module_has_a_floor() -> None:
    homeless = [name for name in modules() if name != "aceslm" and floor(name) is None]
    assert homeless == []


def test_imports_point_down_only() -> None:
    upward = [
        f"{name} imports {target}"
        for name, path in modules().items()
        for target in imports(path)
        if (floor(target) or 0) > (floor(name) or 0)
    ]
    assert upward == []


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
        name: lines for name, path in modules().items() if (lines := path.read_text().count("\n")) > 320
    }
    assert crowded == {}


def test_no_function_is_long() -> None:
    long = {}
    for name, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                size = (node.end_lineno or 0) - node.body[0].lineno + 1
                if size > 60:
                    long[f"{name}.{node.name}"] = size
    assert long == {}
