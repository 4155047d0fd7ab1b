"""Sample ids from what is asked: the same question has the same id in any file, under any name."""

from __future__ import annotations

from collections import Counter

from aceslm.core.digests import question_digest
from aceslm.data.importers.base import Found, Raw


def content_ids(found: Found, prefix: str) -> None:
    """Give every record an id by its question, context and choices; repeats of a record are dropped.

    The same question with another gold stays, with a number behind its id.
    """
    firsts: dict[tuple[str, str], str] = {}
    counts: Counter[str] = Counter()
    rows: list[tuple[str, Raw]] = []
    for where, raw in found.rows:
        asked = asked_digest(raw)
        first = firsts.setdefault((asked, str(raw["answer"]).strip()), where)
        if first is not where:
            found.dropped.append((f"{where} (as {first.rpartition(': ')[2]})", "repeats an earlier record"))
            continue
        counts[asked] += 1
        again = f"-{counts[asked]}" if counts[asked] > 1 else ""
        rows.append((where, {**raw, "id": f"{prefix}-{asked}{again}"}))
    found.rows = rows


def numbered_ids(rows: list[tuple[str, Raw]], prefix: str, counts: Counter[str]) -> list[tuple[str, Raw]]:
    """Return records with ids by content, repeats numbered: for published sets, which stay as they are."""
    named = []
    for where, raw in rows:
        asked = asked_digest(raw)
        counts[asked] += 1
        again = f"-{counts[asked]}" if counts[asked] > 1 else ""
        named.append((where, {**raw, "id": f"{prefix}-{asked}{again}"}))
    return named


def asked_digest(raw: Raw) -> str:
    """Return the digest of what a raw record asks."""
    return question_digest(raw["question"], raw.get("context", ""), raw.get("choices", ()))
