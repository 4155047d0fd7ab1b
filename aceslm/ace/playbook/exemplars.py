"""Solved questions: what the model answered rightly before, shown with the questions most like them.

    exemplars = joined(playbook.exemplars, [solved(unit_id, question, answer, round_number=4)])
    nearest = ExemplarIndex(exemplars).nearest(question, 4)
    build_messages(sample, playbook, exemplars=turns_of(nearest))     # turns of the chat, behind the playbook

The answer of an exemplar is the model's own, judged right once its sample was scored (Zelikman et al. 2022,
STaR, keep what verification accepts in the same way): code makes exemplars, no model call does. A question is
never shown an exemplar of itself, so a second pass over the same samples tells no answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from aceslm.ace.playbook.bullets import Exemplar, tidy
from aceslm.ace.playbook.deltas import MAX_TEXT_CHARS, same_words
from aceslm.ace.playbook.retrieval import Ranking


class ExemplarIndex:
    """BM25 over the questions of exemplars."""

    def __init__(self, exemplars: Iterable[Exemplar]) -> None:
        self._exemplars = tuple(exemplars)
        self._ranking = Ranking([one.question for one in self._exemplars])

    def nearest(self, question: str, k: int) -> tuple[Exemplar, ...]:
        """Return at most `k` exemplars of other questions that share a word with this one, best first."""
        asked = same_words(question)
        ranked = (self._exemplars[n] for n in self._ranking.ranked(question))
        return tuple([one for one in ranked if same_words(one.question) != asked][:k])


def solved(unit_id: str, question: str, answer: str, round_number: int) -> Exemplar | None:
    """Return a rightly answered question as an exemplar; None where it is too long to be shown."""
    question, answer = tidy(question), tidy(answer)
    if not question or not answer or len(question) + len(answer) > MAX_TEXT_CHARS:
        return None
    return Exemplar(question, answer, unit_id, round_number)


def joined(known: Sequence[Exemplar], found: Iterable[Exemplar]) -> tuple[Exemplar, ...]:
    """Return `known` and those of `found` whose question is new, in order: the first answer stays."""
    questions = {same_words(one.question) for one in known}
    kept = list(known)
    for one in found:
        words = same_words(one.question)
        if words not in questions:
            questions.add(words)
            kept.append(one)
    return tuple(kept)


def turns_of(exemplars: Sequence[Exemplar]) -> tuple[tuple[str, str], ...]:
    """Return question and answer of each as turns of a chat, the nearest last: next to the question."""
    return tuple((one.question, one.answer) for one in reversed(exemplars))
