"""Classification: the reply names one of the given labels."""

from __future__ import annotations

from aceslm.core.values import Sample
from aceslm.tasks.base import UNPARSED, Verdict, hit
from aceslm.tasks.text import answer_text, mentioned, normalise, without_lead


class Label:
    """Accuracy over the task's labels; a reply that names none, or several, is unparsed."""

    instruction = "Choice:"
    max_new_tokens = 16  # a label, also inside a short sentence

    def question_block(self, sample: Sample) -> str:
        # of five wordings the one under which the 135M model named a label in every reply to 60 adapt
        # questions of AI4I and 60 of NAB ("Answer with one of: ...": 6 and 60; "one label": 0 and 49)
        return f"{sample.question}\nChoose one of these: {', '.join(sample.choices)}"

    def gold(self, sample: Sample) -> str:
        return _known(sample, sample.answer) or sample.answer

    def judge(self, sample: Sample, text: str) -> Verdict:
        reply = without_lead(answer_text(text))
        label = _known(sample, reply) or _first_named(sample, reply)
        if label is None:
            return UNPARSED
        return hit(label, label == self.gold(sample))


def _known(sample: Sample, text: str) -> str | None:
    wanted = normalise(text)
    return next((label for label in sample.choices if normalise(label) == wanted), None)


def _first_named(sample: Sample, text: str) -> str | None:
    """Return the only label named in the first line that names any; a longer label wins over its parts.

    "not normal" names no label: it is left unparsed rather than read as its opposite, or as "normal".
    """
    labels = [normalise(label) for label in sample.choices]
    for line in text.split("\n"):
        said = normalise(line)
        if named := mentioned(said, labels):
            return sample.choices[named[0]] if len(named) == 1 else None
        if any(f" {label} " in f" {said} " for label in labels if label):
            return None
    return None
