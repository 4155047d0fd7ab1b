"""What one attempt at a shard works on: units, samples, and who works."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aceslm.core.listener import NO_STORY, NoStory
from aceslm.core.paths import AttemptName, RunPaths
from aceslm.core.values import Cell, Sample, Shard, Unit


@dataclass(frozen=True, slots=True)
class Work:
    """What one shard needs, looked up once: its units in order and their samples.

    `validate` holds the samples that the gate and candidates may be scored on; `story` follows the rows.
    """

    paths: RunPaths
    cell: Cell
    shard: Shard
    attempt: AttemptName
    units: tuple[Unit, ...]
    samples: Mapping[str, Sample]
    validate: tuple[Sample, ...] = ()
    story: NoStory = NO_STORY
