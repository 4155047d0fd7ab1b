"""Playbooks as files: JSON lines with a header, written atomically; equal playbooks give equal bytes.

    save(path, playbook)
    playbook = load(path)

The first line holds version, next number, digest and schema; each further line is a bullet, or behind all
bullets an exemplar (`question answer source_unit created`). A file edited by hand loads once the `digest` is
taken out of its header. Files of the first prototype load too: no header, entries with `id domain text
success_count failure_count created_at last_used_at`, later also `helpful_count harmful_count` (which then
count). Their clock times have no counterpart in rounds: both rounds are 0.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from aceslm.ace.playbook.bullets import DEFAULT_SECTION, Bullet, Exemplar, Playbook, tidy
from aceslm.core.errors import DataError
from aceslm.core.files import replacing

FORMAT = "aceslm-playbook"
SCHEMA = 1

_FIELDS = {field.name: field.type for field in fields(Bullet)}
_EXEMPLAR_FIELDS = tuple(field.name for field in fields(Exemplar))
_COUNTERS = ("helpful", "harmful", "created", "last_used")


def dumps(playbook: Playbook) -> str:
    """Return the file's text."""
    header = {
        "format": FORMAT,
        "schema": SCHEMA,
        "version": playbook.version,
        "next_number": playbook.next_number,
        "digest": playbook.digest,
    }
    lines = [header, *map(asdict, playbook.bullets), *map(asdict, playbook.exemplars)]
    return "".join(json.dumps(line, ensure_ascii=True) + "\n" for line in lines)


def loads(text: str, where: str) -> Playbook:
    """Read a file's text; `where` names it in errors.

    Raises:
        DataError: names file, line and what is wrong there.
    """
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    values = [(number, _object(line, f"{where}:{number}")) for number, line in lines]
    if values and values[0][1].get("format") != FORMAT and "bullet_id" not in values[0][1]:
        return _prototype(values, where)
    if not values or "format" not in values[0][1]:
        raise DataError(f'{where}:1: no header line; a playbook starts with {{"format": "{FORMAT}", ...}}')
    header = _checked_header(values[0][1], f"{where}:{values[0][0]}")
    bullets: list[Bullet] = []
    exemplars: list[Exemplar] = []
    for number, value in values[1:]:
        if "question" in value:
            exemplars.append(_exemplar(value, f"{where}:{number}"))
            continue
        bullet = _bullet(value, f"{where}:{number}")
        if bullets and bullet.number <= bullets[-1].number:
            raise DataError(f"{where}:{number}: {bullet.bullet_id} stands after {bullets[-1].bullet_id}")
        bullets.append(bullet)
    try:
        playbook = Playbook(header["version"], tuple(bullets), header["next_number"], tuple(exemplars))
    except ValueError as error:
        raise DataError(f"{where}:{values[0][0]}: {error}") from None
    if header.get("digest", playbook.digest) != playbook.digest:
        raise DataError(
            f"{where}:{values[0][0]}: the digest does not fit the bullets: the file was cut or edited; take "
            "the digest out of the header to use it as it is"
        )
    return playbook


def save(path: Path, playbook: Playbook) -> None:
    """Write a playbook atomically."""
    with replacing(path) as partial:
        partial.write_text(dumps(playbook), encoding="utf-8", newline="\n")


