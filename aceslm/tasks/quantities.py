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

_WORDS = {
    "%": "percent",
    "mn": "million",
    "bn": "billion",
    "tn": "trillion",
    "pct": "percent",
    "pp": "percent",
    "mln": "million",
}
_SUFFIXES = {"k": "thousand", "m": "million", "mm": "million", "b": "billion", "t": "trillion"}
_FOLDED = {"hundred": Decimal(100), "dozen": Decimal(12), "lakh": Decimal(10) ** 5, "crore": Decimal(10) ** 7}
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_SUPERSCRIPT_RUN = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺]+")
_VULGAR = re.compile("[¼½¾⅐-⅞]")

# A digit glued to a letter (Q3, H2O, m^2) is part of a word, digits before one (1st, 3D) are no number either
# unless the letters are a unit or a scale; a dash after a word or digit is a hyphen. Thousands are parted by
# commas, points (1.234.567, 1.234,5), spaces or apostrophes; a comma before one or two digits is a decimal.
_QUANTITY = re.compile(
    r"""(?<![\w.^])
    (?P<open>\(\s*)?
    (?:(?<![\w)])(?P<minus>-)\s?|\+)?
    (?P<currency>(?:us|au?|ca?|nz|hk|s|r)?[$€£¥₹₩₽₺]|(?:usd|eur|gbp|jpy|chf|cad|aud|rmb|cny|inr|rs\.?)(?=[\s0-9]))?\s?
    (?P<minus2>-)?(?P<open2>\(\s*)?
    (?P<digits>(?>
        (?<![0-9],)[0-9]{1,3}(?:\.[0-9]{3})+,[0-9]+(?![0-9,])
       |[0-9]{1,3}(?:\.[0-9]{3}){2,}(?![0-9,]|\.[0-9])
       |[0-9]{1,3}(?:[ ][0-9]{3})+(?![0-9]|[ ][0-9])(?:[.,][0-9]+)?(?!,[0-9])
       |[0-9]{1,3}(?:['’][0-9]{3})+(?![0-9])(?:\.[0-9]+)?
       |(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,2}(?:,[0-9]{2})+,[0-9]{3})(?![0-9]|,[0-9])(?:\.[0-9]+)?
       |(?<![0-9],)[0-9]+,[0-9]{1,2}(?![0-9]|[,.][0-9])
       |[0-9]+(?:\.[0-9]+)?|\.[0-9]+))
    (?!(?:st|nd|rd|th|d)(?![\w]))
    (?:[ ](?P<top>[0-9]{1,3})/(?P<bottom>[1-9][0-9]{0,2})(?![0-9/]|\.[0-9]))?
    (?:e(?P<exponent>[-+]?[0-9]{1,3})(?!\w)|\s?[x×*]\s?10\s?(?:\^|\*\*)\s?\{?(?P<power>[-+]?[0-9]{1,3})\}?)?
    (?:\s?/\s?(?P<divisor>(?=[0-9.,]*[1-9])(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,9}(?:\.[0-9]{1,9})?))(?![0-9/]|\.[0-9]))?
    (?P<inner>\s?%)?
    (?P<close>\s*\))?
    (?:\s*(?P<scale>%|(?:percent(?:age\s+point)?(?:age)?|pp|per\s+cent|pct|thousand|million|billion|trillion|hundred|dozen|lakh|crore
        |mn|mln|bn|tn)s?\b)
      |\s?(?P<suffix>[kbt]|mm?)\b)?""",
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
    text = _VULGAR.sub(lambda sign: f" {unicodedata.normalize('NFKC', sign.group())}", text)
    return re.sub(r"[−‒–—]", "-", unicodedata.normalize("NFKC", text)).replace("\u2044", "/")


def quantities(text: str) -> tuple[Quantity, ...]:
    """Return the numbers of `text` in reading order; offsets refer to `tidy(text)`."""
    return tuple(_quantity(match) for match in _QUANTITY.finditer(tidy(text)))


def as_quantity(text: str) -> Quantity | None:
    """Return the number that makes up the whole of `text`, or None."""
    match = _QUANTITY.fullmatch(tidy(text).strip())
    return _quantity(match) if match else None


def _quantity(match: re.Match[str]) -> Quantity:
    digits = _plain(match["digits"])
    exponent = int(match["exponent"] or match["power"] or 0)
    negative = bool(
        match["minus"] or match["minus2"] or ((match["open"] or match["open2"]) and match["close"])
    )
    printed = len(digits.partition(".")[2])
    value = Decimal(digits).scaleb(exponent) if exponent else Decimal(digits)  # scaleb rounds
    if match["top"]:
        value += Decimal(match["top"]) / Decimal(match["bottom"])
    if match["divisor"]:
        value /= Decimal(match["divisor"].replace(",", ""))
    scale = _scale(match)
    if scale in _FOLDED:
        value, scale = value * _FOLDED[scale], ""
    if match["top"] or match["divisor"] or scale != _scale(match):
        printed, exponent = max(0, -int(value.as_tuple().exponent)), 0
    return Quantity(
        value=value.copy_negate() if negative else value,
        scale=scale,
        decimals=max(0, printed - exponent),
        start=match.start(),
        end=match.end(),
    )


def _plain(digits: str) -> str:
    """Return digits with a decimal point and no separators."""
    digits = digits.replace(" ", "").replace("'", "").replace("’", "")
    if digits.count(".") > 1:
        return digits.replace(".", "")
    if "." in digits and digits.rfind(",") > digits.find("."):
        return digits.replace(".", "").replace(",", ".")
    tail = len(digits) - digits.rfind(",") - 1
    if digits.count(",") == 1 and "." not in digits and tail < 3:
        return digits.replace(",", ".")
    return digits.replace(",", "")


def _scale(match: re.Match[str]) -> str:
    if match["inner"]:
        return "percent"
    if match["suffix"]:
        return _suffix(match)
    word = (match["scale"] or "").lower()
    if word.startswith("per"):
        return "percent"
    word = word.rstrip("s")
    return _WORDS.get(word, word)


def _suffix(match: re.Match[str]) -> str:
    """Return the scale of a letter behind a number: "$5 m", "70K", "5M"; not of "12 m" or "5 b"."""
    letter = match["suffix"]
    glued = match.group()[-len(letter) - 1].isdigit()
    known = match["currency"] or (glued and (letter.isupper() or letter == "k"))
    return _SUFFIXES[letter.lower()] if known else ""
