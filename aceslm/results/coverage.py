"""What a merge found: what is there, missing, corrupt, mixed; and what to type next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aceslm.core.errors import CorruptRun, IncompleteRun
from aceslm.core.paths import RunPaths


@dataclass(frozen=True, slots=True)
class Coverage:
    """What a merge found. `complete` means: every planned unit has a verified row.

    `mixtures` lists provenance that differs between attempts (commit, engine, device, dtype), `left_out` the
    files of attempts that are damaged or missing: no row depends on them.
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
    left_out: tuple[str, ...]
    merged_at: float = 0.0


def require_complete(coverage: Coverage, paths: RunPaths) -> None:
    """Raise CorruptRun or IncompleteRun unless the coverage is complete."""
    if coverage.corrupt:
        raise CorruptRun(explain(coverage, paths))
    if not coverage.complete:
        raise IncompleteRun(explain(coverage, paths))


def explain(coverage: Coverage, paths: RunPaths) -> str:
    """Say in one line what is missing or corrupt and what to type."""
    faults = [f"{coverage.units_found:,} of {coverage.units_planned:,} rows are there"]
    faults += coverage.corrupt.values()
    if coverage.missing:
        shown = ", ".join(coverage.missing[:5]) + (", ..." if len(coverage.missing) > 5 else "")
        faults.append(f"{len(coverage.missing)} of {coverage.shards_planned} shards are missing ({shown})")
    return f"{'; '.join(faults)}: aceslm retry {paths.root}"
