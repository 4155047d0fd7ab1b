"""One unit -> its prompt. The same for every mode."""

from __future__ import annotations

from collections.abc import Sequence

from aceslm import tasks as task_types
from aceslm.core.digests import digest
from aceslm.core.prompts import Prompt
from aceslm.core.values import Cell, Sample, Unit
from aceslm.run.rows import noise_key


def prompt_for(
    cell: Cell,
    sample: Sample,
    unit: Unit,
    playbook: str = "",
    retrieved: str = "",
    exemplars: Sequence[tuple[str, str]] = (),
) -> Prompt:
    """Build the prompt of one unit. It never holds the gold answer.

    Args:
        playbook: the rendered playbook; the baseline has none.
        retrieved: bullets ranked by this question.
        exemplars: solved questions like this one, and their answers.
    """
    limit = cell.generation.max_new_tokens or task_types.DEFAULT_MAX_NEW_TOKENS[sample.answer_type]
    return Prompt(
        request_id=digest(unit.unit_id, "generator", 0, 0),
        messages=task_types.build_messages(
            sample, None if cell.mode == "baseline" else playbook, retrieved, exemplars
        ),
        max_new_tokens=limit,
        stop=cell.generation.stop,
        noise_key=noise_key(cell.seed, sample, unit.epoch, "generator", 0, 0),
    )
