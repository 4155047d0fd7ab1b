"""ACE on a real Slurm: adaptation, workers, merge, frozen evaluation as a chain of dependent arrays."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slurm.conftest import Work

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]


def ace_grid(work: Work, ace: str, modes: str = "[ace_frozen]") -> None:
    """Twelve questions to adapt on and six to score, in contexts of two."""
    rows = [
        {
            "id": f"s{n:02d}",
            "question": f"Which column label number {n} is the total?",
            "context": f"Table {n // 2}.",
            "context_id": f"c{n // 2}",
            "answer": f"gold{n}word",
            "answer_type": "span",
            "split": "adapt" if n < 12 else "eval",
        }
        for n in range(18)
    ]
    (work.folder / "tables.json").write_text(json.dumps(rows))
    (work.folder / "grid.yaml").write_text(
        f"models: [scripted]\ntasks: [tables.json]\nmodes: {modes}\nshard_size: 3\nace: {ace}\n"
    )


def playbooks(run: Path) -> dict[str, bytes]:
    """Return every playbook version of a run: its place -> its bytes."""
    folder = run / "playbooks"
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("v*.jsonl"))}


def test_workers_evolve_merge_and_serve_frozen_cells_though_a_node_dies(work: Work) -> None:
    ace_grid(work, "{epochs: 2, workers: 3, round_size: 2, reflect: all}", "[ace, ace_frozen]")
    work.profile(cpus=2, environment={"ACESLM_SCRIPTED_DELAY_S": "0.5"})
    work.submit()
    work.cluster.until(work.working)
    node = work.cluster.running()[0].split()[1]
    work.cluster.testbed("node-kill", node)
    work.cluster.until(lambda: "down" in work.cluster.run("sinfo", "-h", "-n", node, "-o", "%t"), 60)
    work.cluster.testbed("node-start", node)
    work.finished(300)
    work.equals_local()
    (local,) = (work.folder / "local").glob("*-*")
    assert playbooks(work.run) == playbooks(local)
    story = [attempt for attempts in work.classes().values() for attempt in attempts]
    assert set(story) & {"node", "unknown"}


def test_a_frozen_cell_whose_adaptation_was_cancelled_ends_at_once_and_retry_finishes_both(
    work: Work,
) -> None:
    ace_grid(work, "{epochs: 1, round_size: 4, reflect: all}")
    work.profile(environment={"ACESLM_SCRIPTED_DELAY_S": "2"})
    work.submit()
    (first, second) = json.loads((work.run / "submissions" / "0001.jobs.json").read_text())["jobs"]
    assert f"afterany:{first['job_id']}" in second["sbatch"]
    work.cluster.until(lambda: list(work.run.glob("attempts/*/*.started.json")))
    work.cluster.run("scancel", first["job_id"])
    work.cluster.until(lambda: not work.cluster.queued())
    classes = work.classes()
    assert sorted(attempt for story in classes.values() for attempt in story) == [
        "cancelled",
        "upstream",
        "upstream",
    ]
    work.profile(environment={"ACESLM_SCRIPTED_DELAY_S": "0"})
    work.retry()
    work.finished(180)
    work.equals_local()
