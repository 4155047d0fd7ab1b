"""What the Reflector and the Curator are asked, and which bullets an answer is credited to.

    messages = reflector_messages(sample, completion.text, labels=True, bullets=used)
    messages = curator_messages("finance", playbook.render(), lessons)
    deltas = credit(used_bullets(in_prompt, cited=citations(text, playbook), retrieved=ids), correct=True)

For small models: short rules, one worked case of the domain, the case at hand last. What all prompts of a
round share stands in front, so that its keys and values are computed once. The Generator's prompt is
`aceslm.tasks.build_messages`: the playbook in front, retrieved bullets behind the context.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Sequence

from aceslm.ace.playbook.bullets import Bullet, Playbook, render_bullets
from aceslm.ace.playbook.deltas import HARMFUL, HELPFUL, Refusal, Tag, same_words
from aceslm.ace.roles import wording
from aceslm.ace.roles.parsing import Reflection
from aceslm.ace.roles.schemas import CURATOR_SCHEMA, REFLECTOR_SCHEMA
from aceslm.ace.roles.wording import DEFAULT_CASE, WORKED_CASES, WorkedCase
from aceslm.core.digests import digest
from aceslm.core.prompts import Message
from aceslm.core.values import Sample
from aceslm.tasks import ANSWER_TYPES, permutation
from aceslm.tasks.base import gold_spans

LESSONS_PER_CURATION = 3
ECHO_SHARE = 0.75  # of a worked lesson's words, in any order

_CITATION = re.compile(r"\[((?:\s*b[0-9]{1,9}\s*[,;]?)+)\]", re.IGNORECASE)


def role_digest() -> str:
    """Return the digest of all that the roles are told: part of a cell's identity."""
    prompts = [
        wording.ROLE_PROMPT_VERSION,
        *(_reflector_head(case, labels) for case in _cases() for labels in (True, False)),
        *(_curator_head(case) for case in _cases()),
    ]
    systems = [wording.REFLECTOR_SYSTEM, wording.CURATOR_SYSTEM]
    return digest(prompts, systems, REFLECTOR_SCHEMA, CURATOR_SCHEMA, LESSONS_PER_CURATION, ECHO_SHARE)


def reflector_messages(
    sample: Sample,
    answer: str,
    *,
    labels: bool,
    bullets: Sequence[Bullet] = (),
    earlier: Reflection | None = None,
) -> tuple[Message, ...]:
    """Ask what went wrong (or right) with one answer. Call it only after the sample was scored.

    Args:
        answer: the Generator's reply as it was.
        labels: show the correct answer; without, nothing in the prompt depends on the gold answer.
        bullets: those in the Generator's prompt that may be credited.
        earlier: the reflection of the round before, to be improved.
    """
    case = _case(sample.domain)
    blocks = [_reflector_head(case, labels)]
    if sample.context:
        blocks.append(f"Context:\n{sample.context}")
    if bullets:
        blocks.append(f"Lessons used:\n{render_bullets(bullets)}")
    correct = correct_answer(sample) if labels else None
    blocks.append(_answered(ANSWER_TYPES[sample.answer_type].question_block(sample), answer, correct))
    if earlier is not None:
        blocks.append(f"Your first lesson: {earlier.lesson}\nWrite a more useful one.")
    return _messages(wording.REFLECTOR_SYSTEM.format(about=case.about), [*blocks, "Reply:"])


def curator_messages(domain: str, playbook_text: str, lessons: Sequence[str]) -> tuple[Message, ...]:
    """Ask how the playbook should change, given at most `LESSONS_PER_CURATION` lessons of the Reflector."""
    case = _case(domain)
    blocks = [_curator_head(case), _list_and_lessons(playbook_text, lessons), "Reply:"]
    return _messages(wording.CURATOR_SYSTEM.format(about=case.about), blocks)


def correct_answer(sample: Sample) -> str:
    """Return the gold answer as a reader of the prompt would say it (option as shown, number with scale)."""
    if sample.answer_type == "choice":
        published = ord(sample.answer) - ord("A")
        letter = chr(ord("A") + permutation(sample).index(published))
        return f"{letter}. {sample.choices[published]}"
    return " ".join(("; ".join(gold_spans(sample)), sample.scale)).strip()


