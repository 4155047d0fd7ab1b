"""Classification: the reply names one of the given labels."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache

from aceslm.core.values import Sample
from aceslm.tasks.base import UNPARSED, Verdict, hit
from aceslm.tasks.json_answers import json_answer
from aceslm.tasks.marked import (
    AnswerMark,
    answer_text,
    bold,
    concluded,
    doubts,
    marks_of,
    plain_latex,
    stated,
)
from aceslm.tasks.mentions import (
    SEVERAL,
    distinct,
    judged,
    last_left,
    last_said,
    leading,
    likely,
    meant,
)
from aceslm.tasks.phrases import Mention, find_phrases, only_holder
from aceslm.tasks.text import first_sentence, normalise

_MARKS = marks_of(
    r"label|class|classification|category|state|status|prediction|verdict|condition"
    r"|diagnosis|choice|option|failure mode|mode|result"
    r"|conclusion|output",
    "choose|select|pick|go with|opt for|classify (?:it|this|the \\w+) as|label (?:it|this) as|say|guess",
)


class Label:
    """Accuracy over the task's labels; a reply that names none, or several and marks none, is unparsed."""

    instruction = "Choice:"
    max_new_tokens = 16  # a label, also inside a short sentence

    def question_block(self, sample: Sample) -> str:
        # of five wordings the one under which the 135M model named a label in every reply to 60 adapt
        # questions of AI4I and 60 of NAB ("Answer with one of: ...": 6 and 60; "one label": 0 and 49)
        return f"{sample.question}\nChoose one of these: {', '.join(sample.choices)}"

    def gold(self, sample: Sample) -> str:
        known = _whole(sample.answer, sample.choices)
        return sample.answer if known is None or known == SEVERAL else sample.choices[known]

    def judge(self, sample: Sample, text: str) -> Verdict:
        found = read_label(text, sample.choices, sample.question)
        if found is None:
            return UNPARSED
        label = sample.choices[found]
        return hit(label, label == self.gold(sample))


def read_label(text: str, labels: tuple[str, ...], question: str = "") -> int | None:
    """Return the index of the label that a reply gives; None where it names none, or several."""
    text = answer_text(unicodedata.normalize("NFKC", text), question)
    if (answers := json_answer(text)) is not None:
        found = distinct(_named(one, labels) for one in answers)
    else:
        found = next((one for one in _readings(plain_latex(text), labels) if one is not None), None)
    return None if found == SEVERAL else found


def _readings(text: str, labels: tuple[str, ...]) -> Iterator[int | None]:
    """Give what each mark of the reply says, the strongest first."""
    yield _named(text, labels) if _GRADE.fullmatch(text) else _whole(text, labels)
    yield last_said((mark, _said(mark, labels)) for mark in stated(text, _MARKS))
    mentions = _mentions(text, labels)
    yield likely(text, mentions)
    lines = [line for line in text.split("\n") if line]
    yield _checked(lines, labels)
    if len(lines) > 1 and len(marked := bold(text)) == 1 and "**" not in lines[0]:
        yield _whole(marked[0], labels)
    if lines:
        yield (
            distinct(_whole(line, labels) for line in lines) if _whole(lines[0], labels) is not None else None
        )
        yield _opens(lines[0], labels, alone=True)
    for _, mark_, after in concluded(text):
        if mark_ != "=":
            yield _named(first_sentence(after), labels)
    yield distinct(_whole(one, labels) for one in bold(text))
    if len(lines) > 1:
        yield _whole(lines[-1], labels)
    yield meant(text, mentions)
    yield last_left(text, mentions, len(labels))
    yield only_holder(text, labels) if len(lines) == 1 and not mentions else None


def _said(mark: AnswerMark, labels: tuple[str, ...]) -> int | None:
    if mark.direct:
        return _named(mark.line, labels) if doubts(mark.line) else _opens(mark.line, labels)
    return _named(first_sentence(mark.line), labels)


def _checked(lines: Sequence[str], labels: tuple[str, ...]) -> int | None:
    """Return the only label that a list affirms ("normal: no / anomalous: yes"); SEVERAL for more."""
    opening = [
        rows[0]
        for line in lines
        if len(rows := judged(line, _mentions(line, labels))) == 1
        and not any(map(str.isalnum, line[: rows[0].start]))
    ]
    judgements = [one for one in opening if one.affirmed or one.denied]
    if len({one.value for one in judgements}) < 2:
        return None
    return distinct(one.value for one in judgements if one.affirmed)


