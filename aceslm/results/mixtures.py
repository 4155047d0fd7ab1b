"""What differs between the attempts of a run, and what their files no longer tell: for `coverage.json`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from aceslm.core.parquet import read_table
from aceslm.core.run import Run
from aceslm.run.attempt_files import AttemptRecord, read_attempts

_COLUMNS = ("engine", "device", "dtype")
_KEYS = ("commit", "dirty", "code", "aceslm", "python")


def all_attempts(run: Run) -> list[AttemptRecord]:
    """Return every try at every shard of a run, in plan order."""
    return [one for shard in run.shards for one in read_attempts(run.paths, shard.shard_id)]


def mixtures(run: Run, attempts: Sequence[AttemptRecord]) -> dict[str, list[str]]:
    """Return every provenance key that takes more than one value over attempts and rows."""
    seen: dict[str, Counter[str]] = {}
    for start in (one.start for one in attempts if one.start):
        for key in _KEYS:
            seen.setdefault(key, Counter())[str(start.provenance.get(key))] += 1
        packages = start.provenance.get("packages")
        for package, version in packages.items() if isinstance(packages, dict) else ():
            seen.setdefault(str(package), Counter())[str(version)] += 1
    table = read_table(run.paths.results, _COLUMNS)
    for column in _COLUMNS:
        for value in table.column(column).unique().to_pylist():
            if value is not None:
                seen.setdefault(column, Counter())[str(value)] += 1
    return {key: sorted(values) for key, values in sorted(seen.items()) if len(values) > 1}


def left_out(attempts: Sequence[AttemptRecord]) -> tuple[str, ...]:
    """Return a line for everything that the files of attempts do not tell: no result depends on it."""
    return tuple(fault for one in attempts for fault in (*one.faults, *one.silence))
