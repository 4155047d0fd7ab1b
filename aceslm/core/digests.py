"""Digests: how identity is computed, in one place.

A digest is the SHA-256 of canonical JSON (sorted keys, no spaces, UTF-8), so it depends on values only:
not on dict order, not on the Python version, not on the machine.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def digest(*parts: Any, length: int = 16) -> str:
    """Return the first `length` hex digits of the SHA-256 of `parts` (any JSON values)."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:length]


def question_digest(question: str, context: str, choices: Sequence[str]) -> str:
    """Return the digest of what is asked, whatever it is called and whatever its gold is.

    Case, white space and the order of the choices do not make another question.
    """
    return digest("question", _folded(question), _folded(context), sorted(map(_folded, choices)))


def context_digest(context: str) -> str:
    """Return the digest that names a context by its text."""
    return digest("context", _folded(context), length=12)


def _folded(text: str) -> str:
    text = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return " ".join(text.casefold().split())


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
