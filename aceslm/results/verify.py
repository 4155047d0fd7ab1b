"""Verify every published shard of a run; set corrupt ones aside so that they are computed again."""

from __future__ import annotations

from aceslm.core.errors import CorruptRun
from aceslm.core.run import Run
from aceslm.run.published import verified_shard, withdraw_shard


def withdraw_corrupt(run: Run) -> dict[str, str]:
    """Set every corrupt shard aside; return shard id -> what is wrong with it."""
    found = {}
    for shard in run.shards:
        try:
            verified_shard(run.paths, shard.shard_id)
        except CorruptRun as error:
            found[shard.shard_id] = str(error)
            withdraw_shard(run.paths, shard.shard_id)
    return found
