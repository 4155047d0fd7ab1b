"""What is committed of an evolution, and what each step did: values, and their JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from aceslm.ace.evolution import Lesson
from aceslm.ace.gate import GateLedger

if TYPE_CHECKING:
    from pydantic import TypeAdapter


@dataclass(frozen=True, slots=True)
class StepNote:
    """What one step did to the playbook.

    `kind` is `start`, `round`, `merge`, `gate` or `final`. `tokens` is the length of the rendered playbook in
    the Generator's tokens. `decision` says in words how a comparison on the `validate` split came out.
    """

    version: int
    kind: str
    epoch: int
    tokens: int
    bullets: int
    decision: str = ""
    accepted: bool | None = None


@dataclass(frozen=True, slots=True)
class State:
    """What is committed.

    Attributes:
        cursor: steps committed.
        version: the playbook version after them; `playbook_digest` and `next_number` are its own.
        accepted: the version that the gate accepted last.
        epochs: the version that each finished epoch ended with.
        pending: lessons that wait for the next curation.
        ledger: purpose -> what was asked of the `validate` split.
        role_s: wall seconds of each role, and of validation.
    """

    seed: int
    version: int
    playbook_digest: str
    next_number: int
    accepted: int
    cursor: int = 0
    epoch: int = 0
    epochs: tuple[int, ...] = ()
    ended: bool = False
    pending: tuple[Lesson, ...] = ()
    ledger: Mapping[str, GateLedger] = field(default_factory=dict)
    role_s: Mapping[str, float] = field(default_factory=dict)


@cache
def _adapter() -> TypeAdapter[State]:
    from pydantic import TypeAdapter

    return TypeAdapter(State)


def as_json(state: State) -> dict[str, Any]:
    return {**asdict(state), "pending": [[lesson.unit_id, lesson.text] for lesson in state.pending]}


def as_state(value: Any) -> State:
    """Read a state back; KeyError, TypeError or ValueError where it is none."""
    pending = [Lesson(*lesson) for lesson in value["pending"]]
    return _adapter().validate_python({**value, "pending": pending})


def as_note(value: Mapping[str, Any]) -> StepNote:
    return StepNote(**{key: one for key, one in value.items() if key != "state"})
