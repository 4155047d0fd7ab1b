"""What a merge found: what is there, missing, corrupt, mixed; and what to type next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow.compute as pc

from aceslm.core.errors import CorruptRun, IncompleteRun
from aceslm.core.files import read_json
from aceslm.core.parquet import read_table
from aceslm.core.paths import RunPaths
from aceslm.core.run import Run


@dataclass(frozen=True, slots=True)
class Coverage:
    """What a merge found. `complete` means: every planned unit has a verified row.

    `mixtures` lists provenance that differs between attempts (commit, engine, device, dtype).
    """

    complete: bool
    units_planned: int
    units_found: int
    shards_planned: int
    shards_done: int
    missing: tuple[str, ...]
    corrupt: Mapping[str, str]
    duplicates: int
    conflicts: int
    mixtures: Mapping[str, list[str]]
    merged_at: float = 0.0


def require_complete(coverage: Coverage, paths: RunPaths) -> None:
    """Raise CorruptRun or IncompleteRun unless the coverage is complete."""
    if coverage.corrupt:
        raise CorruptRun(explain(coverage, paths))
    if not coverage.complete:
        raise IncompleteRun(explain(coverage, paths))


def explain(coverage: Coverage, paths: RunPaths) -> str:
    """Say in one line what is missing or corrupt and what to type."""
    faults = []
    if coverage.corrupt:
        faults.append("; ".join(coverage.corrupt.values()))
    if coverage.missing:
        shown = ", ".join(coverage.missing[:5]) + (", ..." if len(coverage.missing) > 5 else "")
        faults.append(f"{len(coverage.missing)} of {coverage.shards_planned} shards are missing ({shown})")
    rows = f"{coverage.units_found:,} of {coverage.units_planned:,} rows"
    return f"{'; '.join(faults)} ({rows}): aceslm retry {paths.root}"


def mixtures(run: Run) -> dict[str, list[str]]:
    """Return every provenance key that takes more than one value over the attempts of a run."""
    seen: dict[str, Counter[str]] = {}
    for shard in run.shards:
        folder = run.paths.attempts(shard.shard_id)
        for path in sorted(folder.glob("*.started.json")) if folder.is_dir() else []:
            provenance = read_json(path).get("provenance", {})
            for key in ("commit", "dirty", "code", "aceslm", "python"):
                seen.setdefault(key, Counter())[str(provenance.get(key))] += 1
            for package, version in provenance.get("packages", {}).items():
                seen.setdefault(package, Counter())[version] += 1
    columns = ["engine", "device", "dtype"]
    table = read_table(run.paths.results, columns)
    for column in columns:
        for value in pc.unique(table.column(column)).to_pylist():
            if value is not None:
                seen.setdefault(column, Counter())[str(value)] += 1
    return {key: sorted(values) for key, values in sorted(seen.items()) if len(values) > 1}
