"""Verify what a run has published; set aside what is corrupt, so that it is computed again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aceslm.core.errors import CorruptRun
from aceslm.core.paths import RunPaths
from aceslm.core.run import Run
from aceslm.core.values import Shard
from aceslm.run.done import is_published
from aceslm.run.evolution_journal import Journal
from aceslm.run.evolution_steps import MERGE, journal_of
from aceslm.run.published import verified_shard, withdraw_shard


def withdraw_corrupt(run: Run) -> dict[str, str]:
    """Set every corrupt shard aside, and every evolution that does not read back; return what is wrong.

    Returns:
        shard id -> reason, for each shard that is computed again.
    """
    found = _withdraw_evolutions(run)
    for shard in run.shards:
        try:
            verified_shard(run.paths, shard.shard_id)
        except CorruptRun as error:
            found[shard.shard_id] = str(error)
            withdraw_shard(run.paths, shard.shard_id)
    return found


def _withdraw_evolutions(run: Run) -> dict[str, str]:
    """Let an evolution whose journal is damaged begin again: all shards that write this journal."""
    journals: dict[Path, list[Shard]] = {}
    for shard in run.shards:
        cell = run.cell(shard.cell_id)
        if cell.evolves:
            journals.setdefault(journal_of(run.paths, cell, shard).folder, []).append(shard)
    found = {}
    for folder, shards in journals.items():
        journal = Journal(folder)
        if reason := _damage(run.paths, journal, shards):
            for shard in shards:
                found[shard.shard_id] = reason
                withdraw_shard(run.paths, shard.shard_id)
            journal.forget()
    return found


def _damage(paths: RunPaths, journal: Journal, shards: Sequence[Shard]) -> str | None:
    """Return why a journal cannot be used: it does not read back, or not as far as its shards have come."""
    try:
        state = journal.check()
    except CorruptRun as error:
        return str(error)
    for shard in shards:
        if not is_published(paths, shard.shard_id):
            continue
        merged = state is not None and shard.step == MERGE and len(state.epochs) > (shard.epoch or 0)
        if state is None or not (state.ended or merged):
            return f"{journal.folder}: what the finished shard {shard.shard_id} evolved is missing"
    return None
