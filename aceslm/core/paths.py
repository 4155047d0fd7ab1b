"""Every file name in a run directory, named once.

The layout is a contract; `aceslm/run/README.md` documents it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_STORY = re.compile(r"(?P<job>.+)_(?P<index>\d+)-r(?P<restart>\d+)(?:-p(?P<rank>\d+))?")


@dataclass(frozen=True, slots=True)
class AttemptName:
    """Who writes: scheduler job, array index, restart count and rank, in one sortable name."""

    job: str
    index: int = 0
    restart: int = 0
    rank: int = 0

    def __str__(self) -> str:
        return f"{self.job}_{self.index}-r{self.restart}"

    @classmethod
    def parse(cls, story: str) -> AttemptName:
        """Read the name of attempt files; a job may be named by a host, so it may hold anything.

        Raises:
            ValueError: it is no such name.
        """
        match = _STORY.fullmatch(story)
        if match is None:
            raise ValueError(f"'{story}' is not <job>_<index>-r<restart>[-p<rank>]")
        return cls(match["job"], *(int(match[part] or 0) for part in ("index", "restart", "rank")))

    @property
    def story(self) -> str:
        """The name of this writer's attempt files; ranks beyond 0 name themselves."""
        return f"{self}-p{self.rank}" if self.rank else str(self)


@dataclass(frozen=True, slots=True)
class RunPaths:
    """The files of one run directory; all below `root`."""

    root: Path

    @property
    def config(self) -> Path:
        return self.root / "config.yaml"

    @property
    def prereg(self) -> Path:
        return self.root / "prereg.json"

    @property
    def looks(self) -> Path:
        """Return the record of the samples that this run has scored; it outlives the run directory."""
        return self.root.parent / "looks" / f"{self.root.name}.json"

    @property
    def plans(self) -> Path:
        return self.root / "plans"

    def plan(self, number: int) -> Path:
        return self.plans / f"{number:04d}.json"

    def task(self, task_digest: str) -> Path:
        """Return the snapshot of one task's samples."""
        return self.root / "tasks" / f"{task_digest}.parquet"

    @property
    def submissions(self) -> Path:
        return self.root / "submissions"

    def intent(self, number: int) -> Path:
        return self.submissions / f"{number:04d}.intent.json"

    def jobs(self, number: int) -> Path:
        return self.submissions / f"{number:04d}.jobs.json"

    def attempts(self, shard_id: str) -> Path:
        return self.root / "attempts" / shard_id

    def started(self, shard_id: str, attempt: AttemptName) -> Path:
        return self.attempts(shard_id) / f"{attempt.story}.started.json"

    def progress(self, shard_id: str, attempt: AttemptName) -> Path:
        return self.attempts(shard_id) / f"{attempt.story}.progress.json"

    def ended(self, shard_id: str, attempt: AttemptName) -> Path:
        return self.attempts(shard_id) / f"{attempt.story}.ended.json"

    def parts(self, shard_id: str) -> Path:
        return self.root / "parts" / shard_id

    def part(self, shard_id: str, attempt: AttemptName, number: int) -> Path:
        return self.parts(shard_id) / f"part-{attempt}-p{attempt.rank}-{number:05d}.parquet"

    @property
    def shards(self) -> Path:
        return self.root / "shards"

    def shard(self, shard_id: str, sha256: str) -> Path:
        return self.shards / f"{shard_id}.{sha256[:8]}.parquet"

    def done(self, shard_id: str) -> Path:
        return self.shards / f"{shard_id}.done.json"

    def prompts(self, shard_id: str) -> Path:
        return self.root / "prompts" / f"{shard_id}.parquet"

    def playbooks(self, adaptation: str) -> Path:
        """Return the folder of one evolution: its versions, role calls and state."""
        return self.root / "playbooks" / adaptation

    @property
    def evolutions(self) -> Path:
        return self.root / "evolutions.json"

    def initial_playbook(self, playbook_digest: str) -> Path:
        """Return the copy of a playbook file that was given to this run."""
        return self.root / "playbooks" / f"initial-{playbook_digest}.jsonl"

    @property
    def lock(self) -> Path:
        return self.root / ".lock"

    @property
    def results(self) -> Path:
        return self.root / "results.parquet"

    @property
    def results_csv(self) -> Path:
        return self.root / "results.csv"

    @property
    def summary_csv(self) -> Path:
        return self.root / "summary.csv"

    @property
    def summary_md(self) -> Path:
        return self.root / "summary.md"

    @property
    def costs(self) -> Path:
        return self.root / "costs.json"

    @property
    def coverage(self) -> Path:
        return self.root / "coverage.json"

    @property
    def wandb(self) -> Path:
        """Return the folder of everything that is told to W&B (`aceslm.tracking.script`)."""
        return self.root / "wandb"

    @property
    def report(self) -> Path:
        return self.root / "report.html"
