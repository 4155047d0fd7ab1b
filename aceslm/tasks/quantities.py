"""Numbers as people write them: `$1,234.5 million`, `(12.3)%`, `1.2 x 10^-3`, `3/4`.

    quantities("Revenue rose to $1.2 billion")[0].scaled   # Decimal('1200000000.0')

Readers use this to check a gold answer, scorers to read a prediction: both sides mean the same by "number".
Brackets around a number are a minus sign, the accountant's convention. (The official TAT-QA evaluation
reads `(1,234)` as positive and `(1234)` as negative; that quirk belongs to its own metric, not here.)
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from decimal import Decimal

MULTIPLIERS = {
    "": Decimal(1),
    "percent": Decimal("0.01"),
    "thousand": Decimal(10) ** 3,
    "million": Decimal(10) ** 6,
    "billion": Decimal(10) ** 9,
    "trillion": Decimal(10) ** 12,
}
SCALES = tuple(scale for scale in MULTIPLIERS if scale)

_WORDS = {"%": "percent", "mn": "million", "bn": "billion", "tn": "trillion", "pct": "percent"}
_SUFFIXES = {"k": "thousand", "m": "million", "b": "billion", "t": "trillion"}
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_SUPERSCRIPT_RUN = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺]+")

# A digit glued to a letter (Q3, H2O, m^2) is part of a word; a dash after a word or digit is a hyphen.
# The one-letter suffixes need a currency in front: 300K is a temperature, $300K is an amount.
_QUANTITY = re.compile(
    r"""(?<![\w.^])
    (?P<open>\(\s*)?
    (?:(?<![\w)])(?P<minus>-)\s?|\+)?
    (?P<currency>(?:us|a|c|hk)?[$€£¥₹]|(?:usd|eur|gbp|rmb|inr|rs\.?)\s)?\s?
    (?P<minus2>-)?
    (?P<digits>[0-9]{1,3}(?:,[0-9]{2,3})+(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]+)?|\.[0-9]+)
    (?:e(?P<exponent>[-+]?[0-9]{1,3})(?!\w)|\s?[x×*]\s?10\s?(?:\^|\*\*)\s?\{?(?P<power>[-+]?[0-9]{1,3})\}?)?
    (?:\s?/\s?(?P<divisor>(?=[0-9.]*[1-9])[0-9]{1,9}(?:\.[0-9]{1,9})?)(?![0-9/]|\.[0-9]))?
    (?P<inner>\s?%)?
    (?P<close>\s*\))?
    (?:\s*(?P<scale>%|(?:percent(?:age)?|per\s+cent|pct|thousand|million|billion|trillion|mn|bn|tn)s?\b)
      |(?P<suffix>[kmbt])\b)?""",
    re.VERBOSE | re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Quantity:
    """One number read from a text: `value` in units of `scale` (`""` or one of `SCALES`).

    `decimals` counts the digits printed after the point (of `value`); `start` and `end` are offsets into
    the tidied text (`tidy`).
    """

    value: Decimal
    scale: str
    decimals: int
    start: int
    end: int

    @property
    def scaled(self) -> Decimal:
        """The value in ones: 1.2 million -> 1200000; 12 percent -> 0.12."""
        return self.value * MULTIPLIERS[self.scale]

    def __str__(self) -> str:
        """Return the plain digits, without separators, currency or scale."""
        text = f"{self.value:f}" if abs(self.value.adjusted()) < 30 else str(self.value)
        return "0" if self.value == 0 else text


def tidy(text: str) -> str:
    """Return `text` with compatibility forms, superscripts, odd spaces and minus signs made plain."""
    text = _SUPERSCRIPT_RUN.sub(lambda run: "^" + run.group().translate(_SUPERSCRIPTS), text)
    text = re.sub(r"(?<=[0-9])[\u00a0\u202f\u2009](?=[0-9]{3}\b)", ",", text)
    return re.sub(r"[−‒–—]", "-", unicodedata.normalize("NFKC", text))


def quantities(text: str) -> tuple[Quantity, ...]:
    """Return the numbers of `text` in reading order; offsets refer to `tidy(text)`."""
    return tuple(_quantity(match) for match in _QUANTITY.finditer(tidy(text)))


def as_quantity(text: str) -> Quantity | None:
    """Return the number that makes up the whole of `text`, or None."""
    match = _QUANTITY.fullmatch(tidy(text).strip())
    return _quantity(match) if match else None


def _quantity(match: re.Match[str]) -> Quantity:
    digits = match["digits"].replace(",", "")
    exponent = int(match["exponent"] or match["power"] or 0)
    negative = bool(match["minus"] or match["minus2"] or (match["open"] and match["close"]))
    printed = len(digits.partition(".")[2])
    value = Decimal(digits).scaleb(exponent) if exponent else Decimal(digits)  # scaleb rounds
    if match["divisor"]:
        value /= Decimal(match["divisor"])
        printed, exponent = max(0, -int(value.as_tuple().exponent)), 0
    return Quantity(
        value=value.copy_negate() if negative else value,
        scale=_scale(match),
        decimals=max(0, printed - exponent),
        start=match.start(),
        end=match.end(),
    )


def _scale(match: re.Match[str]) -> str:
    if match["inner"]:
        return "percent"
    if match["suffix"]:
        return _SUFFIXES[match["suffix"].lower()] if match["currency"] else ""
    word = (match["scale"] or "").lower()
    if word.startswith("per"):
        return "percent"
    word = word.rstrip("s")
    return _WORDS.get(word, word)
