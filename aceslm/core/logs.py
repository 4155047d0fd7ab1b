"""Log lines that say what they are about, one JSON object a line, without keys and tokens.

    with about(shard="c000-p01-0003", attempt="4242_7-r0"):
        log.info("...", extra={"unit": unit_id})     # {"time": ..., "shard": ..., "unit": ..., ...}

Modules only log; `launch` decides where lines go.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime

from aceslm.core.errors import AceslmError, UsageError

FACTS = ("attempt", "shard", "unit")
HIDDEN = "[hidden]"
CONSOLE_FORMAT = "%(levelname)s %(name)s: %(message)s"

_ABOUT: ContextVar[dict[str, str] | None] = ContextVar("about", default=None)
_SECRET_NAMES = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)
_SECRETS = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{16,}|(?:sk|wandb_v1)[-_][A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{16,})"
    r"|(?<=://)[^\s/:@]+:[^\s/@]+(?=@)|(?<=Bearer )\S+"
)


@contextmanager
def about(**facts: str) -> Iterator[None]:
    """Let every line that is logged inside say what it is about; keys are among `FACTS`."""
    token = _ABOUT.set({**(_ABOUT.get() or {}), **facts})
    try:
        yield
    finally:
        _ABOUT.reset(token)


def redacted(text: str) -> str:
    """Return a text without what looks like a key or token, or is one in this process's environment."""
    for name, value in os.environ.items():
        if len(value) >= 8 and _SECRET_NAMES.search(name) and value in text:
            text = text.replace(value, HIDDEN)
    return _SECRETS.sub(HIDDEN, text)


class ConsoleLines(logging.Formatter):
    """Formats a record for a terminal: an error that a user can meet is its message, not a traceback.

    One that wrong input caused is what the command ends with: it is not said twice.
    """

    def __init__(self) -> None:
        super().__init__(CONSOLE_FORMAT)

    def format(self, record: logging.LogRecord) -> str:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, AceslmError):
            return super().format(record)
        line = f"{record.levelname} {record.name}: {record.getMessage()}"
        return line if error.exit_status == UsageError.exit_status else f"{line}: {error}"


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON: time (UTC), level, logger, message, and what it is about."""

    def format(self, record: logging.LogRecord) -> str:
        facts = {
            **(_ABOUT.get() or {}),
            **{name: vars(record).get(name) for name in FACTS if name in vars(record)},
        }
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": redacted(record.getMessage()),
            **{name: facts[name] for name in FACTS if facts.get(name)},
        }
        if record.exc_info:
            line["traceback"] = redacted(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)
