"""Which of this library's own code decides a result row: a digest that moves exactly when that code does.

    code_digest()      # over every module that the answering of a shard imports, directly or not

Reports, summaries, benchmarks, tracking and importers come before or after the rows: a change there refuses
no resume.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from aceslm.core.digests import digest, file_sha256

PACKAGE = Path(__file__).resolve().parents[1]
# what answers a shard, and what says which cells and units there are
_ROOTS = ("run.shard", "engine", "plan.cells", "plan.shards")


def code_digest(package: Path = PACKAGE) -> str:
    """Return a digest over the source files that decide rows."""
    files = sorted(deciding_files(package))
    return digest([[str(path.relative_to(package)), file_sha256(path)] for path in files])


def deciding_files(package: Path = PACKAGE) -> set[Path]:
    """Return the source files of all modules that the roots import, at the top or inside a function."""
    found: set[Path] = set()
    waiting = [f"{package.name}.{root}" for root in _ROOTS]
    while waiting:
        name = waiting.pop()
        path = _file(package, name)
        if path is None or path in found:
            continue
        found.add(path)
        parts = name.split(".")
        waiting += [".".join(parts[:length]) for length in range(1, len(parts))]
        waiting += _imported(path, path.stat().st_mtime_ns)
    return found


@cache
def _imported(path: Path, _changed_ns: int) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


def _file(package: Path, name: str) -> Path | None:
    """Return the source file of a module of this package; None for anything else."""
    top, *parts = name.split(".")
    if top != package.name:
        return None
    stem = package.joinpath(*parts)
    return next((path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()), None)
