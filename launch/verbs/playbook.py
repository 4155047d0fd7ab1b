"""`aceslm playbook`: look at playbook files, compare them, put several together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from launch.verbs.options import JsonOption, token_counter

if TYPE_CHECKING:
    from aceslm.ace.playbook.bullets import Bullet, Playbook
    from aceslm.ace.playbook.diff import Difference

PlaybookArgument = Annotated[
    Path, typer.Argument(help="A playbook file (v0007.jsonl, or the prototype's JSONL).", metavar="F")
]


def show(playbook: PlaybookArgument, json_: JsonOption = False) -> None:
    """Show the bullets of one playbook with their counters, and its exemplars."""
    from dataclasses import asdict

    from aceslm.ace.playbook import codec
    from launch.show.console import print_json, print_table, say

    loaded = codec.load(playbook)
    if json_:
        facts = {"version": loaded.version, "next_number": loaded.next_number, "digest": loaded.digest}
        bullets, exemplars = map(asdict, loaded.bullets), map(asdict, loaded.exemplars)
        print_json({**facts, "bullets": list(bullets), "exemplars": list(exemplars)})
        return
    headers = ["id", "section", "lesson", "status", "helpful", "harmful", "created", "last used"]
    print_table(f"{playbook}: version {loaded.version}", headers, [_row(one) for one in loaded.bullets], 4)
    if loaded.exemplars:
        rows = [[one.question, one.answer, str(one.created)] for one in loaded.exemplars]
        print_table("exemplars", ["question", "answer", "created"], rows, 1)
    counts = f"{len(loaded.bullets)} bullets, {len(loaded.quarantined)} quarantined"
    say(f"{counts}, {len(loaded.exemplars)} exemplars; digest {loaded.digest}")


def diff(
    earlier: PlaybookArgument,
    later: Annotated[Path, typer.Argument(help="The playbook to compare with.", metavar="G")],
    json_: JsonOption = False,
) -> None:
    """Show what differs between two versions of a playbook: added, removed, reworded, counters."""
    from dataclasses import asdict

    from aceslm.ace.playbook import codec
    from aceslm.ace.playbook.diff import KINDS, differences
    from launch.show.console import print_json, print_table, say

    found = differences(codec.load(earlier), codec.load(later))
    if json_:
        print_json([{"bullet_id": one.bullet_id, "kind": one.kind, **asdict(one)} for one in found])
        return
    if found:
        headers = ["id", "what", "lesson", "status", "helpful", "harmful"]
        rows = [row for one in found for row in _difference_rows(one)]
        print_table(f"{earlier} -> {later}", headers, rows, 2)
    counts = {kind: sum(one.kind == kind for one in found) for kind in KINDS}
    say(", ".join(f"{count} {kind}" for kind, count in counts.items()))


def merge(
    playbooks: Annotated[
        list[Path], typer.Argument(help="What several evolved from the same base.", metavar="F...")
    ],
    base: Annotated[
        Path | None, typer.Option(help="The version that all of them started from; default: an empty one.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Write the merged playbook here.")] = None,
    similarity: Annotated[
        float, typer.Option(min=0.5, max=1.0, help="Bullets at least this alike become one.")
    ] = 0.9,
    json_: JsonOption = False,
) -> None:
    """Merge playbooks that evolved from one base: counters summed, the same lesson kept once.

    The order of the files does not matter. Bullets that are not in the base get new ids.
    """
    from dataclasses import asdict

    from aceslm.ace.playbook import codec
    from aceslm.ace.playbook.bullets import Playbook
    from aceslm.ace.playbook.merge import merge_workers
    from aceslm.core.errors import UsageError
    from launch.show.console import print_json, print_table, say

    if output is not None:
        _check_output(output, [*playbooks, *([base] if base else [])])
    start = codec.load(base) if base else Playbook()
    try:
        kept = merge_workers(start, [codec.load(path) for path in playbooks], threshold=similarity)
    except ValueError as error:
        raise UsageError(f"{error}: is --base {base} the version that all of them started from?") from None
    if output is not None:
        _save(output, kept.playbook)
    if json_:
        print_json({"dropped": [asdict(one) for one in kept.dropped], **asdict(kept.playbook)})
        return
    headers = ["id", "section", "lesson", "status", "helpful", "harmful", "created", "last used"]
    print_table(
        f"{len(playbooks)} playbooks merged", headers, [_row(one) for one in kept.playbook.bullets], 4
    )
    dropped = f"{len(kept.playbook.bullets)} bullets, {len(kept.dropped)} dropped as doubles"
    say(f"{dropped}; written: {output}" if output else f"{dropped}; --output F writes them")


def stats(
    playbooks: Annotated[
        list[Path],
        typer.Argument(help="Playbook files in the order of their versions, or folders.", metavar="F..."),
    ],
    tokenizer: Annotated[
        str | None, typer.Option(help="Count tokens of this model; without it words are counted.")
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Show the size, change and redundancy of playbook versions, a row each.

    Churn and survival compare a version with the one in the row above. A folder stands for all versions in
    it; each folder is a playbook of its own.
    """
    from launch.show.console import print_json, print_table

    count = token_counter(tokenizer) if tokenizer else _words
    unit = "tokens" if tokenizer else "words"
    groups = _groups(playbooks)
    rows = [row for group in groups for row in _stats(group, unit, lambda text: count([text])[0])]
    if json_:
        print_json(rows)
        return
    headers = ["playbook", *(name for name in rows[0] if name != "playbook")] if rows else ["playbook"]
    table = [[_short(row[name]) for name in headers] for row in rows]
    print_table("playbook versions", headers, table, numeric=len(headers) - 1)


