"""Multiple choice: the reply names a letter, or the option's text; recorded in published order."""

from __future__ import annotations

from aceslm.core.values import Sample
from aceslm.tasks.base import UNPARSED, Verdict, hit, permutation
from aceslm.tasks.text import (
    answer_text,
    find_letter,
    lists_options,
    lone_letter,
    mentioned,
    normalise,
    without_lead,
)


class Choice:
    """Accuracy over lettered options, shown in a permuted order that depends on the sample id only."""

    instruction = "Answer with the letter of the correct option only."
    max_new_tokens = 8

    def question_block(self, sample: Sample) -> str:
        shown = [sample.choices[index] for index in permutation(sample)]
        options = "\n".join(f"{_letter(n)}. {text}" for n, text in enumerate(shown))
        return f"Question: {sample.question}\n{options}"

    def gold(self, sample: Sample) -> str:
        return sample.answer

    def judge(self, sample: Sample, text: str) -> Verdict:
        order = permutation(sample)
        position = find_letter(text, len(order))
        if position is None:
            if lists_options(text, len(order)):
                return UNPARSED
            named = _named_options(sample, text)
            if len(named) > 1:
                return UNPARSED
            position = order.index(named[0]) if named else lone_letter(text, len(order))
        if position is None:
            return UNPARSED
        pred = _letter(order[position])
        return hit(pred, pred == sample.answer)


def _letter(index: int) -> str:
    return chr(ord("A") + index)


def _named_options(sample: Sample, text: str) -> list[int]:
    """Return the published indices of the options that the reply names, in its first line if it does there.

    "beta blocker" inside "non-selective beta blocker" does not count on its own.
    """
    options = [normalise(choice, articles=True) for choice in sample.choices]
    reply = answer_text(text)
    for part in (without_lead(reply).split("\n")[0], reply):
        said = normalise(part, articles=True)
        equal = [n for n, option in enumerate(options) if option and option == said]
        if len(named := equal or mentioned(said, options)) == 1:
            return named
    return mentioned(normalise(reply, articles=True), options)
