"""Merged run directories of any size and content, written without running a model: for the report's tests."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from aceslm.ace.playbook import codec
from aceslm.ace.playbook.bullets import Bullet, Playbook
from aceslm.analysis.summary import summarize
from aceslm.core.digests import digest
from aceslm.core.files import write_json
from aceslm.core.parquet import (
    read_table,
    records_table,
    result_schema,
    table_writer,
    write_prompts,
)
from aceslm.core.paths import RunPaths
from aceslm.core.record import Record
from aceslm.core.values import Cell, GenerationSettings, ModelSpec, Plan, Shard, TaskTable
from aceslm.plan.files import save_plan

MODES = ("baseline", "scaffold", "ace", "ace_frozen")
_BLANK: dict[str, Any] = dict.fromkeys(result_schema().names) | {
    "domain": "finance",
    "model_revision": "sha256:0",
    "answer_type": "span",
    "seed": 0,
    "epoch": 0,
    "quantization": "none",
    "dtype": "bfloat16",
    "device": "cpu",
    "engine": "shared_prefix",
    "choices": (),
    "choice_permutation": (),
    "bullets_used": (),
    "attempt": "j1_0-r0",
    "parsed": True,
    "context": "",
    "correct": 0,
    "latency_ms": 100.0,
    "prompt_tokens": 50,
    "output_tokens": 5,
}

Change = Callable[[int, str], Mapping[str, Any]]


def cell_of(mode: str, *, task: str = "words", split: str = "") -> Cell:
    return Cell(
        cell_id=f"tiny-{task}-{mode}-{split or 'all'}",
        model=ModelSpec("tiny", "org/tiny", "sha256:0"),
        quantization="none",
        dtype="bfloat16",
        task_name=task,
        domain="finance",
        split=split,
        task_digest="t1",
        mode=mode,
        seed=0,
        epochs=1,
        generation=GenerationSettings(),
    )


def make_run(
    root: Path,
    samples: int = 4,
    modes: Sequence[str] = MODES,
    change: Change = lambda number, mode: {},
    *,
    prompts: bool = True,
    missing: Sequence[str] = (),
    extra: Sequence[Cell] = (),
) -> RunPaths:
    """Write a merged run: every mode answers every sample; `change(number, mode)` overrides columns."""
    paths = RunPaths(root)
    cells = (*(cell_of(mode) for mode in modes), *extra)
    ids = tuple(f"s{number:05d}" for number in range(samples))
    shards = tuple(Shard(f"c{n:03d}-p01-0000", cell.cell_id, ((0, samples),)) for n, cell in enumerate(cells))
    paths.plans.mkdir(parents=True)
    save_plan(paths, Plan(1, root.name, cells, shards, (TaskTable("words", "t1", "finance", "", ids),)))
    with table_writer(paths.results, result_schema()) as writer:
        for cell, shard in zip(cells, shards, strict=True):
            rows = [_row(cell, shard, number, change) for number in range(samples)]
            for start in range(0, samples, 2000):
                writer.write_table(records_table(rows[start : start + 2000]), row_group_size=2000)
            if prompts:
                write_prompts(_prompts(rows), paths.prompts(shard.shard_id))
    summarize(read_table(paths.results).to_pandas()).to_csv(paths.summary_csv, index=False)
    total = samples * len(cells)
    coverage = {
        "complete": not missing,
        "units_planned": total + len(missing),
        "units_found": total,
        "shards_planned": len(shards) + len(missing),
        "shards_done": len(shards),
        "missing": list(missing),
        "corrupt": {},
        "duplicates": 0,
        "conflicts": 0,
        "mixtures": {},
        "merged_at": 1_800_000_000.0,
    }
    write_json(paths.coverage, coverage)
    return paths


def prompt_text(row: Record) -> str:
    lines = [f"<|user|>Context:\n{row.context}", f"Question: {row.question}", *row.choices, "Answer:<|bot|>"]
    return "\n".join(lines)


def add_playbooks(paths: RunPaths, cell_id: str, texts: Sequence[Sequence[str]]) -> None:
    """Write one playbook: version n has the bullets `texts[n]`."""
    for version, lines in enumerate(texts):
        bullets = tuple(Bullet(f"b{n}", "general", text) for n, text in enumerate(lines, start=1))
        codec.save(
            paths.playbooks(cell_id) / f"v{version:04d}.jsonl", Playbook(version, bullets, len(bullets) + 1)
        )


def prose(seed: int, chars: int) -> str:
    """Return text about as compressible as English."""
    draw = random.Random(seed)
    words = []
    length = 0
    while length < chars:
        words.append(_WORDS[int(len(_WORDS) ** draw.random()) - 1])  # Zipf's law
        length += len(words[-1]) + 1
    return " ".join(words)[:chars]


def _vocabulary() -> Iterator[str]:
    draw = random.Random(0)
    for n in range(20_000):
        yield "".join(draw.choices("etaoinshrdlucmfwypvbgk", k=draw.randint(2, 4 + n // 3000)))


_WORDS = list(_vocabulary())


def _row(cell: Cell, shard: Shard, number: int, change: Change) -> Record:
    unit = cell.unit(f"s{number:05d}", 0)
    record = Record(
        **{
            **_BLANK,
            "model_id": cell.model.model_id,
            "task_name": cell.task_name,
            "mode": cell.mode,
            "split": cell.split or None,
            "sample_id": unit.sample_id,
            "unit_id": unit.unit_id,
            "cell_id": cell.cell_id,
            "shard": shard.shard_id,
            "question": f"What is word {number}?",
            "gold": f"gold {number}",
            "pred": f"pred {number}",
            "raw_output": f"pred {number}",
            **change(number, cell.mode),
        }
    )
    return replace(record, prompt_digest=digest(prompt_text(record)))


def _prompts(rows: Sequence[Record]) -> Iterator[tuple[str, str]]:
    for row in rows:
        yield str(row.prompt_digest), prompt_text(row)
