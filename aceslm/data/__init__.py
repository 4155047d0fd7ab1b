"""Task files -> samples: readers, validation, splits, digests, snapshots."""

from aceslm.data.readers import load_samples
from aceslm.data.samples import read_snapshot, select_split, task_digest, write_samples

__all__ = ["load_samples", "read_snapshot", "select_split", "task_digest", "write_samples"]
