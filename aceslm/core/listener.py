"""What a shard tells while it works, and the teller that says nothing (the default)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from aceslm.core.paths import AttemptName
from aceslm.core.record import Record
from aceslm.core.values import Cell, Shard


class NoStory:
    """The story of a shard that nobody follows."""

    def row(self, record: Record) -> None:
        """Count one finished row."""

    def spent(self, joules: float | None) -> None:
        """Add the energy of the rows so far; None where it is not known."""

    def progress(self, rows_done: int) -> None:
        """Tell how far the shard is."""

    def note(self, facts: Mapping[str, Any]) -> None:
        """Tell what is known at the end."""


NO_STORY = NoStory()


class NoTracking:
    """Follows nothing."""

    @contextmanager
    def shard(self, cell: Cell, shard: Shard, name: AttemptName) -> Iterator[NoStory]:
        """Follow one try at a shard."""
        yield NO_STORY

    def close(self) -> None:
        """Wait for what is still being sent, within its limit."""


NO_TRACKING = NoTracking()
