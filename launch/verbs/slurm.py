"""Submitting to Slurm from the command line: say what was submitted, and follow it if asked."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aceslm.core.paths import RunPaths
    from aceslm.core.values import Shard
    from launch.ledger import WorkerOptions
    from launch.submit.slurm import Submission

_POLL_S = 3.0
_PATIENCE = 10  # times that the controller may not answer in a row


def go(
    paths: RunPaths,
    profile: str,
    options: WorkerOptions,
    allow_mixed: bool,
    *,
    shards: list[Shard] | None,
    wait: bool,
    as_json_: bool,
) -> None:
    """Submit what is missing; return at once with job ids and what to type next, or follow to the end."""
    from aceslm.config.cluster import cluster_profile
    from aceslm.results.status import run_status
    from launch.show.console import note, print_json
    from launch.submit.slurm import SlurmLaunch, submit_missing
    from launch.verbs.results import merge_and_show

    launch = SlurmLaunch(profile, cluster_profile(profile), options, allow_mixed)
    submission = submit_missing(paths, launch, shards)
    if submission is None:
        note("nothing to submit: every shard is done, queued or running")
        if run_status(paths).is_complete:
            merge_and_show(paths, as_json_)
            return
    if as_json_ and not wait:
        print_json(_as_json(paths, submission))
    elif submission is not None and not as_json_:  # with --wait, the results are the one JSON document
        _say(paths, submission)
    if wait:
        follow(paths, as_json_)


def run_to_the_end(paths: RunPaths, profile: str, options: WorkerOptions, allow_mixed: bool) -> None:
    """Submit what is missing and wait until nothing of it is in the queue."""
    from aceslm.config.cluster import cluster_profile
    from launch.submit.slurm import SlurmLaunch, submit_missing

    submit_missing(paths, SlurmLaunch(profile, cluster_profile(profile), options, allow_mixed))
    _wait(paths)


def follow(paths: RunPaths, as_json_: bool) -> None:
    """Show progress until nothing of the run is in the queue, then the merged results."""
    from launch.verbs.results import merge_and_show

    _wait(paths)
    merge_and_show(paths, as_json_)


def _wait(paths: RunPaths) -> None:
    from aceslm.results.status import run_status
    from launch.ledger import intents
    from launch.show.live import live_table

    with live_table() as show:
        while True:
            show(run_status(paths))
            if not _in_queue([intent.token for intent in intents(paths) if intent.cluster == "slurm"], paths):
                break
            time.sleep(_POLL_S)


def _in_queue(tokens: list[str], paths: RunPaths) -> bool:
    """Return whether anything with these names is in the queue; a busy controller is asked again.

    Raises:
        LaunchError: it has been silent for too long; the jobs do not depend on it.
    """
    from aceslm.core.errors import LaunchError
    from launch.show.console import note
    from launch.slurm import client as slurm

    for silent in range(1, _PATIENCE + 1):
        try:
            return bool(slurm.queue(tokens))
        except LaunchError as error:
            if silent == _PATIENCE:
                raise LaunchError(
                    f"{error}, {silent} times: no longer waiting; the jobs go on: aceslm status {paths.root} "
                    "--watch"
                ) from None
            note(f"{error}; asking again")
            time.sleep(_POLL_S)
    return True


def _say(paths: RunPaths, submission: Submission) -> None:
    from launch.show.console import say

    arrays = ", ".join(submission.job_ids)
    say(f"submitted {submission.num_shards} shards in {submission.num_tasks} tasks: arrays {arrays}")
    say(f"aggregation: job {submission.aggregation_id}, when they have ended")
    if submission.num_waiting:
        say(f"{submission.num_waiting} tasks wait for the next wave (max_submitted)")
    say(f"  aceslm status {paths.root} --watch")
    say(f"  aceslm logs {paths.root} --failed")
    say(f"  aceslm retry {paths.root}")


def _as_json(paths: RunPaths, submission: Submission | None) -> dict[str, object]:
    if submission is None:
        return {"run": str(paths.root), "submitted": 0}
    return {
        "run": str(paths.root),
        "submitted": submission.num_shards,
        "arrays": list(submission.job_ids),
        "aggregation": submission.aggregation_id,
        "waiting": submission.num_waiting,
    }
