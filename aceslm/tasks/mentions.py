"""Which of several named things a text means: options by their texts and letters, labels by their names.

A mention may be denied ("not A", "A is contraindicated", "Normal: no") or affirmed ("it is B", "B is
correct"). Where several stand that are not denied, and not exactly one is affirmed, none is meant.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

from aceslm.tasks.json_answers import likeliest
from aceslm.tasks.marked import AnswerMark, doubts
from aceslm.tasks.phrases import Mention

SEVERAL = -1  # named, but not which
_SIDES = 70  # characters around a mention that decide about it
_SMALL_WORDS = (
    r"(?:be|an?|the|any|is|are|was|to|really|as|classified|considered|signs?|evidence"
    r"|of|options?|choices?|letters?|answers?"
    r"|label|labels|labelled|labeled|appears?|looks?|seems?|shows?|indicates?|suggests?"
    r"|in|class|necessarily|at|all|clearly"
    r"|consistent|with|due|caused|by|exactly|quite|case|both|either|this|it|series|state)"
)
_DENIED_BEFORE = re.compile(
    r"(?:\b(?:not|cannot|never|neither|nor|non|without|isnt|except(?: for)?|rather"
    r" than|instead of|unlike|other than|nothing|no"
    r"|rul(?:es?|ed|ing) out|exclud(?:es?|ed|ing)|eliminat(?:es?|ed|ing)|reject(?:s"
    r"|ed|ing)?|discard(?:s|ed|ing)?|opposed to"
    r"|against|avoid|than|over|incorrect|wrong)|n['’]t)"
    rf"\b[\s:]*-?\s*(?:{_SMALL_WORDS}:?\s+){{0,5}}[\"'“‘(*_`\[]*$",
    re.IGNORECASE,
)
_BE = (
    r"(?:is|are|was|were|would be|would|seems?|looks?|can be|could be|should be|might"
    r" be|may be|be|being|were all|are all|are both)"
)
_DENIED_AFTER = re.compile(
    rf"^[\"'”’)*_`\]]*(?:\s\w+){{0,2}}?\s*(?:{_BE}\s+(?:\w+ly |also |all |both |the"
    rf" |an? |more |most |less |therefore |simply |just |so ){{0,3}}"
    r"(?:not\b|incorrect|wrong|false|contraindicated|unlikely|inappropriate|ruled"
    r" out|excluded|eliminated|out\b|irrelevant"
    r"|impossible|unrelated|never|distractor|insufficient|inconsistent|ineffective"
    r"|harmful|incompatible|inferior|untrue|invalid"
    r"|likely to be wrong|outdated|used for (?:other|different)|no\b|worse|unsafe|unsuitable|less)"
    r"|(?:isn|aren|wasn|doesn|don|can|won|wouldn|didn|couldn|shouldn)['’]t\b|(?:does"
    r"|do|did|can|could|would|should|will) ?not\b"
    r"|fails?\b|no longer\b)"
    r"|^[\"'”’)*_`\]]*\s*(?:at first|initially|on the surface|at a glance)\b"
    r"|^[\"'”’)*_`\]]*\s*(?:[:=(–|-]|->|<-+|←|→)[\s*(]*(?:no\b|false\b|incorrect|wrong"
    r"|not (?:correct|right|true|likely|the)\b|0\b(?!\.)|unlikely|contraindicated)"
    r"|^[\"'”’)*_`\].: -]*(?:✗|✘|❌|×|(?:no|false|incorrect|wrong)\s*(?:[:,;–—]|-\s|[\s.]*$))",
    re.IGNORECASE,
)
_AFFIRMED_AFTER = re.compile(
    rf"^[\"'”’)*_`\]]*(?:\s\w+){{0,2}}?\s*(?:{_BE}\s+(?:\w+ly |also |the |an? |most"
    rf" |my |more |therefore |thus |hence |still ){{0,4}}"
    r"(?:correct|right|best|true|answer|appropriate|likely|accurate|preferred|choice"
    r"|only|first-line|indicated|suitable|plausible"
    r"|probable|fitting|consistent|matches|favou?red|ideal)"
    r"|(?:fits|matches|makes (?:the )?most sense|it is\b|wins|describes|explains|applies)\b)"
    r"|^[\"'”’)*_`\]]*\s*(?:[:=(–|-]|->|<-+|←|→)[\s*(]*(?:this (?:one )?is )?(?:the )?"
    r"(?:yes\b|true\b|correct\b|1\b(?!\.))"
    r"|^[\"'”’)*_`\].: -]*(?:✓|✔|✅|(?:yes|true|correct|right)\s*(?:[:,;–—]|-\s|[\s.]*$))",
    re.IGNORECASE,
)
_AFFIRMED_BEFORE = re.compile(
    r"(?:\b(?:it['’]?s|that['’]?s|answer(?:s| with)?|is|are|was|were|be|choos(?:e"
    r"|ing)|chose|go(?:ing)? with|select(?:ed|ing)?|pick(?:ed|ing)?"
    r"|opt(?:ed|ing)? for|label(?:led|ed)?(?: it| this)?(?: as)?|classif(?:y|ied)(?:"
    r" (?:it|this|the \w+))?(?: as)?|considered"
    r"|appears?|looks?|seems?|indicates?|suggests?|points? to|called|but|only|leaves?"
    r"|leaving|therefore|thus|hence|so|conclude"
    r"|makes? (?:it|this|the \w+)"
    r"|categori[sz]ed? (?:it |this )?as|falls? (?:under|into)|due to|caused by|a case"
    r" of|shows?|mode|remains?|i['’]?d say|say|namely)"
    r"|[=→]|->|✓|✔|✅)"
    r"(?:\s(?:most |more |very |highly )?(?:likely|probably|clearly|definitely|therefore"
    r"|thus|actually|simply|then|rather|just|also|still"
    r"|consistent with|to be|an?|the|option|choice|letter|class|label|category|now"
    r"|that|it['’]?s|it is|in the))*"
    r"[\s:,]*[\"'“‘(*_`\[]*$",
    re.IGNORECASE,
)
_CONCEDED = re.compile(
    r"\b(?:while|although|(?:even )?though|despite|even if|at first|initially)\b[^,]*$", re.IGNORECASE
)
_JOINED = re.compile(
    r"^[\"'”’)*_`\]]*\s*(?:,|/|&|\+|-+>|→|\band/or\b|\band\b|\bor\b|\bnor\b|\bas well as\b"
    r"|,\s*(?:and|or)\b)[\s,]*(?:also |even |perhaps |possibly |maybe )?"
    r"(?:options? |choices? |the |an? )?[\"'“‘(*_`\[]*$",
    re.IGNORECASE,
)
_TOUCHING = re.compile(r"^[\"'”’)*_`\]]*\s?[.):,=–-]*\s?[\"'“‘(*_`\[]*$")
_STANDS_ALONE = re.compile(
    r"^[\"'”’)*_`\]]*\s*(?:$|[.,;:!?)\n–—(-]|(?:because|since|as|due|given|for|with"
    r"|but|which|rather|instead|based|—|not)\b)",
    re.IGNORECASE,
)
_OPENING = re.compile(
    r"^[\s\"'“‘(*_`\[#>-]*(?:(?:option|choice|letter|answer|label|class|an?|the|yes,?"
    r"|it['’]s|it is|most likely|likely|probably)\b[\s:.]*){0,3}[\"'“‘(*_`\[]*$",
    re.IGNORECASE,
)


def meant(text: str, mentions: Sequence[Mention]) -> int | None:
    """Return the value that a sentence or line means; SEVERAL where it names more, or None."""
    mentions = judged(text, mentions)
    for one, other in pairwise(mentions):
        if one.value != other.value and one.letter and not other.letter and not (one.denied or other.denied):
            between = text[one.end : other.start]
            if between and len(between) < 8 and _TOUCHING.match(between) and between.strip():
                return SEVERAL  # a letter with another option's text
    first = leading(text, mentions)
    if first is not None:
        return first
    standing = [one for one in mentions if not one.denied]
    affirmed = {one.value for one in standing if one.affirmed}
    values = affirmed if len(affirmed) == 1 else {one.value for one in standing}
    return SEVERAL if len(values) > 1 else next(iter(values), None)


_SHARE = re.compile(r"^[\"'”’)*_`\]]*\s*(?:[:=(|–-]|is|at|has|with)?\s*([0-9]{1,3}(?:\.[0-9]+)?)\s?%?")
_SHARE_BEFORE = re.compile(
    r"(?:^|[,;\n(]|\band)\s*([0-9]{1,3}(?:\.[0-9]+)?)\s?%?\s*(?:of |for )?[\"'“‘(*_`]*$"
)


def likely(text: str, mentions: Sequence[Mention]) -> int | None:
    """Return the value with the largest share where a text gives every one its probability."""
    shares = [(str(one.value), m[1]) for one in mentions if (m := _SHARE.match(text[one.end : one.end + 20]))]
    if len(shares) < len(mentions):
        ahead = [
            (str(one.value), _SHARE_BEFORE.search(text[max(0, one.start - 20) : one.start]))
            for one in mentions
        ]
        shares = [(name, found[1]) for name, found in ahead if found] if all(m for _, m in ahead) else shares
    if len({name for name, _ in shares}) < len(shares) or len(shares) < len({one.value for one in mentions}):
        return None
    top = likeliest(shares)
    return None if top is None else int(top)


_PLAINLY_NOT = re.compile(r"(?:\bnot|n['’]t|\bneither|\bnor)\s+(?:an?\s|the\s)?[\"'“‘(*_`]*$", re.IGNORECASE)
_PLAINLY_WRONG = re.compile(r"[\"'”’)*_`\]]*\s(?:is|are) (?:wrong|incorrect|false)\b", re.IGNORECASE)
_HEDGED = re.compile(
    r"\b(?:necessarily|always|sure|certain|clear|possible|cannot|know|only|enough"
    r"|may|might|could|just|both|either|yet"
    r"|think|seem|if)\b|\bcan['’]t",
    re.IGNORECASE,
)


def last_left(text: str, mentions: Sequence[Mention], count: int) -> int | None:
    """Return the one thing that is left where a text plainly denies all others ("not A, not B")."""
    left = set(range(count)) - {one.value for one in mentions}
    if not mentions or len(left) != 1 or _HEDGED.search(text):
        return None
    plain = all(
        _PLAINLY_NOT.search(text[max(0, one.start - 20) : one.start]) or _PLAINLY_WRONG.match(text, one.end)
        for one in mentions
    )
    return left.pop() if plain else None


def leading(text: str, mentions: Sequence[Mention]) -> int | None:
    """Return the value with which a text begins, where it stands for itself."""
    if not mentions or mentions[0].denied or not _OPENING.match(text[: mentions[0].start]):
        return None
    first = mentions[0]
    last = first
    for other in mentions[1:]:
        between = text[last.end : other.start]
        if _JOINED.match(between) and other.value != first.value and not other.denied:
            return SEVERAL
        if other.value != first.value or not _TOUCHING.match(between):
            break
        last = other
    if (
        not first.letter
        and text[last.end : last.end + 1] == ":"
        and any(one.value != first.value for one in mentions)
    ):
        return None  # "Normal: 20 %, anomalous: 80 %"
    if last is not first and first.letter:
        return first.value  # the letter with its own text, whatever follows
    return first.value if _STANDS_ALONE.match(text[last.end : last.end + _SIDES]) else None


def judged(text: str, mentions: Sequence[Mention]) -> list[Mention]:
    """Return the mentions with what is said of them; joined ones ("A, B and D") share it."""
    mentions = sorted(mentions, key=lambda one: one.start)
    result: list[Mention] = []
    spoken = 0  # up to here the text speaks of the mention before
    for n, one in enumerate(mentions):
        high = mentions[n + 1].start if n + 1 < len(mentions) else len(text)
        before = _clause_end(text[max(spoken, one.start - _SIDES) : one.start])
        after = _clause_start(text[one.end : min(high, one.end + _SIDES)])
        said = _DENIED_AFTER.match(after) or _AFFIRMED_AFTER.match(after)
        spoken = one.end + said.end() if said else one.end
        denied = bool(_DENIED_BEFORE.search(before) or _DENIED_AFTER.match(after))
        affirmed = not denied and bool(said or _AFFIRMED_BEFORE.search(before))
        affirmed = affirmed and not _CONCEDED.search(before)
        result.append(replace(one, denied=denied, affirmed=affirmed))
    start = 0
    for n in range(1, len(result) + 1):
        if n < len(result) and _same_group(text, result[n - 1], result[n]):
            continue
        group = result[start:n]
        listed = group[0].denied and text[: group[0].start].endswith(": ")  # "Incorrect answers: A, B"
        if not listed and all(
            text[a.end : b.start].strip() == "," for a, b in pairwise(group) if a.value != b.value
        ):
            start = n  # only commas: clauses, not a list
            continue
        denied = group[0].denied or (len(group) > 1 and group[-1].denied)
        affirmed = any(one.affirmed for one in group) and not denied
        result[start:n] = [replace(one, denied=denied, affirmed=affirmed) for one in group]
        start = n
    return result


def _same_group(text: str, one: Mention, other: Mention) -> bool:
    between = text[one.end : other.start]
    if one.value == other.value:
        return len(between) < 12 and bool(_TOUCHING.match(between))
    return len(between) < 40 and bool(_JOINED.match(between))


def _clause_end(before: str) -> str:
    """Return what of the text before a mention belongs to its clause."""
    return re.split(r"[.;!?\n](?=\s|$)|\bbut\b(?=.*\w)", before)[-1] if before else before


def _clause_start(after: str) -> str:
    return re.split(r"(?<=[\w)\"'*])[.;!?](?=\s)|\n|\bbut\b|\bbecause\b", after, maxsplit=1)[0]


def last_said(said: Iterable[tuple[AnswerMark, int | None]]) -> int | None:
    """Return what the first mark (of the last ones first) says that says anything."""
    known = [(mark, value) for mark, value in said if value is not None]
    if not known:
        return None
    (mark, value), *others = known
    if (mark.direct and doubts(mark.line)) or (mark.rival and others and others[0][1] != value):
        return SEVERAL
    return value


def distinct(values: Iterable[int | None]) -> int | None:
    """Return the only value; SEVERAL where there are more, None where there is none."""
    known = {one for one in values if one is not None}
    return SEVERAL if len(known) > 1 else next(iter(known), None)