def _stats(paths: Sequence[Path], unit: str, count: Callable[[str], int]) -> list[dict[str, Any]]:
    from aceslm.ace.measures import compare_versions, measure
    from aceslm.ace.playbook import codec

    rows: list[dict[str, Any]] = []
    before: Playbook | None = None
    for path in paths:
        playbook = codec.load(path)
        found = measure(playbook, count_tokens=count)
        change = compare_versions(before, playbook) if before is not None else None
        rows.append(
            {
                "playbook": str(path),
                "version": playbook.version,
                "bullets": found.num_bullets,
                "quarantined": found.num_quarantined,
                "exemplars": len(playbook.exemplars),
                unit: found.tokens,
                "added": change.added if change else None,
                "removed": change.removed if change else None,
                "reworded": change.reworded if change else None,
                "churn": change.churn if change else None,
                "survival": change.survival if change else None,
                "redundancy": found.redundancy,
                "helpful": sum(bullet.helpful for bullet in playbook.bullets),
                "harmful": sum(bullet.harmful for bullet in playbook.bullets),
            }
        )
        before = playbook
    return rows


def _groups(paths: Sequence[Path]) -> list[list[Path]]:
    """Return files that are successive versions: those of each folder, and the files given one by one."""
    from aceslm.core.errors import UsageError

    single = [path for path in paths if not path.is_dir()]
    groups = [single] if single else []
    for folder in (path for path in paths if path.is_dir()):
        found = sorted(path for path in folder.glob("*.jsonl") if not path.name.endswith(".calls.jsonl"))
        if not found:
            raise UsageError(f"{folder}: no playbook files (*.jsonl) in this folder")
        groups.append(found)
    return groups


def _words(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def _check_output(output: Path, inputs: Sequence[Path]) -> None:
    """Refuse to write over a playbook that is merged, one of a run, or a file that is none.

    Raises:
        UsageError: names the file.
    """
    from aceslm.ace.playbook.codec import is_playbook
    from launch.prepare.outputs import refuse_foreign, refuse_inputs, refuse_run_files

    for path in inputs:
        refuse_inputs("--output", output, {"playbook": path})
    refuse_run_files("--output", output)
    refuse_foreign("--output", output, is_playbook, "a playbook")


def _save(path: Path, playbook: Playbook) -> None:
    from aceslm.ace.playbook import codec
    from aceslm.core.errors import WorkError

    try:
        codec.save(path, playbook)
    except OSError as error:
        raise WorkError(f"--output {path}: {error.strerror or error}") from None


def _row(bullet: Bullet) -> list[str]:
    texts = [bullet.bullet_id, bullet.section, bullet.text, bullet.status]
    counts = (bullet.helpful, bullet.harmful, bullet.created, bullet.last_used)
    return [*texts, *map(str, counts)]


def _difference_rows(one: Difference) -> list[list[str]]:
    """Return a row, or two where the wording changed: the old lesson above the new one."""
    before, after = one.before, one.after
    status = one.shown.status
    if before and after and before.status != status:
        status = f"{before.status} -> {status}"
    row = [one.bullet_id, one.kind, one.shown.text, status, _count(one, "helpful"), _count(one, "harmful")]
    if before and after and one.kind == "reworded":
        moved = f"section {before.section} -> {after.section}"
        return [["", "was", before.text if before.text != after.text else moved, "", "", ""], row]
    return [row]


def _count(one: Difference, name: str) -> str:
    """Return a counter, with its change where there is one."""
    now = int(getattr(one.shown, name))
    change = now - int(getattr(one.before, name)) if one.before and one.after else 0
    return f"{now} ({change:+d})" if change else str(now)


def _short(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
