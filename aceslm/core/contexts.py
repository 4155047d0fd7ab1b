"""Which samples belong together: the one rule for intervals, tests, the gate, rounds and workers.

    context_key(sample)      # equal for samples that share a context
    context_name("", text)   # its name in a table of rows

Questions about one text are not independent, whether or not somebody gave the text an id.
"""

from __future__ import annotations

from aceslm.core.digests import context_digest
from aceslm.core.values import Sample


def context_name(context_id: str | None, context: str | None) -> str:
    """Return the name of a context: its id, else a digest of its text, "" for none."""
    text = (context or "").strip()
    return context_id or (context_digest(text) if text else "")


def context_key(sample: Sample) -> tuple[bool, str]:
    """Return what a sample has in common with those of its context; without one it stands alone."""
    name = context_name(sample.context_id, sample.context)
    return (True, name) if name else (False, sample.sample_id)
