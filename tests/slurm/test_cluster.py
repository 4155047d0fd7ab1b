"""Grids on a real Slurm: whatever happens, the same complete results and a ledger that tells the story."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from slurm.conftest import Cluster, Work

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]

SLOW = {"ACESLM_SCRIPTED_DELAY_S": "1"}


def test_arrays_are_split_and_never_more_than_max_parallel_tasks_run(work: Work) -> None:
    work.grid(samples=26, shard_size=2)
    work.profile(max_parallel=3, environment={"ACESLM_SCRIPTED_DELAY_S": "0.3"})
    work.submit()
    jobs = json.loads((work.run / "submissions" / "0001.jobs.json").read_text())
    assert [(job["first"], job["count"]) for job in jobs["jobs"]] == [(0, 5), (5, 5), (10, 3)]
    most = 0
    while queued := work.cluster.queued():
        arrays = [line for line in queued if "RUNNING" in line and "N/A" not in line]
        most = max(most, len(arrays))
        time.sleep(0.1)
    assert 2 <= most <= 3
    work.finished()
    work.equals_local()


def test_what_is_submitted_equals_what_the_dry_run_showed(work: Work) -> None:
    work.grid(samples=4)
    work.profile(max_parallel=1, setup=["echo ready"], sbatch={"comment": "a b"})
    command = ("submit", "grid.yaml", "--cluster", "slurm", "--profile", "profile.yaml")
    shown = work.aceslm(*command, "--dry-run")
    assert shown.returncode == 0, shown.stderr
    assert "sbatch --test-only: " in shown.stdout
    assert not (work.folder / "results").exists()
    work.submit()
    jobs = json.loads((work.run / "submissions" / "0001.jobs.json").read_text())
    submitted = jobs["jobs"][0]["sbatch"].replace(jobs["token"], "aceslm-00000000")
    assert submitted.strip() in shown.stdout
    work.finished()


def test_a_one_task_grid_is_a_plain_job(work: Work) -> None:
    work.grid(samples=2, shard_size=2)
    work.profile()
    work.submit()
    work.finished()
    work.equals_local()


def test_several_ranks_share_a_task_and_write_their_own_parts(work: Work) -> None:
    work.grid(samples=20, shard_size=10)
    work.profile(ranks_per_task=2, environment={"ACESLM_SCRIPTED_DELAY_S": "0.1"})
    work.submit()
    work.finished()
    work.equals_local()
    stories = [path.name for path in work.run.glob("attempts/*/*.started.json")]
    assert sum("-p1" in name for name in stories) == 2


def test_a_cancelled_task_is_retried_and_nothing_is_submitted_twice(work: Work) -> None:
    work.grid(samples=36, shard_size=12)
    work.profile(environment=SLOW)
    work.submit()
    work.cluster.until(lambda: len(work.working()) == 3)
    again = work.aceslm("submit", "grid.yaml", "--cluster", "slurm", "--profile", "profile.yaml")
    assert "nothing to submit" in again.stderr
    (job,) = json.loads((work.run / "submissions" / "0001.jobs.json").read_text())["jobs"]
    work.cluster.run("scancel", f"{job['job_id']}_1")
    work.cluster.until(lambda: not work.cluster.queued())
    coverage = json.loads((work.run / "coverage.json").read_text())
    assert coverage["missing"] == ["c000-p01-0001"]
    work.retry()
    work.finished()
    work.equals_local()
    assert work.classes()["c000-p01-0001"] == ["cancelled", "done"]
    assert work.classes()["c000-p01-0000"] == ["done"]


def test_cancel_stops_everything_and_retry_finishes_it(work: Work) -> None:
    work.grid(samples=24, shard_size=8)
    work.profile(environment=SLOW)
    work.submit()
    work.cluster.until(work.working)
    cancelled = work.aceslm("cancel", work.run_name)
    assert "aceslm retry" in cancelled.stdout
    work.cluster.until(lambda: not work.cluster.queued())
    work.retry("--split", "2")
    work.finished()
    work.equals_local()
    assert len(list((work.run / "plans").iterdir())) == 2


def test_a_killed_node_gives_its_work_to_another_start(work: Work) -> None:
    work.grid(samples=16, shard_size=8)
    work.profile(cpus=8, environment=SLOW)
    work.submit()
    work.cluster.until(lambda: len(work.working()) == 2)
    node = work.cluster.running()[0].split()[1]
    work.cluster.testbed("node-kill", node)
    work.cluster.until(lambda: "down" in work.cluster.run("sinfo", "-h", "-n", node, "-o", "%t"), 60)
    work.cluster.testbed("node-start", node)
    work.finished(180)
    work.equals_local()
    story = sorted(work.classes().values(), key=len)
    assert story[0] == ["done"]
    assert story[1] in (["node", "done"], ["unknown", "done"])


def test_a_preempted_job_flushes_goes_back_and_finishes(work: Work) -> None:
    work.grid(samples=40, shard_size=20)
    work.profile(cpus=8, environment=SLOW)
    work.submit()
    work.cluster.until(lambda: len(work.working()) == 2)
    work.cluster.run("sbatch", "-p", "high", "-N", "1", "-c", "8", "--output=/dev/null", "--wrap", "sleep 5")
    work.cluster.until(lambda: any("preempted" in story for story in work.classes().values()), 60)
    work.finished(240)
    work.equals_local()
    story = sorted(work.classes().values(), key=len)
    assert story == [["done"], ["preempted", "done"]]
    parts = [json.loads(path.read_text()) for path in work.run.glob("attempts/*/*.ended.json")]
    assert any(0 < end.get("rows_done", 0) < 20 for end in parts if end["class"] == "preempted")


def test_a_job_that_needs_three_time_limits_finishes(work: Work) -> None:
    work.grid(samples=90, shard_size=90)
    work.profile(time_min=1, signal_delay_s=15, environment=SLOW)
    work.submit()
    work.finished(420)
    work.equals_local()
    (story,) = work.classes().values()
    assert story[-1] == "done"
    assert story.count("timeout") >= 2


def test_slurmctld_restarted_meanwhile_costs_nothing(work: Work) -> None:
    work.grid(samples=16, shard_size=8)
    work.profile(environment=SLOW)
    work.submit()
    work.cluster.until(work.working)
    work.cluster.testbed("ctld-stop")
    status = work.aceslm("status", work.run_name)
    assert "controller does not answer" in status.stdout
    refused = work.aceslm("retry", work.run_name, "--cluster", "slurm")
    assert refused.returncode == 1
    assert "the Slurm controller does not answer" in refused.stderr
    work.cluster.testbed("ctld-start")
    work.finished()
    work.equals_local()


def test_without_accounting_everything_still_works(work: Work) -> None:
    work.grid(samples=8, shard_size=4)
    work.profile(environment=SLOW)
    work.cluster.testbed("dbd-stop")
    try:
        work.submit()
        work.cluster.until(work.working)
        assert "sacct does not answer" in work.aceslm("status", work.run_name).stdout
        victim = _worker_pid(work)
        os.kill(victim, signal.SIGKILL)
        work.cluster.until(lambda: not work.cluster.queued())
        work.retry()
        work.finished()
        work.equals_local()
        assert ["unknown", "done"] in work.classes().values()
    finally:
        work.cluster.testbed("dbd-start")


def test_a_worker_killed_without_a_trace_restarts_with_half_the_budget(work: Work) -> None:
    from aceslm.core.paths import RunPaths
    from launch.slurm.reconcile import memory_fraction

    work.grid(samples=8, shard_size=4)
    work.profile(environment=SLOW)
    work.submit()
    work.cluster.until(work.working)
    os.kill(_worker_pid(work), signal.SIGKILL)
    work.cluster.until(lambda: not work.cluster.queued())
    killed = [shard for shard, story in work.classes().items() if story == ["unknown"]]
    assert len(killed) == 1
    assert memory_fraction(RunPaths(work.run), killed[0]) == 0.5
    work.retry("--failed")
    work.finished()
    work.equals_local()


def test_a_launcher_killed_at_any_point_of_submitting_leaves_nothing_behind(work: Work) -> None:
    work.grid(samples=22, shard_size=2)
    work.profile()
    moments = random.Random(3)
    for _ in range(5):
        launcher = work.start("submit", "grid.yaml", "--cluster", "slurm", "--profile", "profile.yaml")
        time.sleep(moments.uniform(0.35, 1.0))
        launcher.kill()
        launcher.wait()
    work.submit()
    work.cluster.until(lambda: not work.cluster.queued())
    work.retry()
    work.finished()
    work.equals_local()
    assert all(story == ["done"] for story in work.classes().values())


def test_two_submits_of_one_grid_at_once_submit_it_once(work: Work) -> None:
    work.grid(samples=20, shard_size=2)
    work.profile(environment={"ACESLM_SCRIPTED_DELAY_S": "0.5"})
    command = ("submit", "grid.yaml", "--cluster", "slurm", "--profile", "profile.yaml")
    launchers = [work.start(*command), work.start(*command)]
    assert [launcher.wait(timeout=120) for launcher in launchers] == [0, 0]
    work.finished()
    work.equals_local()
    assert all(story == ["done"] for story in work.classes().values())


def test_a_node_only_thought_dead_lets_two_tasks_work_on_one_shard(work: Work) -> None:
    # the node counts as dead after up to 20 s, the requeued task starts up to 11 s later
    work.grid(samples=70, shard_size=70)
    work.profile(environment=SLOW)
    work.submit()
    work.cluster.until(work.working)
    node = work.cluster.running()[0].split()[1]
    work.cluster.testbed("node-stop", node)
    work.cluster.until(lambda: len(list(work.run.glob("attempts/*/*.started.json"))) == 2, 120)
    work.cluster.testbed("node-start", node)
    work.finished(240)
    work.equals_local()
    assert len(list(work.run.glob("shards/*.parquet"))) == 1


def test_waves_follow_when_the_queue_has_room_for_few(work: Work) -> None:
    work.grid(samples=10, shard_size=2)
    work.profile(max_submitted=2)
    work.submit()
    work.finished()
    work.equals_local()
    assert len(list((work.run / "submissions").glob("*.intent.json"))) == 3


def _worker_pid(work: Work) -> int:
    """Return the pid of a worker that is at work."""
    started = [path.with_name(path.name.replace("progress", "started")) for path in work.working()]
    pid = int(json.loads(started[0].read_text())["pid"])
    assert psutil.pid_exists(pid)
    return pid


REFUSED = {
    "unknown partition": ({"partition": "gpu"}, "partition 'gpu' does not exist"),
    "time over the limit": ({"partition": "short", "time_min": 9}, "over the partition's limit of 2 min"),
    "too many cpus": ({"cpus": 99}, "cpus 99 x 1 ranks is more than a node has"),
    "too much memory": ({"mem_gb": 999}, "mem_gb 999 is more than a node has"),
    "too many nodes": ({"sbatch": {"nodes": 3}}, "nodes 3 is more than the partition has (2)"),
    "unknown constraint": ({"constraint": "h100"}, "nothing was submitted: "),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_run_is_refused_in_one_line_and_nothing_stays_submitted(case: str, work: Work) -> None:
    values, message = REFUSED[case]
    work.grid(samples=4)
    work.profile(**values)
    result = work.aceslm("submit", "grid.yaml", "--cluster", "slurm", "--profile", "profile.yaml")
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert work.cluster.queued() == []


def test_an_invalid_account_is_refused_in_one_line(strict_cluster: Cluster, tmp_path: Path) -> None:
    work = Work(strict_cluster, tmp_path)
    work.grid(samples=4)
    work.profile(account="nobody")
    result = work.aceslm("submit", "grid.yaml", "--cluster", "slurm", "--profile", "profile.yaml")
    assert result.returncode == 1
    assert "nothing was submitted: " in result.stderr
    assert "account" in result.stderr.lower()
    assert strict_cluster.queued() == []


def test_an_unwritable_log_folder_is_refused_in_one_line(work: Work) -> None:
    work.grid(samples=4)
    work.profile()
    (work.folder / "logs").write_text("a file")
    result = work.aceslm("submit", "grid.yaml", "--cluster", "slurm", "--profile", "profile.yaml")
    assert result.returncode == 1
    assert "cannot write the log folder" in result.stderr
    assert work.cluster.queued() == []


def test_auto_says_that_it_takes_slurm_because_a_controller_answers(work: Work) -> None:
    work.grid(samples=4)
    work.profile()
    result = work.aceslm("submit", "grid.yaml", "--profile", "profile.yaml", "--wait")
    assert result.returncode == 0, result.stderr
    assert "a Slurm controller answers" in result.stderr
    inside = work.aceslm("submit", "grid.yaml", SLURM_JOB_ID="1")
    assert "inside a Slurm allocation" in inside.stderr


def test_the_plain_scripts_give_the_same_results(work: Work) -> None:
    from slurm.conftest import ROOT

    work.grid(samples=8, shard_size=2)
    (work.folder / "logs").mkdir()
    planned = work.aceslm("submit", "grid.yaml", "--cluster", "local", "--plan-only")
    assert planned.stdout.strip().endswith("4 shards")
    python = f"--export=ALL,PYTHON={sys.executable}"
    command = ["sbatch", "--parsable", f"--chdir={work.folder}", python, "--mem=500M", "--cpus-per-task=1"]
    array = work.cluster.run(
        *command, "--array=0-3", str(ROOT / "sbatch/shards.sbatch"), work.run_name
    ).strip()
    work.cluster.run(
        *command, f"--dependency=afterany:{array}", str(ROOT / "sbatch/aggregate.sbatch"), work.run_name
    )
    work.finished()
    work.equals_local()
    smoke = work.cluster.run(*command, str(ROOT / "sbatch/smoke.sbatch"), "scripted").strip()
    work.cluster.until(lambda: not work.cluster.queued())
    output = (work.folder / "logs" / f"aceslm-smoke-{smoke}.out").read_text()
    assert "accuracy" in output
    assert "slurm" in output


def test_doctor_checks_a_compute_node_and_drafts_a_profile(work: Work) -> None:
    work.profile()
    checked = work.aceslm("doctor", "--profile", "profile.yaml")
    assert checked.returncode == 0, checked.stderr
    assert "ok    slurm" in checked.stdout
    drafted = work.aceslm("doctor", "--write-profile")
    assert drafted.returncode == 0, drafted.stderr
    (work.folder / "drafted.yaml").write_text(drafted.stdout)
    assert "max_array_size: 5" in drafted.stdout
    work.grid(samples=4)
    used = work.aceslm("submit", "grid.yaml", "--cluster", "slurm", "--profile", "drafted.yaml", "--dry-run")
    assert used.returncode == 0, used.stderr
