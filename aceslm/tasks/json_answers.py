"""The answer that a JSON object gives: `answer`, `finalAnswer`, `label`, ..., nested or wrapped."""

from __future__ import annotations

import re
from collections.abc import Sequence

from aceslm.tasks.loose_json import find_json

_ANSWER_KEYS = (
    "answer", "choice", "option", "letter", "label", "class", "category", "predict", "result", "value",
    "output",
        "response", "solution", "verdict", "select", "state", "status", "conclusion", "total", "final",
    "decision", "diagnosis",
        "pick", "span", "item", "number", "amount",
)  # fmt: skip

_OTHER_KEYS = re.compile(
    r"reason|expla|rational|thought|think|analys|step|confid|justif|eviden|question"
    r"|context|note|working|calcul|unit|scale"
    r"|prob|score|source|formula|comment|why|because|index|options$|choices$|incorrect|wrong|currency"
)


_SUMMED = re.compile(r"total|number|amount")
_WORDED = re.compile(r"(?:(?:answer|option|choice)[ _]?)?(?:text|content)", re.IGNORECASE)


def json_answer(text: str, question: str = "") -> list[str] | None:
    """Return the answer that a JSON object of the reply gives, as texts; None where there is no such object.

    A letter comes with the text that stands beside it: they may differ. An answer that is null is an
    answer that was not given: [].
    """
    found = [one for one in find_json(text) if isinstance(one.value, dict)]
    for one in reversed(found):
        if isinstance(one.value, dict) and (answer := _answer_of(one.value, question)) is not None:
            return answer
    # an object that is the whole reply and gives no answer: the reasoning in it is none
    return [] if found and found[0].start == 0 and found[-1].end >= len(text.rstrip()) else None


def _answer_of(entries: dict[object, object], question: str = "") -> list[str] | None:
    keys = sorted(
        (rank, -n, key) for n, key in enumerate(map(str, entries)) if (rank := _rank(key)) is not None
    )
    asked = [key for key in entries if _is_asked(str(key), question)]
    if len(asked) == 1 and (not keys or _SUMMED.search(keys[0][2].lower())):
        return _texts(entries[asked[0]])
    if keys:
        _, _, key = keys[0]
        value = entries[key]
        scale = next(
            (str(entries[k]) for k in entries if str(k).lower() in {"scale", "unit", "units"} and entries[k]),
            "",
        )
        texts = _texts(value)
        if len(texts) == 1 and len(texts[0]) == 1:  # a letter, and the text that it stands for
            texts += [str(entries[key]) for key in entries if _WORDED.fullmatch(str(key)) and entries[key]]
        if (
            len(texts) == 1
            and scale
            and any(map(str.isdigit, texts[0]))
            and scale.lower() not in texts[0].lower()
        ):
            return [f"{texts[0]} {scale}"]
        return texts
    chosen = [
        str(key) for key, value in entries.items() if value is True or str(value).lower() in {"yes", "true"}
    ]
    rest = {key: value for key, value in entries.items() if not _OTHER_KEYS.search(str(key).lower())}
    flags = [
        value for value in rest.values() if isinstance(value, bool) or str(value).lower() in {"yes", "no"}
    ]
    if len(rest) > 1 and len(flags) == len(rest):
        return chosen
    if (top := likeliest([(str(key), value) for key, value in rest.items()])) is not None:
        return [top]
    return _texts(next(iter(rest.values()))) if len(rest) == 1 else None


def likeliest(shares: Sequence[tuple[str, object]]) -> str | None:
    """Return the name with the largest of several shares that make up 1 or 100; None for other numbers."""
    try:
        values = [float(str(share).rstrip("% ")) for _, share in shares]
    except ValueError:
        return None
    top = max(values, default=0.0)
    if (
        len(values) < 2
        or values.count(top) > 1
        or not any(abs(sum(values) - whole) <= 0.02 * whole for whole in (1, 100))
    ):
        return None
    return shares[values.index(top)][0]


def _is_asked(key: str, question: str) -> bool:
    """Say whether a question names a key: "free" of {"sold": 136, "free": 64}."""
    words = re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", key).lower())
    if _OTHER_KEYS.search("".join(words)) or words == ["a"]:
        return False
    return bool(words) and set(words) <= set(re.findall(r"[a-z0-9]+", question.lower()))


def _rank(key: str) -> int | None:
    letters = re.sub(r"[^a-z]", "", key.lower())
    if _OTHER_KEYS.search(letters):
        return None
    if "answer" in letters:
        return 0 if letters.startswith("final") else 1 if letters == "answer" else 2
    return next((3 + n for n, known in enumerate(_ANSWER_KEYS[1:]) if known in letters), None)


def _texts(value: object) -> list[str]:
    if value is None or value == "":
        return []
    if isinstance(value, dict):
        return _answer_of(value) or []
    if isinstance(value, list):
        return [text for one in value for text in _texts(one)]
    return [str(value)]
