"""Where the shards of a run go: one contract with a form for Slurm and one for this machine.

started = launcher.start(run)              # what is missing; None: nothing is
launcher.wait(run, show)                   # until it has ended
for line in launcher.preview(prepared): ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from aceslm.core.run import Run
from aceslm.core.values import Cell, Resources, Shard
from aceslm.results.status import RunStatus
from launch.prepare.rates import Target
from launch.prepare.run import Prepared

OnTick = Callable[[RunStatus], None]


@dataclass(frozen=True, slots=True)
class Started:
    """One submission: its number in the ledger, how much it is, and what Slurm knows it by.

    `num_waiting` tasks did not fit into the queue; the aggregation submits them.
    """

    number: int
    num_tasks: int
    num_shards: int
    job_ids: tuple[str, ...] = ()
    aggregation_id: str = ""
    num_waiting: int = 0


class Launcher(Protocol):
    """Sends shards to where they run, and knows when they have ended."""

    @property
    def cluster(self) -> str:
        """Where: `slurm`, `local` or `debug`."""

    @property
    def detached(self) -> bool:
        """Whether what was started goes on, and is merged, without this process."""

    def target_of(self, cell: Cell, planned: Resources) -> Target:
        """Return where a cell will run, as far as that is known before.

        Args:
            planned: what a task of its model asks for.
        """

    def start(self, run: Run, shards: Sequence[Shard] | None = None) -> Started | None:
        """Start every unfinished shard (of `shards`) that nobody works on; None when there is none.

        Raises:
            MixedRun: code, engine or dtype changed since the run began.
            LaunchError: they cannot be started; then none is.
        """

    def wait(self, run: Run, on_tick: OnTick) -> None:
        """Stay until nothing of the run is under way; `on_tick` hears now and then how it stands."""

    def preview(self, prepared: Prepared) -> Iterator[str]:
        """Yield what `start` would do beyond the plan, as lines for a person; writes nothing."""


def submission_folder(logs: Path, run_name: str, number: int) -> Path:
    """Return the fresh log folder of a submission."""
    return (logs / run_name / f"{number:04d}").resolve()
