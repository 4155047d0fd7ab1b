"""The player seen from a worker or an aggregation: started, told what to play, waited for, killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import psutil

from aceslm.tracking.player import PlayerOptions

# What W&B may be told by the environment; a run id or folder meant for another program does not get through.
_KEPT = (
    *("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_CREDENTIALS_FILE"),
    *("WANDB_CONFIG_DIR", "WANDB_INSECURE_DISABLE_SSL", "WANDB_CA_CERTS", "WANDB_HTTP_TIMEOUT"),
)


@dataclass(slots=True)
class PlayerProcess:
    """A running player. Nothing here blocks longer than it is told to, and nothing raises but OSError."""

    options: PlayerOptions
    folder: Path
    replies: list[dict[str, Any]] = field(default_factory=list)
    _process: subprocess.Popen[bytes] = field(init=False)
    _reader: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "aceslm.tracking.player", json.dumps(asdict(self.options))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # holds neither the terminal nor a job's log open
            env=player_environment(self.folder),
            start_new_session=True,  # the terminal's Ctrl-C is for the worker
        )
        os.set_blocking(_pipe(self._process.stdin).fileno(), False)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def play(self, script: Path) -> None:
        """Hand a script over.

        Raises:
            OSError: the player is gone, or does not listen.
        """
        stream = _pipe(self._process.stdin)
        stream.write(f"{script.resolve()}\n".encode())
        stream.flush()

    def wait_for(self, number: int, timeout_s: float) -> bool:
        """Wait until `number` scripts were replied to; return whether they were."""
        deadline = time.monotonic() + timeout_s
        while len(self.replies) < number and time.monotonic() < deadline and self._reader.is_alive():
            time.sleep(0.05)
        return len(self.replies) >= number

    def close(self, timeout_s: float) -> bool:
        """Say that nothing more comes, wait, then kill; return whether the player ended by itself."""
        with suppress(OSError):
            _pipe(self._process.stdin).close()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return False
        self._reader.join(1.0)
        return True

    def kill(self) -> None:
        """End the player and all that it has started."""
        with suppress(psutil.Error):
            for child in psutil.Process(self._process.pid).children(recursive=True):
                with suppress(psutil.Error):
                    child.kill()
        self._process.kill()
        self._process.wait()
        self._reader.join(1.0)

    def _read(self) -> None:
        with _pipe(self._process.stdout) as stream:
            for line in stream:
                with suppress(ValueError):
                    self.replies.append(json.loads(line))


def player_environment(folder: Path, base: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a W&B process: its files below `folder`, no telemetry of its own."""
    inherited = os.environ if base is None else base
    kept = {
        name: value for name, value in inherited.items() if not name.startswith("WANDB_") or name in _KEPT
    }
    place = folder.resolve()
    return {
        **kept,
        "WANDB_DIR": str(place),
        "WANDB_DATA_DIR": str(place / "data"),
        "WANDB_CACHE_DIR": str(place / "cache"),
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_SILENT": "true",
        "PYTHONWARNINGS": "ignore",
    }


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise ValueError("the process was started without this pipe")
    return stream
