"""An engine that learns what a test teaches it, and a task with all three splits, for tests of evolution."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from shards import work_shard

from aceslm.ace.roles.schemas import CURATOR_JSON, REFLECTOR_JSON
from aceslm.config.grid import GridConfig
from aceslm.core.paths import AttemptName, RunPaths
from aceslm.core.prompts import Completion, Prompt
from aceslm.core.values import GenerationSettings, Plan
from aceslm.engine.scripted import ScriptedEngine
from aceslm.plan.files import load_plans
from aceslm.plan.shards import levels
from aceslm.run.evolution_journal import Journal, final_playbook
from aceslm.run.evolution_state import State
from aceslm.run.shard import Outcome
from launch.prepare.run import prepare, write_run

ACE: dict[str, Any] = {"epochs": 2, "round_size": 4, "gate_samples": 8}
GOOD, BAD = "Say the golden word alone.", "Say nothing of use at all."

Knows = Callable[[int, str], bool]
Teaches = Callable[[int], Sequence[str]]


class Taught(ScriptedEngine):
    """Answers question n rightly where `knows(n, prompt)`; its Curator adds `teaches(place in the batch)`."""

    def __init__(
        self, knows: Knows = lambda _n, text: GOOD in text, teaches: Teaches = lambda _: [GOOD]
    ) -> None:
        super().__init__()
        self.knows, self.teaches = knows, teaches
        self.batches: list[list[Prompt]] = []
        self.settings: list[GenerationSettings] = []

    def generate(
        self,
        prompts: Sequence[Prompt],
        settings: GenerationSettings,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Iterator[Completion]:
        self.batches.append(list(prompts))
        self.settings.append(settings)
        self._ids = {prompt.request_id: n for n, prompt in enumerate(prompts)}
        yield from super().generate(prompts, settings, should_stop)

    def _answer(self, prompt: Prompt, text: str, settings: GenerationSettings) -> str:
        if prompt.json_schema == CURATOR_JSON:
            lessons = self.teaches(self._ids[prompt.request_id])
            added = [{"op": "add", "section": "reading", "text": lesson} for lesson in lessons]
            return json.dumps({"operations": added})
        if prompt.json_schema == REFLECTOR_JSON:
            return json.dumps(
                {"diagnosis": "Wrong word.", "lesson": "Read it once more.", "helpful": [], "harmful": []}
            )
        number = int(re.findall(r"number (\d+)", text)[-1])
        return gold(number) if self.knows(number, text) else "no idea"

    def questions(self, batch: int) -> list[int]:
        """The numbers of the questions of one batch of answers; empty for a batch of another role."""
        texts = [self.render(prompt) for prompt in self.batches[batch] if prompt.json_schema is None]
        return [int(re.findall(r"number (\d+)", text)[-1]) for text in texts]


def gold(number: int) -> str:
    return f"gold{number}word"


def split_task(folder: Path, *, eval_gold: Callable[[int], str] = gold, validate: int = 12) -> Path:
    """Eight questions to adapt on, some to validate with and six to score, in contexts of two."""
    splits = ["adapt"] * 8 + ["validate"] * validate + ["eval"] * 6
    rows = [
        {
            "id": f"s{n:02d}",
            "question": f"Which word has number {n} here?",
            "context": f"Table {n // 2}.",
            "context_id": f"c{n // 2}",
            "answer": eval_gold(n) if split == "eval" else gold(n),
            "answer_type": "span",
            "split": split,
        }
        for n, split in enumerate(splits)
    ]
    path = folder / "words.json"
    path.write_text(json.dumps(rows))
    return path


def planned(folder: Path, *, task: Path | None = None, **ace: Any) -> tuple[RunPaths, Plan]:
    """A run of `ace_frozen` with its adaptation."""
    folder.mkdir(exist_ok=True)
    values = ace.pop("grid", {})
    grid = {
        "models": ["scripted"],
        "tasks": [str(task or split_task(folder))],
        "modes": ["ace_frozen"],
        "ace": {**ACE, **ace},
        **values,
    }
    prepared = prepare(GridConfig.model_validate(grid), folder / "results")
    write_run(prepared)
    return prepared.paths, load_plans(prepared.paths)[0]


def play(
    paths: RunPaths,
    plan: Plan,
    engine: ScriptedEngine,
    *,
    backwards: bool = False,
    steps: Sequence[str] = ("evolve", "merge", "answer"),
    job: str = "j1",
) -> None:
    """Run the shards of a plan stage by stage; `backwards` within each stage."""
    stages = levels(plan.shards)
    shards = plan.shards[::-1] if backwards else plan.shards
    for shard in sorted(shards, key=lambda one: stages[one.shard_id]):
        if shard.step in steps:
            outcome = work_shard(paths, plan, shard, lambda _: engine, AttemptName(job))
            assert outcome in {Outcome.DONE, Outcome.ALREADY_DONE}


def journal(paths: RunPaths, plan: Plan) -> Journal:
    return Journal(paths.playbooks(next(cell.cell_id for cell in plan.cells if cell.evolves)))


def state(paths: RunPaths, plan: Plan) -> State:
    found = journal(paths, plan).state()
    assert found is not None
    return found


def shown(paths: RunPaths, plan: Plan) -> list[str]:
    """The lessons that the evolution ended with."""
    cell = next(cell for cell in plan.cells if cell.evolves)
    playbook = final_playbook(paths, cell)
    assert playbook is not None
    return [bullet.text for bullet in playbook.shown]


def files(paths: RunPaths) -> dict[str, bytes]:
    """Every playbook version of a run, by its place."""
    root = paths.root / "playbooks"
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("v*.jsonl"))
        if ".calls." not in path.name
    }
