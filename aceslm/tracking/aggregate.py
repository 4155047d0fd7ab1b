"""After a merge: tells W&B about every cell, the grid, and the shards that were not told live.

    told = track_run(run, analysed)      # never raises; a fault is one warning
    if told.offline:
        print(f"aceslm sync {paths.root}")

Told again, nothing doubles: a script that says the same is not played again, one that says more replaces
what has not been sent yet, or adds its new points to what has.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from aceslm.analysis.analysed import Analysed
from aceslm.config.grid import GridConfig
from aceslm.config.strict_yaml import parse, read_yaml
from aceslm.config.tracking import TrackingConfig, TrackingMode
from aceslm.core.digests import digest, file_sha256
from aceslm.core.errors import CorruptRun, Locked
from aceslm.core.files import locked, read_json, write_json
from aceslm.core.paths import RunPaths
from aceslm.core.run import Run
from aceslm.tracking.figures import cell_lines, grid_lines, read_merged
from aceslm.tracking.player import PlayerOptions
from aceslm.tracking.process import PlayerProcess
from aceslm.tracking.script import (
    cell_script,
    grid_script,
    is_finished,
    played_folder,
    played_state,
    read_script,
    script_digest,
    scripts,
    write_script,
)
from aceslm.tracking.server import installed, mode_of

log = logging.getLogger(__name__)

# A script without an end whose file nobody has written to for so long belongs to a worker that was killed.
_STALE_S = 120.0
_START_S = 60.0


@dataclass(frozen=True, slots=True)
class Told:
    """How many W&B runs one aggregation has told, by what came of them."""

    online: int = 0
    offline: int = 0
    off: int = 0


def track_run(run: Run, analysed: Analysed) -> Told:
    """Tell W&B about a merged run, as its `tracking:` section says. Never raises, whatever is wrong."""
    paths = run.paths
    try:
        config = _grid(paths).tracking
        mode = mode_of(config)
        if mode == "disabled":
            return Told()
        if not installed():
            log.warning("W&B: wandb is not installed (pip install wandb); `aceslm aggregate` tells it later")
            return Told()
        with locked(paths.wandb / ".lock", "aceslm aggregate (W&B)"):
            _write_scripts(run, analysed)
            return play_pending(paths, config, mode)
    except Locked as error:
        log.info("W&B is being told by another aggregation: %s", error)
    except Exception as error:
        log.warning("W&B: %s; the results are not affected", error)
    return Told()


def play_pending(paths: RunPaths, config: TrackingConfig, mode: TrackingMode) -> Told:
    """Play every script that says something new; one that cannot be sent in time is played offline."""
    waiting = [path for path in scripts(paths) if _has_news(path)]
    errors: list[str] = []
    options = PlayerOptions(mode, config.answer_timeout_s, config.upload_timeout_s)
    told, left = _play(paths, waiting, options, config.upload_timeout_s + _START_S, errors)
    if left:
        errors.append("a W&B run could not be sent in time")
        again, lost = _play(paths, left, replace(options, mode="offline"), _START_S, errors)
        told = Told(told.online, told.offline + again.offline, told.off + again.off + len(lost))
    if errors:
        log.warning("W&B: %s; %s", errors[0], _consequence(told))
    return told


def _consequence(told: Told) -> str:
    if told.off:
        return f"{told.off} runs are not told; `aceslm aggregate` tries again"
    return "offline instead; `aceslm sync` sends it"


def _play(
    paths: RunPaths, waiting: Sequence[Path], options: PlayerOptions, limit_s: float, errors: list[str]
) -> tuple[Told, list[Path]]:
    """Play scripts one after another; return what came of them and which were not replied to in time."""
    if not waiting:
        return Told(), []
    player = PlayerProcess(options, paths.wandb)
    try:
        for number, script in enumerate(waiting, start=1):
            player.play(script)
            if not player.wait_for(number, limit_s):
                player.kill()
                break
    except OSError as error:  # the player is gone
        log.debug("player: %s", error)
    player.close(_START_S)
    errors += dict.fromkeys(reply["error"] for reply in player.replies if reply["error"])
    modes = [reply["mode"] for reply in player.replies]
    told = Told(modes.count("online"), modes.count("offline"), modes.count("off"))
    return told, list(waiting[len(player.replies) :])


def _write_scripts(run: Run, analysed: Analysed) -> None:
    """Write the scripts of the cells and of the grid, unless the last ones were made from the same files."""
    paths = run.paths
    grid = _grid(paths)
    sources = [file_sha256(path) for path in (paths.results, paths.summary_csv)]
    made_from = digest(sources, grid.model_dump(mode="json"))
    stamp = paths.wandb / "made_from.json"
    with suppress(OSError, CorruptRun):  # without a stamp that can be read they are made again
        if read_json(stamp) == made_from:
            return
    merged = read_merged(run, analysed, grid)
    for cell, lines in cell_lines(merged):
        write_script(cell_script(paths, cell.cell_id), lines)
    write_script(grid_script(paths), grid_lines(merged))
    write_json(stamp, made_from)


def _has_news(path: Path) -> bool:
    """Return whether a script says something that its last play did not; not while a worker writes it."""
    lines = list(read_script(path))
    if not lines or not (is_finished(lines) or time.time() - path.stat().st_mtime > _STALE_S):
        return False
    played = played_state(path)
    if played is None or played.digest != script_digest(lines):
        return True
    return not (played.uploaded or played_folder(path, played).is_dir())


def _grid(paths: RunPaths) -> GridConfig:
    return parse(GridConfig, read_yaml(paths.config), paths.config)
