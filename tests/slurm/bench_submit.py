"""Benchmark: what launching costs, against a bare `sbatch --array` of `true`; prints figures.

    python tests/slurm/bench_submit.py        # starts and wipes its own testbed; needs root and the packages

From `submit` to the first row of a 100-shard grid with the scripted engine, and the time per task.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from slurm.conftest import Cluster, Work

TASKS = 100


def bare_array_s(cluster: Cluster) -> float:
    """Return the seconds that an array of 100 `true` takes, submission to the last end."""
    began = time.monotonic()
    cluster.run("sbatch", "--wait", f"--array=0-{TASKS - 1}", "--output=/dev/null", "--wrap", "srun true")
    return time.monotonic() - began


def main() -> None:
    """Run both and print."""
    cluster = Cluster(Path("/dev/shm/aceslm-bench"))
    cluster.testbed("wipe")
    cluster.testbed("start")
    try:
        with tempfile.TemporaryDirectory() as folder:
            work = Work(cluster, Path(folder))
            work.grid(samples=TASKS * 2, shard_size=2)
            work.profile()
            began = time.monotonic()
            work.submit()
            submitted_s = time.monotonic() - began
            cluster.until(lambda: list(work.run.glob("attempts/*/*.progress.json")) or work.classes(), 60)
            first_row_s = time.monotonic() - began
            cluster.until(lambda: not cluster.queued(), 600)
            total_s = time.monotonic() - began
        bare_s = bare_array_s(cluster)
    finally:
        cluster.testbed("wipe")
    print(f"submit returned after          {submitted_s:6.2f} s")
    print(f"submit to first row            {first_row_s:6.2f} s")
    print(f"100 shards, all merged         {total_s:6.2f} s ({total_s / TASKS:.3f} s a task)")
    print(f"bare array of 100 `srun true`  {bare_s:6.2f} s ({bare_s / TASKS:.3f} s a task)")
    print(f"ratio                          {total_s / bare_s:6.2f}")


if __name__ == "__main__":
    main()
