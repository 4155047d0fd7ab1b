"""One unit -> its prompt. The same for every mode."""

from __future__ import annotations

from collections.abc import Sequence

from aceslm import tasks as task_types
from aceslm.core.digests import digest, question_digest
from aceslm.core.prompts import Prompt
from aceslm.core.values import Cell, Sample, Unit


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


def noise_key(seed: int, sample: Sample | None, *place: object) -> str:
    """Return the key of a request's sampling noise.

    Neither the gold answer nor the mode is in it: a corrected gold changes no sampled answer, and modes that
    are compared draw the same noise (common random numbers).

    Args:
        sample: what is asked about; None where it is not one sample.
        place: epoch or step, role, round and candidate.
    """
    asked = question_digest(sample.question, sample.context, sample.choices) if sample else ""
    return digest("noise", seed, asked, *place)
