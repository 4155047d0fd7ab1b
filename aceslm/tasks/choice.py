"""Multiple choice: the reply names a letter, or the option's text; recorded in published order."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from string import ascii_uppercase

from aceslm.core.values import Sample
from aceslm.tasks.base import UNPARSED, Verdict, hit, permutation
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
from aceslm.tasks.option_letters import named_options, option_phrases, without_phrases
from aceslm.tasks.phrases import Mention, find_phrases, only_holder
from aceslm.tasks.text import first_sentence, normalise, unaccented

_MARKS = marks_of(
    "option|choice|letter|selection|diagnosis|decision|pick",
    "choose|select|pick|prefer|go with|going with|went with|opt for|opted for|chose|selected"
    "|settle on|lean(?:ing)? towards?|vote for"
    "|answer with|say|guess",
)
_PREFIX = 12  # characters: a shorter beginning of an option's text says little


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
        position = read_choice(text, tuple(sample.choices[index] for index in order), sample.question)
        if position is None:
            return UNPARSED
        pred = _letter(order[position])
        return hit(pred, pred == sample.answer)


def _letter(index: int) -> str:
    return chr(ord("A") + index)


def read_choice(text: str, shown: tuple[str, ...], question: str = "") -> int | None:
    """Return the position of the option that a reply chooses; None where it names none, or several.

    A letter is an option's letter, also where the options' texts are letters themselves; "blood group B"
    names the text.
    """
    text, shown = answer_text(unaccented(text), question), tuple(map(unaccented, shown))
    if (answers := json_answer(text)) is not None:
        found = distinct(_chosen(one, shown) for one in answers)
    else:
        found = next((one for one in _readings(plain_latex(text), shown) if one is not None), None)
    return None if found == SEVERAL else found


def _readings(text: str, shown: tuple[str, ...]) -> Iterator[int | None]:
    """Give what each mark of the reply says, the strongest first."""
    said = [(mark, _said(mark, shown)) for mark in stated(text, _MARKS)]
    yield SEVERAL if len({one for _, one in said if one is not None}) > 2 else last_said(said)
    lines = [line for line in text.split("\n") if line]
    if lines and _whole(lines[0], shown) is not None:
        yield distinct(_whole(line, shown) for line in lines)
    listed = _is_list(text.split("\n\n", 1)[0], shown)
    if not listed:
        yield _opens(text.split("\n", 1)[0], shown, strict=True)
    for _, mark_, after in concluded(text):
        if mark_ != "=":
            yield _chosen(first_sentence(after), shown)
    yield distinct(_opens(one, shown) for one in bold(text))
    mentions = named_options(text, shown)
    yield likely(text, mentions)
    if listed:
        yield _checked(text, mentions)
        yield SEVERAL
    if len(lines) > 1:
        yield _whole(lines[-1], shown)
    yield meant(text, mentions)
    yield last_left(text, mentions, len(shown))
    yield only_holder(text, shown) if len(lines) == 1 else None


def _said(mark: AnswerMark, shown: tuple[str, ...]) -> int | None:
    if mark.direct:
        return _chosen(mark.line, shown) if doubts(mark.line) else _opens(mark.line, shown)
    return _chosen(first_sentence(mark.line), shown)


def _whole(text: str, shown: tuple[str, ...]) -> int | None:
    """Return the option that a text is: its letter, its text, or the beginning of its text alone."""
    bare = re.sub(r"^\W+|\W+$", "", text) if not _TICK.search(text) else text
    if re.fullmatch(r"([A-Z])(?:\1{3,}|(?:\W+\1)+)", bare):
        bare = bare[0]  # one letter, again and again
    if len(bare) == 1 and 0 <= ascii_uppercase.find(bare.upper()) < len(shown):
        return ascii_uppercase.find(bare.upper())
    if (same := [n for n, option in enumerate(shown) if _as_written(option) == _as_written(text)]) != []:
        return same[0] if len(same) == 1 else SEVERAL
    said = normalise(text, articles=True)
    options = [normalise(option, articles=True) for option in shown]
    if (equal := [n for n, option in enumerate(options) if option and option == said]) != []:
        return equal[0] if len(equal) == 1 else SEVERAL
    if (counted := _counted(bare, options)) is not None:
        return counted
    begun = [n for n, option in enumerate(options) if len(said) >= _PREFIX and option.startswith(said)]
    return begun[0] if len(begun) == 1 else None


def _as_written(text: str) -> str:
    return " ".join(text.casefold().strip(" .*_`\"'").split())


_TICK = re.compile("[✗✘❌×✓✔✅]")
_ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth".split()
_ROMAN = "i ii iii iv v vi vii viii ix x".split()
_PLACE = re.compile(
    r"(?:the )?(option|choice|answer|number)? ?#?([0-9]{1,2}|[a-z]+)(?: (option|choice|answer|one))?",
    re.IGNORECASE,
)


def _counted(text: str, options: list[str]) -> int | None:
    """Return the option that a text counts: "Option 2", "the second option", "III"; None for numbers."""
    match = _PLACE.fullmatch(text)
    if match is None or any(re.fullmatch(r"[\d.,% -]+|[ivx]+", option) for option in options):
        return None
    word, named = match[2].lower(), bool(match[1] or match[3])
    if word.isdigit():
        place = int(word) - 1
    elif word in _ORDINALS and named:
        place = _ORDINALS.index(word)
    elif word in _ROMAN and (named or len(word) > 1):
        place = _ROMAN.index(word)
    else:
        return None
    return place if 0 <= place < len(options) else None


def _chosen(text: str, shown: tuple[str, ...]) -> int | None:
    if (whole := _whole(text, shown)) is not None:
        return whole
    return meant(text, named_options(text, shown, lower=True))


def _opens(text: str, shown: tuple[str, ...], *, strict: bool = False) -> int | None:
    """Return the option with which a text opens; `strict`: only its letter, or letter and text."""
    mentions = sorted(named_options(text, shown, lower=not strict), key=lambda one: one.start)
    if not mentions or (strict and not mentions[0].letter):
        return None
    if strict and leading(text, mentions) is None:
        return None
    found = meant(text, mentions)
    return found if found == mentions[0].value or found == SEVERAL else None


def _checked(text: str, mentions: Sequence[Mention]) -> int | None:
    """Return the only option of a list that is called right, or ticked."""
    return distinct(one.value for one in judged(text, mentions) if one.affirmed)


def _is_list(text: str, shown: tuple[str, ...]) -> bool:
    """Say whether a text repeats options as a list."""
    letters = ascii_uppercase[: len(shown)]
    text = text.replace("**", "")
    text = without_phrases(text, [(one.start, one.end) for one in find_phrases(text, option_phrases(shown))])
    listed = re.findall(rf"(?:^|[\s(])\(?([{letters}])[.):](?=\s|$)", text, re.MULTILINE)
    heads = re.findall(rf"^[-*_ (]*([{letters}])[.):](?=\s|$)", text, re.MULTILINE)
    in_line = len(set(listed)) > 1 and listed[0] == "A" and "\n" not in text and listed == sorted(listed)
    return len(set(heads)) > 1 or in_line
