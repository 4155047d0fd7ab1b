"""Classification: the reply names one of the given labels."""

from __future__ import annotations

from aceslm.records import Sample
from aceslm.tasks.base import UNPARSED, Verdict, hit
from aceslm.tasks.text import answer_text, mentioned, normalise, without_lead


class Label:
    """Accuracy over the task's labels; a reply that names none, or several, is unparsed."""

    instruction = "Label:"
    max_new_tokens = 8

    def question_block(self, sample: Sample) -> str:
        # of four wordings the one under which the 135M model names a label (validate split of NAB: 16 of 16
        # replies; "Answer with one label only.": none of 16)
        labels = ", ".join(sample.choices)
        return f"Question: {sample.question}\nChoose one label and write nothing else.\nLabels: {labels}"

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
