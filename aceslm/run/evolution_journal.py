"""The folder of one evolution: immutable playbook versions, what each step did, and what is committed.

journal = Journal(paths.playbooks(cell.cell_id))
state = journal.state()                       # None: nothing is committed yet
journal.commit(state, playbook, step, calls)  # calls, version, state.json last

v0007.jsonl          the playbook after a step (v0000: what it started with)
v0007.calls.jsonl    that step and what it left in its first line, then its role calls; until evolution ends
state.json           what is committed: what it does not name is thrown away and computed again
steps.json, calls.parquet     all steps and role calls, once evolution has ended
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aceslm.ace.evolution import Call
from aceslm.ace.playbook import codec
from aceslm.ace.playbook.bullets import Playbook
from aceslm.core.errors import CorruptRun, DataError
from aceslm.core.files import read_json, replacing, write_json
from aceslm.core.parquet import read_table, write_values
from aceslm.core.paths import RunPaths
from aceslm.core.values import Cell
from aceslm.run.attempt_files import said
from aceslm.run.evolution_state import State, StepNote, as_json, as_note, as_state


@dataclass(frozen=True, slots=True)
class Journal:
    """The files of one evolution, or of one worker's share of an epoch."""

    folder: Path

    def version(self, number: int) -> Path:
        return self.folder / f"v{number:04d}.jsonl"

    def state(self) -> State | None:
        """Return what is committed; None before the first step.

        Every step holds the state after it: a lost or damaged `state.json` is read from the last one.

        Raises:
            CorruptRun: it is damaged, and so are the steps.
        """
        damage = "is missing"
        try:
            return as_state(read_json(self._state))
        except FileNotFoundError:
            pass
        except (CorruptRun, KeyError, TypeError, ValueError) as error:
            damage = f"is damaged ({str(error).splitlines()[0]})"
        state = self._last_state()
        if state is not None:
            said(f"{self._state} {damage}: what the last step (version {state.version}) left is used")
        elif self._state.exists():
            raise self._corrupt(self._state, f"{damage}, and no step beside it can be read")
        return state

    def playbook(self, number: int) -> Playbook:
        """Read one version.

        Raises:
            CorruptRun: it is missing or damaged.
        """
        try:
            return codec.load(self.version(number))
        except DataError as error:
            raise self._corrupt(self.version(number), f"is damaged or missing ({error})") from None

    def committed(self, state: State) -> Playbook:
        """Read the version that `state` names.

        Raises:
            CorruptRun: it is another playbook.
        """
        playbook = self.playbook(state.version)
        if playbook.digest != state.playbook_digest or playbook.version != state.version:
            raise self._corrupt(self.version(state.version), "is not the playbook that state.json names")
        return playbook

    def check(self) -> State | None:
        """Read everything that was committed; an ended evolution gets a damaged `state.json` back.

        Raises:
            CorruptRun: something of it is damaged.
        """
        state = self.state()
        if state is None:
            return None
        self.committed(state)
        notes, _ = self.steps(), self.calls()
        for note in notes:
            self.playbook(note.version)
        if not notes or notes[-1].version != state.version:
            raise self._corrupt(self._steps, "does not hold the steps up to the one that is committed")
        if state.ended:
            write_json(self._state, as_json(state))
        return state

    def start(self, playbook: Playbook, tokens: int) -> None:
        """Write what evolution starts with; files of an earlier try that went astray are removed."""
        for path in (*self.folder.glob("v*.jsonl"), self._steps, self._calls):
            path.unlink(missing_ok=True)
        note = StepNote(playbook.version, "start", 0, tokens, len(playbook.shown))
        self._write_step(note, ())
        codec.save(self.version(playbook.version), playbook)

    def commit(self, state: State, playbook: Playbook, note: StepNote, calls: Sequence[Call]) -> None:
        """Write one step: what it did and left, the version, and `state.json` last."""
        self._write_step(note, calls, state)
        codec.save(self.version(playbook.version), playbook)
        write_json(self._state, as_json(state))

    def forget(self) -> None:
        """Take back everything: the evolution begins again. What cannot be read is kept as `.corrupt`."""
        try:
            as_state(read_json(self._state))
        except FileNotFoundError:
            pass
        except (CorruptRun, KeyError, TypeError, ValueError):
            self._state.replace(self._state.with_name(self._state.name + ".corrupt"))
        for path in (*self.folder.glob("v*.calls.jsonl"), self._steps, self._calls, self._state):
            path.unlink(missing_ok=True)

    def shares(self) -> list[Journal]:
        """Return the journals of the workers, an epoch after the other; one worker has none of its own."""
        return [Journal(folder) for folder in sorted(self.folder.glob("e[0-9]*-w[0-9]*"))]

    def role_s(self) -> dict[str, float]:
        """Return the committed seconds of each role and of validation, those of all workers included.

        Raises:
            CorruptRun: a state is damaged, and so are its steps.
        """
        total: Counter[str] = Counter()
        for journal in (self, *self.shares()):
            state = journal.state()
            total.update(dict(state.role_s) if state else {})
        return dict(total)

    def steps(self) -> list[StepNote]:
        """Return what each committed step did, in order.

        Raises:
            CorruptRun: they cannot be read.
        """
        try:
            if self._steps.exists():
                return [as_note(value) for value in read_json(self._steps)]
            notes = [as_note(lines[0]) for lines in self._lines()]
        except (CorruptRun, AttributeError, KeyError, TypeError, ValueError) as error:
            raise self._corrupt(self._steps, f"is damaged ({error})") from None
        if not notes and self.state() is not None:
            raise self._corrupt(self._steps, "is missing")
        return notes

    def calls(self) -> list[Call]:
        """Return every role call of the committed steps, in order.

        Raises:
            CorruptRun: they cannot be read.
        """
        if self._steps.exists() and not self._calls.exists():
            raise self._corrupt(self._calls, "is missing")
        try:
            if self._calls.exists():
                return [Call(**row) for row in read_table(self._calls).to_pylist()]
            return self._step_calls()
        except (CorruptRun, KeyError, TypeError, ValueError) as error:
            raise self._corrupt(self._calls, f"is damaged ({error})") from None

    def close(self) -> None:
        """Put the steps and calls of an ended evolution into one file each; their small files go.

        The calls of workers stand in front; their own files stay.
        """
        if not self._steps.exists():
            calls = [call for share in self.shares() for call in share.calls()]
            write_values(Call, calls + self._step_calls(), self._calls)
            write_json(self._steps, [lines[0] for lines in self._lines()])
        for path in self.folder.glob("v*.calls.jsonl"):
            path.unlink(missing_ok=True)

    def _write_step(self, note: StepNote, calls: Sequence[Call], state: State | None = None) -> None:
        left = {} if state is None else {"state": as_json(state)}
        values = [{**asdict(note), **left}, *map(asdict, calls)]
        lines = [json.dumps(value, ensure_ascii=True) + "\n" for value in values]
        with replacing(self._step(note.version)) as partial:
            partial.write_text("".join(lines), encoding="utf-8")

    def _step_calls(self) -> list[Call]:
        return [Call(**value) for lines in self._lines() for value in lines[1:]]

    def _lines(self) -> Iterator[list[dict[str, Any]]]:
        """Yield the lines of each committed step.

        Raises:
            ValueError, KeyError, TypeError: a file of them is damaged.
        """
        state = self.state()
        for path in sorted(self.folder.glob("v*.calls.jsonl")):
            lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            if not lines:
                raise ValueError(f"{path.name} is empty")
            if state is not None and lines[0]["version"] <= state.version:
                yield lines

    def _last_state(self) -> State | None:
        """Return what the last step left whose playbook is there; None where no step can be read."""
        for value in reversed(list(self._first_lines())):
            try:
                state = as_state(value["state"])
                if codec.load(self.version(state.version)).digest == state.playbook_digest:
                    return state
            except (DataError, KeyError, TypeError, ValueError):
                continue
        return None

    def _first_lines(self) -> Iterator[Any]:
        with suppress(OSError, CorruptRun, TypeError):
            yield from read_json(self._steps)
        for path in sorted(self.folder.glob("v*.calls.jsonl")):
            with suppress(OSError, ValueError, RecursionError):
                yield json.loads(path.read_text(encoding="utf-8").partition("\n")[0])

    def _corrupt(self, path: Path, what: str) -> CorruptRun:
        """Return the error that says what helps: a retry sets aside what it cannot read and evolves again."""
        places = [folder.parent for folder in path.parents if folder.name == "playbooks"]
        run = places[0] if places else self.folder
        return CorruptRun(f"{path} {what}: restore it from a copy, or evolve again with `aceslm retry {run}`")

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
