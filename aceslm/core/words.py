"""Words with few values, as types: modes, splits, steps, states, failure classes."""

from __future__ import annotations

from typing import Literal

Mode = Literal["baseline", "scaffold", "ace", "ace_frozen", "ace_shuffled", "ace_neutral", "ace_placebo"]
PLAYBOOK_MODES = frozenset({"ace", "ace_frozen", "ace_shuffled", "ace_neutral", "ace_placebo"})

Quantization = Literal["none", "int8", "nf4"]
Dtype = Literal["auto", "bfloat16", "float16", "float32"]
AnswerType = Literal["choice", "number", "span", "label"]

# What a table of samples is for; "" where a task has no splits: all of them are scored.
Split = Literal["", "adapt", "validate", "eval"]

# What a shard does: answer units, play rounds, or put together what the workers of an epoch made.
ShardStep = Literal["answer", "evolve", "merge"]

ShardState = Literal["done", "running", "failed", "missing", "replaced"]

# How an attempt ended. The last two cannot be told by the attempt itself.
FailureClass = Literal[
    "done",
    "preempted",
    "timeout",
    "cancelled",
    "locked",
    "oom",
    "node",
    "storage",
    "data",
    "upstream",
    "code",
    "unknown",
    "corrupt",
]
