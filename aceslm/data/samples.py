"""What one does with samples: digest them, choose a split, keep a snapshot beside the results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from aceslm.core.digests import digest
from aceslm.core.errors import DataError, nearest
from aceslm.core.values import Sample


def task_digest(samples: Sequence[Sample]) -> str:
    """Return a digest of the samples' content and order; the file format they came in does not matter."""
    return digest([asdict(sample) for sample in samples])


def select_split(samples: Sequence[Sample], split: str | None) -> tuple[Sample, ...]:
    """Return the samples of one split, in order; all of them where the task has no splits.

    Raises:
        DataError: the task has splits, but not this one.
    """
    present = {sample.split for sample in samples}
    if split is None or present == {""}:
        return tuple(samples)
    chosen = tuple(sample for sample in samples if sample.split == split)
    if not chosen:
        raise DataError(f"no sample of this task has split '{split}'{nearest(split, present)}")
    return chosen


def write_samples(samples: Sequence[Sample], path: Path) -> None:
    """Write samples as Parquet, atomically; `read_snapshot` gives exactly them back."""
    import pyarrow as pa

    from aceslm.core.parquet import write_table

    lists = pa.list_(pa.string())
    schema = pa.schema(
        [(field.name, lists if field.name == "choices" else pa.string()) for field in fields(Sample)]
    )
    rows = [{**asdict(sample), "choices": list(sample.choices)} for sample in samples]
    write_table(pa.Table.from_pylist(rows, schema=schema), path)


def read_snapshot(path: Path) -> tuple[Sample, ...]:
    """Read what `write_samples` wrote.

    Raises:
        CorruptRun: the file is damaged.
    """
    from aceslm.core.parquet import read_table

    rows = read_table(path).to_pylist()
    return tuple(Sample(**{**row, "choices": tuple(row["choices"])}) for row in rows)
