"""Answer types, and the one prompt builder, parser and scorer that all modes share.

    messages = build_messages(sample, playbook=None)     # baseline
    messages = build_messages(sample, playbook="")       # scaffold: the ACE prompt with an empty playbook
    verdict = judge(sample, completion.text)

Changing the wording changes what is measured: raise PROMPT_VERSION with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from aceslm.core.prompts import Message
from aceslm.core.values import Sample
from aceslm.tasks.base import AnswerType, Verdict, permutation
from aceslm.tasks.choice import Choice
from aceslm.tasks.label import Label
from aceslm.tasks.number import Number
from aceslm.tasks.span import Span
from aceslm.tasks.tatqa import judge_tatqa, tatqa_kind

__all__ = [
    "ANSWER_TYPES",
    "DEFAULT_MAX_NEW_TOKENS",
    "PROMPT_VERSION",
    "Verdict",
    "build_messages",
    "gold",
    "judge",
    "permutation",
]

PROMPT_VERSION = "5"

ANSWER_TYPES: Mapping[str, AnswerType] = {
    "choice": Choice(),
    "number": Number(),
    "span": Span(),
    "label": Label(),
}
DEFAULT_MAX_NEW_TOKENS: Mapping[str, int] = {name: kind.max_new_tokens for name, kind in ANSWER_TYPES.items()}

_PLAYBOOK_HEAD = "Playbook of lessons from earlier questions:"
_EMPTY_PLAYBOOK = "(no lessons yet)"
_PLAYBOOK_TAIL = "Use the lessons of the playbook that apply to the question."


def build_messages(
    sample: Sample,
    playbook: str | None,
    retrieved: str = "",
    exemplars: Sequence[tuple[str, str]] = (),
) -> tuple[Message, ...]:
    """Build the prompt of one sample. The gold answer never enters it.

    The order is what makes the prefix shareable: playbook (byte-identical for all questions), context
    (identical for the questions of one table), retrieved bullets, question, format sentence. Exemplars are
    turns of the chat between playbook and context.

    Args:
        playbook: None for the baseline prompt; a text for the ACE prompt, "" being the empty playbook.
        retrieved: bullets ranked by this question; they stand behind the shared part.
        exemplars: questions like this one and their answers, in the order in which they stand.
    """
    kind = ANSWER_TYPES[sample.answer_type]
    blocks = []
    turns: list[Message] = []
    if playbook is not None:
        blocks.append(f"{_PLAYBOOK_HEAD}\n{playbook or _EMPTY_PLAYBOOK}\n{_PLAYBOOK_TAIL}")
    for question, answer in exemplars:
        asked = f"{kind.question_block(replace(sample, question=question))}\n{kind.instruction}"
        turns += [Message("user", "\n\n".join([*blocks, asked])), Message("assistant", answer)]
        blocks = []
    if sample.context:
        blocks.append(f"Context:\n{sample.context}")
    if retrieved:
        blocks.append(f"Lessons for this question:\n{retrieved}")
    blocks.append(f"{kind.question_block(sample)}\n{kind.instruction}")
    return (*turns, Message("user", "\n\n".join(blocks)))


def judge(sample: Sample, text: str) -> Verdict:
    """Read and score a reply; never raises. TAT-QA samples are scored by that benchmark's own metric."""
    if (published := tatqa_kind(sample)) is not None:
        return judge_tatqa(sample, text, published)
    return ANSWER_TYPES[sample.answer_type].judge(sample, text)


def gold(sample: Sample) -> str:
    """Return the gold answer as recorded in the results."""
    return ANSWER_TYPES[sample.answer_type].gold(sample)
