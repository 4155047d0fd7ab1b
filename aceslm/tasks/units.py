"""Which of two equal amounts is in the unit that a question asks for: "120 min = 2 hours"."""

from __future__ import annotations

import re
from collections.abc import Sequence

from aceslm.tasks.quantities import Quantity, tidy

UNIT_OF = re.compile(r"[0-9]\s*([A-Za-z]{1,14})\b")
UNIT = re.compile(r"\s?([A-Za-z]{1,14})\b")


def in_asked_unit(sides: Sequence[tuple[Quantity, str]], question: str) -> Quantity | None:
    """Return the only one of two equal amounts in whose unit the question asks."""
    named: list[Quantity] = []
    counted = re.search(r"\bhow many ([a-z]+)", question.lower())
    words = {counted[1]} if counted else set(re.findall(r"[a-z]+", question.lower()))
    for quantity, text in sides:
        unit = UNIT_OF.search(tidy(text))
        if unit and _unit_names(unit[1].lower()) & words:
            named.append(quantity)
    return named[0] if len(named) == 1 else None


_SHORT = {
    "h": "hour", "hr": "hour", "hrs": "hour", "min": "minute", "mins": "minute", "s": "second", "sec":
    "second", "secs": "second", "kg": "kilogram", "g": "gram", "m": "meter", "km": "kilometer", "cm":
    "centimeter", "mm": "millimeter", "l": "liter", "ml": "milliliter", "c": "cent", "d": "day", "mg":
    "milligram", "lb": "pound", "ft": "foot", "in": "inch",
}  # fmt: skip


def _unit_names(unit: str) -> set[str]:
    name = _SHORT.get(unit, unit.removesuffix("s"))
    metre = name.replace("meter", "metre").replace("liter", "litre")
    return {unit, name, f"{name}s", metre, f"{metre}s"} - {"in", "s", "m", "c", "d", "g", "l", "h"}
