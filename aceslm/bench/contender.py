"""What is timed: something that answers prompts, and one pass of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from aceslm.core.engine import EngineInfo
from aceslm.core.prompts import Prompt
from aceslm.core.values import GenerationSettings


@dataclass(frozen=True, slots=True)
class TimedRun:
    """One pass over prompts: `answers` are token ids by request id (words where an engine has no ids)."""

    wall_s: float
    answers: Mapping[str, tuple[int, ...] | str]
    output_tokens: int


class Contender(Protocol):
    """Something that answers prompts and is timed.

    `keeps_prefix`: it is timed with what it cached of the very same prompts. `samples`: it can answer with
    a temperature.
    """

    keeps_prefix: bool
    samples: bool
    info: EngineInfo

    def run(self, prompts: Sequence[Prompt], settings: GenerationSettings) -> TimedRun:
        """Answer all prompts; the wall time is from the call to the last token.

        Raises:
            WorkError: a prompt was not answered.
        """

    def close(self) -> None:
        """Free memory and processes."""