@lru_cache(maxsize=512)
def _aliases(labels: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return all names of all labels and whose they are: "HDF (heat dissipation)" has three."""
    names: dict[str, set[int]] = {}
    for n, label in enumerate(labels):
        parts = [label, *re.split(r"\s*[()\[\]]\s*|\s+[-–:=]\s+|:\s+", label)]
        for part in parts if len(parts) > 2 else [label]:
            if normalise(part, articles=True):
                names.setdefault(part.strip().casefold(), set()).add(n)
    known = {name: next(iter(owners)) for name, owners in names.items() if len(owners) == 1}
    known |= {label.strip(): n for n, label in enumerate(labels)}
    return tuple(known), tuple(known.values())


def _without_shared(label: str, labels: tuple[str, ...]) -> str | None:
    """Return "tool wear" of "tool wear failure" where other labels are failures too."""
    words = _same(label).split()
    others = [_same(other).split()[-1:] for other in labels if other != label]
    short = " ".join(words[:-1])
    return short if len(words) > 1 and words[-1:] in others and not _COMMON.fullmatch(short) else None


def _whole(text: str, labels: tuple[str, ...]) -> int | None:
    names, owners = _aliases(labels)
    if {label.casefold() for label in labels} <= {"yes", "no", "true", "false"} and len(
        text.strip(" .")
    ) == 1:
        return distinct(
            n for n, label in enumerate(labels) if label[:1].casefold() == text.strip(" .").casefold()
        )
    wanted = "" if re.search("[✗✘❌×✓✔✅]", text) else _same(text)
    known = distinct(owner for name, owner in zip(names, owners, strict=True) if _same(name) == wanted)
    if known is None and wanted:
        return distinct(n for n, label in enumerate(labels) if _without_shared(label, labels) == wanted)
    return known


def _same(text: str) -> str:
    return normalise(re.sub(r"(?<=[a-z])(?=[A-Z][a-z])|_", " ", text), articles=True)


_GRADE = re.compile(
    r"\W*(?:(?:grade|class|level|stage|label|category|score|rating|type) )?"
    r"([0-9]{1,2})\s?(?:/\s?[0-9]{1,2}|out of [0-9]{1,2}|stars?|points?)?\W*",
    re.IGNORECASE,
)


def _named(text: str, labels: tuple[str, ...]) -> int | None:
    if (whole := _whole(text, labels)) is not None:
        return whole
    if (grade := _GRADE.fullmatch(text)) and all(label.isdigit() for label in labels):
        return labels.index(grade[1]) if grade[1] in labels else None
    return meant(text, _mentions(text, labels))


def _opens(text: str, labels: tuple[str, ...], *, alone: bool = False) -> int | None:
    mentions = sorted(_mentions(text, labels), key=lambda one: one.start)
    first = leading(text, mentions)
    if first is None or first == SEVERAL:
        return first
    found = meant(text, mentions)
    return found if found in {first, SEVERAL} else None


_USED_OF = re.compile(
    r"\s(?:ranges?|values?|bands?|patterns?|levels?|limits?|operation|behaviou?r|regions?|conditions?|data|readings?|points?)\b",
    re.IGNORECASE,
)
# Words that a sentence needs anyway name a label only where they stand for themselves.
_COMMON = re.compile(r"(?:yes|no|none|true|false|other|not|any|all|is|[a-z]|[0-9]{1,2})", re.IGNORECASE)
_BEFORE_COMMON = re.compile(
    r"(?:^|[:=\n\"'“‘(*_`\[>-]|\b(?:is|answer|label|say|class|category|choose|be|as"
    r"|a|definite|clear|mode|not)\b)\s*[\"'“‘(*_`\[]*$",
    re.IGNORECASE,
)
_AFTER_COMMON = re.compile(
    r"^[\"'”’)*_`\]]*\s*(?:$|[.,;:!?)\n–—(-]|(?:because|since|as|due|given|of (?:the"
    r"|these|them)|appl|based)\b)",
    re.IGNORECASE,
)


def _mentions(text: str, labels: tuple[str, ...]) -> list[Mention]:
    names, owners = _aliases(labels)
    found = [Mention(owners[one.value], one.start, one.end) for one in find_phrases(text, names)]
    found = [one for one in found if not _is_circumstance(text, one)]
    alone = [one for one in found if not _USED_OF.match(text, one.end)]
    found = alone or found  # "the normal range" says less than "normal"
    return [one for one in found if not _COMMON.fullmatch(text[one.start : one.end]) or _stands(text, one)]


_UNDER = re.compile(r"\b(?:under|during|outside|beyond|below|above|within) (?:the )?$", re.IGNORECASE)


def _is_circumstance(text: str, one: Mention) -> bool:
    """Say whether a label is only part of "under normal conditions"."""
    return bool(_USED_OF.match(text, one.end) and _UNDER.search(text[max(0, one.start - 15) : one.start]))


def _stands(text: str, one: Mention) -> bool:
    before, after = text[max(0, one.start - 20) : one.start], text[one.end : one.end + 20]
    return bool(_BEFORE_COMMON.search(before) and _AFTER_COMMON.match(after))
