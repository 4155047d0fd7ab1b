"""The words of one step of an evolution, and the one way in which all roles ask their engines.

evolution = Evolution(cell, ace, engine_for_role, should_stop)
completions = evolution.ask(prompts, GENERATOR)    # request id -> completion, or Stopped
seconds = evolution.spent.take()                   # what each role took since the last call
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

from aceslm.ace.gate import Trial
from aceslm.ace.playbook.bullets import Playbook
from aceslm.ace.playbook.deltas import Applied, Delta
from aceslm.ace.roles.parsing import Reflection
from aceslm.core.ace_config import AceConfig
from aceslm.core.engine import Engine
from aceslm.core.errors import EngineError
from aceslm.core.prompts import Completion, Prompt
from aceslm.core.values import Cell, GenerationSettings, Sample, Unit

GENERATOR, REFLECTOR, CURATOR = ROLES = ("generator", "reflector", "curator")
VALIDATION = "validation"  # what the gate and candidates ask the Generator, timed apart


class Stopped(Exception):
    """The engine was stopped in the middle of a round, which therefore does not count."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """What the Reflector learnt from one unit, waiting for the Curator."""

    unit_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """One role call. `deltas` (JSON): what a Curator proposed; `refused` counts those that were not applied.

    `parsed` is None for answers. `unit_id` is the first unit that a Curator's lessons come from.
    """

    role: str
    round: int
    epoch: int
    unit_id: str
    candidate: int
    raw_output: str
    deltas: str
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
class StepOutcome:
    """What one step gives; `trial`: what was validated."""

    playbook: Playbook
    answers: tuple[Answer, ...] = ()
    pending: tuple[Lesson, ...] = ()
    calls: tuple[Call, ...] = ()
    trial: Trial | None = None


@dataclass(slots=True)
class RoleSeconds:
    """Wall seconds of each role's batches, counted until they are taken."""

    _seconds: dict[str, float] = field(default_factory=dict)

    def add(self, role: str, seconds: float) -> None:
        self._seconds[role] = self._seconds.get(role, 0.0) + seconds

    def take(self) -> dict[str, float]:
        """Return what was counted since the last call, and begin again."""
        taken, self._seconds = self._seconds, {}
        return taken


@dataclass(frozen=True, slots=True)
class Evolution:
    """What stays the same through all steps of one evolution.

    `validate` holds the samples that the gate and candidates may be scored on. `place` names the worker where
    several evolve one playbook, so that no two of their requests share an id. `spent` counts the roles' time.
    """

    cell: Cell
    ace: AceConfig
    engine_for_role: Callable[[str], Engine]
    should_stop: Callable[[], bool]
    validate: tuple[Sample, ...] = ()
    place: str = ""
    spent: RoleSeconds = field(default_factory=RoleSeconds)

    @property
    def engine(self) -> Engine:
        """The Generator's engine: its tokens are those that a playbook is measured in."""
        return self.engine_for_role(GENERATOR)

    def ask(
        self,
        prompts: Sequence[Prompt],
        role: str,
        *,
        settings: GenerationSettings | None = None,
    ) -> dict[str, Completion]:
        """Answer `prompts` in one batch; request id -> completion.

        Raises:
            Stopped: the engine was told to stop before it had all of them.
            EngineError: it ended without an answer for every prompt.
        """
        began = time.perf_counter()
        found: dict[str, Completion] = {}
        if prompts:
            engine = self.engine_for_role(GENERATOR if role == VALIDATION else role)
            for completion in engine.generate(prompts, settings or self.cell.generation, self.should_stop):
                found[completion.request_id] = completion
        self.spent.add(role, time.perf_counter() - began)
        if missing := len(prompts) - len(found):
            if self.should_stop():
                raise Stopped
            raise EngineError(f"the engine returned no answer for {missing} of {len(prompts)} prompts")
        return found


def call_of(
    role: str,
    playbook: Playbook,
    unit: Unit,
    completion: Completion,
    *,
    parsed: bool | None = None,
    candidate: int = 0,
    deltas: Sequence[Delta] = (),
    outcome: Applied | None = None,
) -> Call:
    """Return the record of one role call in the round after `playbook`."""
    proposed = [{"op": type(delta).__name__.lower(), **asdict(delta)} for delta in deltas]
    return Call(
        role=role,
        round=playbook.version + 1,
        epoch=unit.epoch,
        unit_id=unit.unit_id,
        candidate=candidate,
        raw_output=completion.text,
        deltas=json.dumps(proposed) if proposed else "",
        parsed=parsed,
        applied=len(outcome.applied) if outcome else 0,
        refused=len(outcome.refused) if outcome else 0,
        prompt_tokens=completion.prompt_tokens,
        output_tokens=completion.output_tokens,
        latency_ms=completion.latency_ms,
    )
