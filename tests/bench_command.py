"""Benchmark: how long the login-node commands take, as whole processes. Prints medians, asserts nothing.

python tests/bench_command.py          # the aim: --help and status under 0.5 s
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUNS = 7


def median_s(folder: Path, *words: str) -> float:
    """Return the median wall time of a command, after one run to warm the file cache."""
    times = []
    for _ in range(RUNS + 1):
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "launch", *words], cwd=folder, stdout=subprocess.DEVNULL, check=True
        )
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def main() -> None:
    """Make a run of 12 cells and time the commands that look at it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        grid = ROOT / "configs" / "quickstart.yaml"
        command = ["submit", str(grid), "--engine", "scripted", "--cluster", "debug"]
        subprocess.run(
            [sys.executable, "-m", "launch", *command], cwd=folder, capture_output=True, check=True
        )
        (run,) = (folder / "results").glob("*-*")
        bare = median_s(folder, "--help")
        print(f"aceslm --help          {bare:.2f} s")
        for words in (
            ["status"],
            ["status", str(run)],
            ["submit", str(grid), "--engine", "scripted", "--dry-run"],
        ):
            shown = " ".join(Path(word).name if "/" in word else word for word in words)
            print(f"aceslm {shown:44} {median_s(folder, *words):.2f} s")


if __name__ == "__main__":
    main()
