"""What a submission to Slurm would be: scripts, index map and cost, as lines; nothing is written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from aceslm.config.cluster import ClusterProfile
from aceslm.run.done import unfinished
from launch.ledger import WorkerOptions, intents
from launch.prepare.rates import basis
from launch.prepare.run import Prepared
from launch.prepare.targets import rates_of_run
from launch.slurm import client as slurm
from launch.submit.arrays import ArrayPlan, Layout, check_limits, layout
from launch.submit.launcher import submission_folder
from launch.submit.sbatch import aggregation_parameters, one_rank, parameters, sbatch_text

_NAME = "aceslm-00000000"


def slurm_preview(
    prepared: Prepared, profile: ClusterProfile, options: WorkerOptions, logs: Path
) -> Iterator[str]:
    """Yield the script of every array with its index map, that of the aggregation, cost, Slurm's opinion."""
    run = prepared.run
    shards = unfinished(run)
    if not shards:
        yield "every shard is already done"
        return
    rate_of = rates_of_run(run, profile, options)
    plan = layout(run, shards, profile, rate_of)
    folder = submission_folder(logs, run.name, len(intents(run.paths)) + 1)
    scripts = [_array_script(array, profile, folder) for array in plan.arrays]
    for number, (array, script) in enumerate(zip(plan.arrays, scripts, strict=True)):
        yield f"\n# ---- array {number}"
        yield script.rstrip()
        tasks = plan.tasks[array.first : array.first + array.count]
        yield from (f"#   {index}: {' '.join(task)}" for index, task in enumerate(tasks))
    yield "\n# ---- aggregation"
    values = aggregation_parameters(profile, _NAME, "afterany:<arrays>")
    yield sbatch_text(values, folder, 1, one_rank(profile)).rstrip()
    yield ""
    named = {shard.cell_id for shard in shards}
    said = basis([cell for cell in run.cells if cell.cell_id in named], rate_of)
    yield _cost(plan, profile.ranks_per_task, said)
    if slurm.answers():
        try:
            check_limits(plan.arrays, profile)
            for script in scripts:
                yield f"sbatch --test-only: {slurm.test_only(_testable(script))}"
        except slurm.Unanswered as error:  # a busy controller says nothing about the scripts
            yield f"{error}: whether Slurm would accept these scripts is not known; try again later"


def _array_script(array: ArrayPlan, profile: ClusterProfile, folder: Path) -> str:
    """Return the script of an array as it would be submitted."""
    before = ":".join(f"<array {n}>" for n in array.after)
    dependency = f"afterany:{before}" if before else None
    values = parameters(array.resources, profile, _NAME, parallel=array.parallel, dependency=dependency)
    return sbatch_text(values, folder, array.count, profile)


def _testable(text: str) -> str:
    """Leave out what cannot be tested yet: the dependency on jobs that do not exist."""
    return "\n".join(line for line in text.splitlines() if "--dependency" not in line) + "\n"


def _cost(plan: Layout, ranks: int, said: str) -> str:
    gpu_hours = core_hours = 0.0
    for array in plan.arrays:
        task_hours = array.count * array.resources.time_min / 60
        gpu_hours += task_hours * array.resources.gpus
        core_hours += task_hours * array.resources.cpus * ranks
    return (
        f"cost ({said}): at most {gpu_hours:,.1f} GPU-hours, {core_hours:,.1f} core-hours in "
        f"{len(plan.tasks)} tasks; {plan.num_waiting} more tasks wait for a later wave"
    )
