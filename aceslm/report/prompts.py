"""A prompt as its skeleton: what is left when the texts that the page has anyway are taken out.

    parts = PromptParts(context="...", question="...", choices=("a", "b"), playbook="...")
    skeleton = take_out(text, parts)
    put_back(skeleton, parts) == text

Thousands of prompts then share a few skeletons. The marks are private-use characters; a prompt that holds one
itself is kept whole, and so is one that would not come back exactly.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

CONTEXT, QUESTION, PLAYBOOK, WHOLE = "\ue000", "\ue001", "\ue002", "\ue003"
_FIRST_CHOICE = 0xE010
_MAX_CHOICES = 100
_MARKS = re.compile("[\ue000-\ue07f]")


@dataclass(frozen=True, slots=True)
class PromptParts:
    """Texts that a prompt is made of and that the page holds elsewhere; `choices` in published order."""

    context: str
    question: str
    choices: tuple[str, ...] = ()
    playbook: str = ""


def take_out(text: str, parts: PromptParts) -> str:
    """Return the skeleton of a prompt, or `WHOLE` and the prompt itself."""
    if _MARKS.search(text):
        return WHOLE + text
    skeleton = text
    for mark, part in ((PLAYBOOK, parts.playbook), (CONTEXT, parts.context), (QUESTION, parts.question)):
        if len(part) > 1:
            skeleton = skeleton.replace(part, mark, 1)
    head, mark, tail = skeleton.partition(QUESTION)
    for number, choice in sorted(enumerate(parts.choices[:_MAX_CHOICES]), key=lambda one: -len(one[1])):
        if len(choice) > 1:
            tail = tail.replace(choice, chr(_FIRST_CHOICE + number), 1)
    skeleton = head + mark + tail
    return skeleton if put_back(skeleton, parts) == text else WHOLE + text


def put_back(skeleton: str, parts: PromptParts) -> str:
    """Return the prompt that `take_out` was given (the page does the same)."""
    if skeleton.startswith(WHOLE):
        return skeleton[1:]
    texts = {CONTEXT: parts.context, QUESTION: parts.question, PLAYBOOK: parts.playbook}
    texts |= {chr(_FIRST_CHOICE + n): choice for n, choice in enumerate(parts.choices[:_MAX_CHOICES])}
    return _MARKS.sub(lambda mark: texts.get(mark.group(), mark.group()), skeleton)