def load(path: Path) -> Playbook:
    """Read a playbook file, ours or the prototype's.

    Raises:
        DataError: no such file, or not a playbook; names the line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise DataError(f"playbook {path}: {reason}") from None
    return loads(text, str(path))


def is_playbook(path: Path) -> bool:
    """Return whether a file is a playbook."""
    try:
        load(path)
    except DataError:
        return False
    return True


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise DataError(f"{where}: expected a JSON object, found {type(value).__name__}")
    return value


def _checked_header(header: dict[str, Any], where: str) -> dict[str, Any]:
    if header["format"] != FORMAT:
        raise DataError(f"{where}: format '{header['format']}' is not '{FORMAT}'")
    if header.get("schema") != SCHEMA:
        raise DataError(f"{where}: schema {header.get('schema')} is not {SCHEMA}, the one this version reads")
    for key in ("version", "next_number"):
        if not _is_count(header.get(key)):
            raise DataError(f"{where}: key '{key}': expected a whole number, found {header.get(key)!r}")
    return header


def _bullet(value: Mapping[str, Any], where: str) -> Bullet:
    if value.keys() != _FIELDS.keys():
        odd = ", ".join(sorted(value.keys() ^ _FIELDS.keys()))
        raise DataError(f"{where}: a bullet has the keys {', '.join(_FIELDS)}; missing or unknown: {odd}")
    for key in ("bullet_id", "section", "text", "status"):
        if not isinstance(value[key], str):
            raise DataError(f"{where}: key '{key}': expected text, found {value[key]!r}")
    for key in _COUNTERS:
        if not _is_count(value[key]):
            raise DataError(f"{where}: key '{key}': expected a whole number, found {value[key]!r}")
    units = value["source_units"]
    if not isinstance(units, list) or not all(isinstance(unit, str) for unit in units):
        raise DataError(f"{where}: key 'source_units': expected a list of texts, found {units!r}")
    try:
        return Bullet(**{**value, "source_units": tuple(units)})
    except ValueError as error:
        raise DataError(f"{where}: {error}") from None


def _exemplar(value: Mapping[str, Any], where: str) -> Exemplar:
    if set(value) != set(_EXEMPLAR_FIELDS):
        odd = ", ".join(sorted(set(value) ^ set(_EXEMPLAR_FIELDS)))
        raise DataError(
            f"{where}: an exemplar has the keys {', '.join(_EXEMPLAR_FIELDS)}; missing or unknown: {odd}"
        )
    for key in ("question", "answer", "source_unit"):
        if not isinstance(value[key], str):
            raise DataError(f"{where}: key '{key}': expected text, found {value[key]!r}")
    if not _is_count(value["created"]):
        raise DataError(f"{where}: key 'created': expected a whole number, found {value['created']!r}")
    try:
        return Exemplar(**value)
    except ValueError as error:
        raise DataError(f"{where}: {error}") from None


def _prototype(values: list[tuple[int, dict[str, Any]]], where: str) -> Playbook:
    """Read entries of the prototype; ids that are not ours are numbered anew, in the order of the file."""
    ids = [value.get("id") for _, value in values]
    ours = all(isinstance(one, str) and re.fullmatch(r"b[1-9][0-9]{0,8}", one) for one in ids)
    keep = ours and len(set(ids)) == len(ids)
    bullets = []
    for position, (number, value) in enumerate(values, start=1):
        bullet_id = str(value["id"]) if keep else f"b{position}"
        bullets.append(_prototype_bullet(value, bullet_id, f"{where}:{number}"))
    last = max((bullet.number for bullet in bullets), default=0)
    return Playbook(0, (), last + 1).with_bullets(bullets)


def _prototype_bullet(value: Mapping[str, Any], bullet_id: str, where: str) -> Bullet:
    text = value.get("text")
    if not isinstance(text, str) or not tidy(text):
        raise DataError(f"{where}: key 'text': expected a lesson, found {text!r}")
    domain = value.get("domain", "")
    counts: dict[str, int] = {}
    for name, keys in (
        ("helpful", ("helpful_count", "success_count")),
        ("harmful", ("harmful_count", "failure_count")),
    ):
        counts[name] = next((value[key] for key in keys if key in value), 0)
        if not _is_count(counts[name]):
            raise DataError(f"{where}: key '{keys[0]}': expected a whole number, found {counts[name]!r}")
    section = tidy(domain) if isinstance(domain, str) else ""
    return Bullet(bullet_id, section or DEFAULT_SECTION, tidy(text), counts["helpful"], counts["harmful"])


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
