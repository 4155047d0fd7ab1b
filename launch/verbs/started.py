"""What is said of a submission: how much it is, what it is called, and what to type next."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aceslm.core.run import Run
    from launch.submit.launcher import Launcher, Started


def say_started(
    launcher: Launcher, run: Run, started: Started | None, *, as_json_: bool, stays: bool
) -> None:
    """Say what was started; a command that stays prints its results as its one JSON document."""
    from launch.show.console import note, print_json

    if started is None:
        queue = "nothing to submit: every shard is done, queued or running"
        note(queue if launcher.detached else "every shard is already done")
    if as_json_ and not stays:
        print_json(_as_json(run, started))
    elif started is not None and launcher.detached and not as_json_:
        _say(run, started)


def _say(run: Run, started: Started) -> None:
    from launch.show.console import say

    arrays = ", ".join(started.job_ids)
    say(f"submitted {started.num_shards} shards in {started.num_tasks} tasks: arrays {arrays}")
    say(f"aggregation: job {started.aggregation_id}, when they have ended")
    if started.num_waiting:
        say(f"{started.num_waiting} tasks wait for the next wave (max_submitted)")
    say(f"  aceslm status {run.paths.root} --watch")
    say(f"  aceslm logs {run.paths.root} --failed")
    say(f"  aceslm retry {run.paths.root}")


def _as_json(run: Run, started: Started | None) -> dict[str, object]:
    if started is None:
        return {"run": str(run.paths.root), "submitted": 0}
    return {
        "run": str(run.paths.root),
        "submitted": started.num_shards,
        "arrays": list(started.job_ids),
        "aggregation": started.aggregation_id,
        "waiting": started.num_waiting,
    }
