"""The folder of one evolution: immutable playbook versions, what each step did, and what is committed.

journal = Journal(paths.playbooks(cell.cell_id))
state = journal.state()                       # None: nothing is committed yet
journal.commit(state, playbook, step, calls)  # calls, version, state.json last

v0007.jsonl          the playbook after a step (v0000: what it started with)
v0007.calls.jsonl    that step in its first line, then its role calls; while evolution goes on
state.json           what is committed: what it does not name is thrown away and computed again
steps.json, calls.parquet     all steps and role calls, once evolution has ended
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from aceslm.ace.evolution import Call, Lesson
from aceslm.ace.gate import GateLedger
from aceslm.ace.playbook import codec
from aceslm.ace.playbook.bullets import Playbook
from aceslm.core.errors import CorruptRun
from aceslm.core.files import read_json, replacing, write_json
from aceslm.core.parquet import read_table, write_values
from aceslm.core.paths import RunPaths
from aceslm.core.values import Cell


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


@dataclass(frozen=True, slots=True)
class Journal:
    """The files of one evolution, or of one worker's share of an epoch."""

    folder: Path

    def version(self, number: int) -> Path:
        return self.folder / f"v{number:04d}.jsonl"

    def state(self) -> State | None:
        """Return what is committed; None before the first step.

        Raises:
            CorruptRun: the file is not one that this version writes.
        """
        if not self._state.exists():
            return None
        value: dict[str, Any] = read_json(self._state)
        try:
            return State(
                **{
                    **value,
                    "epochs": tuple(value["epochs"]),
                    "pending": tuple(Lesson(*lesson) for lesson in value["pending"]),
                    "ledger": {name: GateLedger(**one) for name, one in value["ledger"].items()},
                }
            )
        except (KeyError, TypeError) as error:
            raise CorruptRun(
                f"{self._state}: is not the state of an evolution of this version ({error}): run the grid "
                "again under another name (--set name=...)"
            ) from None

    def playbook(self, number: int) -> Playbook:
        """Read one version."""
        return codec.load(self.version(number))

    def committed(self, state: State) -> Playbook:
        """Read the version that `state` names.

        Raises:
            CorruptRun: it is another playbook.
        """
        playbook = self.playbook(state.version)
        if playbook.digest != state.playbook_digest or playbook.version != state.version:
            raise CorruptRun(
                f"{self.version(state.version)}: is not the playbook that state.json names; restore it"
            )
        return playbook

    def start(self, playbook: Playbook, tokens: int) -> None:
        """Write what evolution starts with; files of an earlier try that went astray are removed."""
        for path in (*self.folder.glob("v*.jsonl"), self._steps, self._calls):
            path.unlink(missing_ok=True)
        note = StepNote(playbook.version, "start", 0, tokens, len(playbook.shown))
        self._write_step(note, ())
        codec.save(self.version(playbook.version), playbook)

    def commit(self, state: State, playbook: Playbook, note: StepNote, calls: Sequence[Call]) -> None:
        """Write one step: what it did, the version, and `state.json` last."""
        self._write_step(note, calls)
        codec.save(self.version(playbook.version), playbook)
        value = asdict(state)
        value["pending"] = [[lesson.unit_id, lesson.text] for lesson in state.pending]
        write_json(self._state, value)

    def forget(self) -> None:
        """Take back everything: the evolution begins again."""
        self._state.unlink(missing_ok=True)

    def steps(self) -> list[StepNote]:
        """Return what each committed step did, in order."""
        if self._steps.exists():
            return [StepNote(**value) for value in read_json(self._steps)]
        return [StepNote(**lines[0]) for lines in self._lines()]

    def calls(self) -> list[Call]:
        """Return every role call of the committed steps, in order."""
        if self._calls.exists():
            return [Call(**row) for row in read_table(self._calls).to_pylist()]
        return [Call(**value) for lines in self._lines() for value in lines[1:]]

    def close(self) -> None:
        """Put the steps and calls of an ended evolution into one file each; their small files go.

        The calls of workers stand in front; their own files stay.
        """
        if not self._steps.exists():
            shares = [Journal(folder) for folder in sorted(self.folder.glob("e[0-9]*-w[0-9]*"))]
            calls = [call for journal in (*shares, self) for call in journal.calls()]
            write_values(Call, calls, self._calls)
            write_json(self._steps, [asdict(note) for note in self.steps()])
        for path in self.folder.glob("v*.calls.jsonl"):
            path.unlink(missing_ok=True)

    def _write_step(self, note: StepNote, calls: Sequence[Call]) -> None:
        values = [asdict(note), *map(asdict, calls)]
        lines = [json.dumps(value, ensure_ascii=True) + "\n" for value in values]
        with replacing(self._step(note.version)) as partial:
            partial.write_text("".join(lines), encoding="utf-8")

    def _lines(self) -> Iterator[list[dict[str, Any]]]:
        state = self.state()
        for path in sorted(self.folder.glob("v*.calls.jsonl")):
            lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            if state is not None and lines[0]["version"] <= state.version:
                yield lines

    def _step(self, number: int) -> Path:
        return self.folder / f"v{number:04d}.calls.jsonl"

    @property
    def _state(self) -> Path:
        return self.folder / "state.json"

    @property
    def _steps(self) -> Path:
        return self.folder / "steps.json"

    @property
    def _calls(self) -> Path:
        return self.folder / "calls.parquet"


def final_playbook(paths: RunPaths, cell: Cell, epoch: int = 0) -> Playbook | None:
    """Return the playbook that an evolution ended with; None while it has not ended.

    Args:
        epoch: the epoch, from 1, whose playbook is wanted in its place.

    Raises:
        CorruptRun: the version is not the one that `state.json` names.
    """
    journal = Journal(paths.playbooks(cell.cell_id))
    state = journal.state()
    if state is None or not state.ended:
        return None
    return journal.playbook(state.epochs[epoch - 1]) if epoch else journal.committed(state)