def citations(text: str, playbook: Playbook) -> tuple[str, ...]:
    """Return the ids of shown bullets that `text` cites as `[b3]` or `[b3, b7]`, in order, each once.

    Without brackets nothing is a citation: B12 is also a vitamin.
    """
    shown = {bullet.bullet_id for bullet in playbook.shown}
    marks = (match[1].lower() for match in _CITATION.finditer(text))
    cited = [bullet_id for mark in marks for bullet_id in re.findall(r"b[0-9]+", mark)]
    return tuple(dict.fromkeys(bullet_id for bullet_id in cited if bullet_id in shown))


def used_bullets(
    in_prompt: Collection[str], *, cited: Iterable[str], retrieved: Iterable[str]
) -> tuple[str, ...]:
    """Return the bullets that may be credited: in the prompt, and cited or retrieved for this question."""
    return tuple(dict.fromkeys(one for one in (*cited, *retrieved) if one in in_prompt))


def credit(
    used: Collection[str],
    *,
    correct: bool | None,
    cited: Collection[str] = (),
    reflection: Reflection | None = None,
) -> tuple[Tag, ...]:
    """Return at most one tag per used bullet; bullets outside `used` never get one.

    What the Reflector says of a bullet goes first. Else the outcome decides: a right answer was helped by
    every used bullet, a wrong one was harmed by those it cited. A bullet that was only retrieved is not
    blamed for a wrong answer: a model that is mostly wrong would lose every bullet.

    Args:
        correct: None where no gold answer may be used: then only the Reflector's word counts.
    """
    helpful = set(reflection.helpful if reflection else ())
    harmful = set(reflection.harmful if reflection else ())
    tags = []
    for bullet_id in used:
        if (bullet_id in helpful) != (bullet_id in harmful):
            tags.append(Tag(bullet_id, HELPFUL if bullet_id in helpful else HARMFUL))
        elif correct:
            tags.append(Tag(bullet_id, HELPFUL))
        elif correct is False and bullet_id in cited:
            tags.append(Tag(bullet_id, HARMFUL))
    return tuple(tags)


def echo_refusal(text: str) -> Refusal | None:
    """Refuse a lesson that repeats one of the worked cases: it was not learnt from any sample.

    Small models copy it with a word changed or something added, so most of its words are enough.
    """
    words = set(same_words(text).split())
    for case in _cases():
        for lesson in (case.lesson, case.known):
            told = set(same_words(lesson).split())
            if len(told & words) >= ECHO_SHARE * len(told):
                return Refusal("echo", "repeats the worked case of the prompt")
    return None


def _messages(system: str, blocks: Sequence[str]) -> tuple[Message, ...]:
    return (Message("system", system), Message("user", "\n\n".join(blocks)))


def _reflector_head(case: WorkedCase, labels: bool) -> str:
    reply = {"diagnosis": case.diagnosis, "lesson": case.lesson, "helpful": [], "harmful": []}
    shown = _answered(f"Question: {case.question}", case.answer, case.correct if labels else None)
    return f"{wording.REFLECTOR_RULES}\n\nWorked case\n{shown}\nReply: {json.dumps(reply)}\n\nYour case"


def _curator_head(case: WorkedCase) -> str:
    reply = {"operations": [{"op": "add", "section": case.section, "text": case.lesson}]}
    listed = f"## {case.section}\n- [b1] {case.known}"
    shown = _list_and_lessons(listed, [case.lesson, case.known])
    return f"{wording.CURATOR_RULES}\n\nWorked case\n{shown}\nReply: {json.dumps(reply)}\n\nYour case"


def _answered(question: str, answer: str, correct: str | None) -> str:
    lines = [question, f"Answer given: {answer.strip() or '(none)'}"]
    if correct is None:
        lines.append("Check the answer given against the question and its context.")
    else:
        lines.append(f"Correct answer: {correct}")
    return "\n".join(lines)


def _list_and_lessons(playbook_text: str, lessons: Sequence[str]) -> str:
    listed = "\n".join(f"- {lesson}" for lesson in lessons)
    return f"List:\n{playbook_text or '(empty)'}\nNew lessons:\n{listed}"


def _case(domain: str) -> WorkedCase:
    return WORKED_CASES.get(domain, DEFAULT_CASE)


def _cases() -> tuple[WorkedCase, ...]:
    return (*WORKED_CASES.values(), DEFAULT_CASE)
