"""Plays scripts into W&B, in a process of its own: the one module that imports wandb.

    python -m aceslm.tracking.player '{"mode": "auto", ...}' < paths of scripts > a JSON reply for each

A live player follows a script that is still being written until its `finish` line, or until standard input
ends (the worker is done, or gone); then it has `leave_s` left, and after that it kills what W&B has started
and goes. Signals that end a Slurm step are for the worker: here they are ignored.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from aceslm.tracking.script import (
    Line,
    Played,
    complete_lines,
    note_played,
    played_folder,
    played_state,
    read_script,
    script_digest,
)
from aceslm.tracking.server import has_key, silence

_POLL_S = 0.2
_INIT_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class PlayerOptions:
    """How to play.

    `live` follows scripts that are being written, and leaves what cannot be sent for later. Without
    `leave_s` it stays as long as it takes.
    """

    mode: str
    answer_timeout_s: float = 3.0
    upload_timeout_s: float = 120.0
    leave_s: float | None = None
    live: bool = False


def main() -> None:
    """Play every script whose path comes on standard input; reply with a JSON line for each."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    options = PlayerOptions(**json.loads(sys.argv[1]))
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever is printed by libraries is not a reply
    closed = threading.Event()
    player = Player(options, closed)
    for path in _arriving(options, closed):
        replies.write(json.dumps(player.play(path)) + "\n")
        replies.flush()
    player.close()


@dataclass(slots=True)
class Player:
    """Plays scripts one after another; what the first could not do online is not tried again."""

    options: PlayerOptions
    closed: threading.Event
    _online: bool | None = None
    _why: str | None = None

    def play(self, path: Path) -> dict[str, Any]:
        """Play one script; return a reply: how it was played, or what was wrong. Never raises."""
        reply: dict[str, Any] = {"script": str(path), "mode": "off", "error": None}
        try:
            if self._goes_online():
                try:
                    self._play(path, "online")
                    return {**reply, "mode": "online"}
                except Exception as error:
                    self._online, self._why = False, _short(error)
                    self.close()  # its service holds the run's id
            if not self.options.live:
                self._play(path, "offline")
                reply["mode"] = "offline"
        except Exception as error:
            self._why = _short(error)
        return {**reply, "error": self._why}

    def close(self) -> None:
        """End the process that W&B has started."""
        if "wandb" in sys.modules:
            import wandb

            wandb.teardown()

    def _goes_online(self) -> bool:
        if self._online is None:
            self._online = self.options.mode in {"auto", "online"}
            if self._online and not has_key():
                self._online = False
                self._why = None if self.options.mode == "auto" else "no key: wandb login, or WANDB_API_KEY"
            elif self._online:
                self._why = silence(self.options.answer_timeout_s)
                self._online = self._why is None
        return self._online

    def _play(self, path: Path, mode: str) -> None:
        lines = follow(path, self.closed) if self.options.live else read_script(path)
        header = next(lines, None)
        if header is None or "run" not in header:
            raise ValueError(f"{path.name}: is not a script")
        before = played_state(path)
        run = _init(path.parent, header["run"], mode, self.options)
        told = [header]
        try:
            for line in lines:
                told.append(line)
                _tell(run, line, path.parent)
        finally:
            run.finish(exit_code=told[-1].get("finish", 1))
        folder = Path(run.settings.sync_dir)
        after = Played(script_digest(told), mode, folder.name, uploaded=mode == "online")
        note_played(path, Played(after.digest, mode, f"wandb/{after.folder}", after.uploaded))
        if before is not None and not before.uploaded:  # the new folder tells the whole story again
            shutil.rmtree(played_folder(path, before), ignore_errors=True)


def follow(path: Path, closed: threading.Event) -> Iterator[Line]:
    """Yield the lines of a script as they are written, until it is finished or nobody writes any more."""
    with path.open("rb") as file:
        while True:
            last = closed.is_set()
            for line in complete_lines(file):
                yield line
                last = last or "finish" in line
            if last:
                return
            closed.wait(_POLL_S)


def _init(folder: Path, header: dict[str, Any], mode: str, options: PlayerOptions) -> Any:
    import wandb

    settings = wandb.Settings(
        console="off",
        disable_code=True,
        disable_git=True,
        save_code=False,
        silent=True,
        symlink=False,
        x_disable_meta=True,
        x_disable_machine_info=True,
        x_disable_stats=True,
        x_save_requirements=False,
        init_timeout=_INIT_TIMEOUT_S,
        finish_timeout=options.upload_timeout_s,
        finish_timeout_raises=True,
    )
    run = wandb.init(
        mode=mode,  # type: ignore[arg-type]
        dir=str(folder),
        id=header["id"],
        name=header["name"],
        group=header["group"],
        job_type=header["job_type"],
        project=header["project"],
        entity=header["entity"],
        config=header["config"],
        tags=header["tags"],
        notes=header["notes"],
        resume="allow",
        reinit="finish_previous",
        settings=settings,
    )
    for step in sorted(set(header["step_metrics"].values())):
        run.define_metric(step)
    for pattern, step in header["step_metrics"].items():
        run.define_metric(pattern, step_metric=step)
    return run


def _tell(run: Any, line: Line, folder: Path) -> None:
    import wandb

    if "log" in line and not line.get("sent"):
        run.log(line["log"])
    elif "summary" in line:
        run.summary.update(line["summary"])
    elif "table" in line:
        table = line["table"]
        run.log({table["name"]: wandb.Table(columns=table["columns"], data=table["rows"])})
    elif "artifact" in line:
        artifact = wandb.Artifact(line["artifact"]["name"], type=line["artifact"]["type"])
        for name, path in line["artifact"]["files"].items():
            artifact.add_file(str(folder / path), name=name)
        run.log_artifact(artifact)


def _arriving(options: PlayerOptions, closed: threading.Event) -> Iterator[Path]:
    """Yield the paths that come on standard input; at its end start the clock."""
    paths: queue.Queue[Path | None] = queue.Queue()

    def read(stream: TextIO) -> None:
        for line in stream:
            if line.strip():
                paths.put(Path(line.strip()))
        closed.set()
        paths.put(None)
        if options.leave_s is not None:
            time.sleep(options.leave_s)
            _leave()

    threading.Thread(target=read, args=(sys.stdin,), daemon=True).start()
    while (path := paths.get()) is not None:
        yield path


def _leave() -> None:
    """Kill what this process has started, and go at once."""
    import psutil

    for child in psutil.Process().children(recursive=True):
        child.kill()
    os._exit(1)


def _short(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return f"{type(error).__name__}: {lines[0]}"[:300]


if __name__ == "__main__":
    main()
