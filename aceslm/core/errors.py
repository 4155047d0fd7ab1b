"""Every error a user can meet, as one tree.

    AceslmError                what the command prints as one line
    ├── UsageError             exit status 2: wrong usage, configuration or input file
    │   ├── ConfigError        a YAML file, a `--set`, a registry name
    │   └── DataError          a task file: file, record and key are named
    └── WorkError              exit status 1: the work itself failed
        ├── ModelUnavailable   a model that is neither cached nor reachable, or does not load
        │   └── BrokenModel    exit status 2: its files are damaged or do not belong together
        ├── EngineError        generation cannot go on (a single bad row is data, not an error)
        ├── RunError           a run directory that is not what it should be
        │   ├── UpstreamMissing  the playbook that a shard carries does not exist yet
        │   ├── IncompleteRun  shards are missing: says which, and what to type
        │   ├── CorruptRun     stored bytes differ from their checksum
        │   └── MixedRun       commit, engine or dtype changed within one run
        ├── Locked             somebody else holds the lock of this run
        └── LaunchError        the scheduler or the local pool refused or failed

A message says what is wrong, where (file, line or record, key), and what to type next.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class AceslmError(Exception):
    """Base of all errors that the command prints as one line."""

    exit_status = 1


class UsageError(AceslmError):
    """The input is wrong: options, configuration, files. Nothing was started."""

    exit_status = 2


class ConfigError(UsageError):
    """A configuration key, value or registry name is wrong."""


class DataError(UsageError):
    """A task file is wrong; the message names file, record and key."""


class WorkError(AceslmError):
    """The work failed."""


class ModelUnavailable(WorkError):
    """A model is neither cached nor reachable, or its files do not load."""


class BrokenModel(ModelUnavailable):
    """A model's files are damaged or do not belong together: no second try helps."""

    exit_status = 2


class EngineError(WorkError):
    """Generation cannot go on."""


class RunError(WorkError):
    """A run directory is not what it should be."""


class UpstreamMissing(RunError):
    """The playbook that a shard's prompts carry has not ended evolving."""


class IncompleteRun(RunError):
    """Some planned units have no finished row."""


class CorruptRun(RunError):
    """Stored bytes differ from their recorded checksum."""


class MixedRun(RunError):
    """Commit, engine or dtype changed within one run."""


class Locked(WorkError):
    """Somebody else holds the lock."""


class LaunchError(WorkError):
    """The scheduler or the local pool refused or failed."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ` (did you mean 'x'?)`, or ` (known: a, b, c)` when nothing is close.

    >>> nearest("modles", ["models", "tasks"])
    " (did you mean 'models'?)"
    """
    names = sorted(known)
    lowered = {name.lower(): name for name in names}
    close = get_close_matches(word.lower(), list(lowered), n=1, cutoff=0.6)
    if close:
        return f" (did you mean '{lowered[close[0]]}'?)"
    return f" (known: {', '.join(names)})" if names else ""
