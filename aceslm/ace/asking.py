"""The words of one round, and the one way in which all roles ask the engine.

evolution = Evolution(cell, ace, engine, should_stop)
completions = evolution.ask(prompts, role_s, GENERATOR)    # request id -> completion, or Stopped
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aceslm.ace.parsing import Reflection
from aceslm.ace.playbook import Playbook
from aceslm.ace_config import AceConfig
from aceslm.engine import Engine
from aceslm.errors import EngineError
from aceslm.records import Cell, Completion, Prompt, Sample, Unit

GENERATOR, REFLECTOR, CURATOR = ROLES = ("generator", "reflector", "curator")


class Stopped(Exception):
    """The engine was stopped in the middle of a round, which therefore does not count."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """What the Reflector learnt from one unit, waiting for the Curator."""

    unit_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """One role call. `refused` counts its deltas that were not applied; `parsed` is None for answers."""

    role: str
    round: int
    unit_id: str
    raw_output: str
    parsed: bool | None
    applied: int
    refused: int
    prompt_tokens: int
    output_tokens: int
    latency_ms: float


@dataclass(frozen=True, slots=True)
class Answer:
    """One answered unit: what its row needs beyond the completion."""

    unit: Unit
    sample: Sample
    prompt: Prompt
    completion: Completion
    correct: bool
    cited: tuple[str, ...]
    used: tuple[str, ...]
    reflection: Reflection | None = None
    reflection_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Played:
    """What one round gives. `role_s`: wall seconds of each role's batches."""

    playbook: Playbook
    answers: tuple[Answer, ...]
    pending: tuple[Lesson, ...]
    calls: tuple[Call, ...]
    role_s: dict[str, float]


@dataclass(frozen=True, slots=True)
class Evolution:
    """What stays the same through all rounds of one evolution."""

    cell: Cell
    ace: AceConfig
    engine: Engine
    should_stop: Callable[[], bool]

    def ask(self, prompts: Sequence[Prompt], role_s: dict[str, float], role: str) -> dict[str, Completion]:
        """Answer `prompts` in one batch; request id -> completion.

        Raises:
            Stopped: the engine was told to stop before it had all of them.
            EngineError: it ended without an answer for every prompt.
        """
        began = time.perf_counter()
        found: dict[str, Completion] = {}
        if prompts:
            for completion in self.engine.generate(prompts, self.cell.generation, self.should_stop):
                found[completion.request_id] = completion
        role_s[role] = role_s.get(role, 0.0) + time.perf_counter() - began
        if missing := len(prompts) - len(found):
            if self.should_stop():
                raise Stopped
            raise EngineError(f"the engine returned no answer for {missing} of {len(prompts)} prompts")
        return found
