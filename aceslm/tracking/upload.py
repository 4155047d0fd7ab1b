"""Sends what is offline: `wandb sync` over the folders that are not on a server yet, batch by batch.

    for batch in upload(paths, batch_size=20): ...

What was sent is written down after each batch (`*.played.json`), so an upload that was stopped goes on.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from aceslm.config.grid import GridConfig
from aceslm.config.strict_yaml import parse, read_yaml
from aceslm.core.errors import WorkError
from aceslm.core.files import locked
from aceslm.core.paths import RunPaths
from aceslm.tracking.aggregate import play_pending
from aceslm.tracking.process import player_environment
from aceslm.tracking.script import note_played, played_folder, played_state, scripts
from aceslm.tracking.server import base_url, has_key, installed, silence

_START_S = 60.0


@dataclass(frozen=True, slots=True)
class Batch:
    """What one call of `wandb sync` did: folders sent, folders that were not, and its last words."""

    sent: tuple[Path, ...]
    failed: tuple[Path, ...]
    message: str


def waiting_folders(paths: RunPaths) -> dict[Path, Path]:
    """Return script -> W&B folder of everything that is offline and not on a server yet."""
    waiting = {}
    for script in scripts(paths):
        played = played_state(script)
        if played is not None and not played.uploaded and played_folder(script, played).is_dir():
            waiting[script] = played_folder(script, played)
    return waiting


def upload(paths: RunPaths, batch_size: int) -> Iterator[Batch]:
    """Send what is waiting; scripts that nobody has played yet are played first.

    Raises:
        WorkError: there is no wandb, no key, or no server that answers.
        Locked: an aggregation is telling W&B about this run.
    """
    config = parse(GridConfig, read_yaml(paths.config), paths.config).tracking
    if not installed():
        raise WorkError("wandb is not installed: pip install wandb")
    if not has_key():
        raise WorkError(f"no key for {base_url()}: wandb login, or set WANDB_API_KEY")
    if reason := silence(config.answer_timeout_s):
        raise WorkError(f"W&B cannot be reached: {reason}; run this where there is internet")
    with locked(paths.wandb / ".lock", "aceslm sync"):
        play_pending(paths, config, "offline")
        waiting = list(waiting_folders(paths).items())
        for start in range(0, len(waiting), batch_size):
            chosen = dict(waiting[start : start + batch_size])
            message = _sync(paths, list(chosen.values()), _START_S + config.upload_timeout_s * len(chosen))
            yield _noted(chosen, message)


def _sync(paths: RunPaths, folders: list[Path], timeout_s: float) -> str:
    """Call `wandb sync` on some folders; return the last line it printed."""
    command = [sys.executable, "-m", "wandb", "sync", "--yes", *(str(folder.resolve()) for folder in folders)]
    environment = player_environment(paths.wandb) | {"WANDB_SILENT": "false"}
    try:
        result = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        return f"not finished within {timeout_s:.0f} s"
    lines = [line.strip() for line in (result.stdout + result.stderr).splitlines() if line.strip()]
    return lines[-1] if lines else f"exit status {result.returncode}"


def _noted(chosen: dict[Path, Path], message: str) -> Batch:
    """Write down which folders `wandb sync` has marked as sent."""
    sent, failed = [], []
    for script, folder in chosen.items():
        played = played_state(script)
        if played is not None and any(folder.glob("*.wandb.synced")):
            note_played(script, replace(played, uploaded=True))
            sent.append(folder)
        else:
            failed.append(folder)
    return Batch(tuple(sent), tuple(failed), message)
