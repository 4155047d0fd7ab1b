"""`aceslm data import`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from launch.verbs.options import JsonOption, token_counter

_COLUMNS = "Columns (csv, jsonl, parquet)"
_SERIES = "Labels and windows (ai4i, nab)"


def import_(
    kind: Annotated[
        str, typer.Argument(help="tatqa, medqa, formula, ai4i, nab; csv, jsonl, parquet for any table.")
    ],
    src: Annotated[
        str, typer.Argument(help="The published file, the folder of them, or hf://datasets/ORG/NAME/FILE.")
    ],
    output: Annotated[Path, typer.Option(help="The task file to write: .jsonl or .parquet.")],
    split: Annotated[
        str, typer.Option(help="adapt, validate, eval; auto: by the file's name, or seeded by context.")
    ] = "auto",
    seed: Annotated[int, typer.Option(help="Keys the splits and the drawing of balanced labels.")] = 0,
    domain: Annotated[str | None, typer.Option(help="finance, medical, iot; default: the kind's.")] = None,
    only: Annotated[
        str | None, typer.Option(help="Keep only this answer type: choice, number, span or label.")
    ] = None,
    answer_type: Annotated[
        str | None,
        typer.Option(help="choice, number, span, label; default: inferred.", rich_help_panel=_COLUMNS),
    ] = None,
    question_column: Annotated[str, typer.Option(rich_help_panel=_COLUMNS)] = "question",
    answer_column: Annotated[str, typer.Option(rich_help_panel=_COLUMNS)] = "answer",
    id_column: Annotated[str | None, typer.Option(rich_help_panel=_COLUMNS)] = None,
    context_column: Annotated[str | None, typer.Option(rich_help_panel=_COLUMNS)] = None,
    choices_column: Annotated[str | None, typer.Option(rich_help_panel=_COLUMNS)] = None,
    choice_base: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=1,
            help="The answer is a choice's number, counted from 0 or 1.",
            rich_help_panel=_COLUMNS,
        ),
    ] = None,
    per_label: Annotated[
        int | None,
        typer.Option(min=1, help="At most N records of a label in a split.", rich_help_panel=_SERIES),
    ] = None,
    balance: Annotated[
        bool,
        typer.Option(
            "--balance/--no-balance",
            help="Cut the most frequent label to the second.",
            rich_help_panel=_SERIES,
        ),
    ] = True,
    window: Annotated[
        int, typer.Option(min=8, help="Values in a block of a NAB series.", rich_help_panel=_SERIES)
    ] = 96,
    tokenizer: Annotated[
        str | None, typer.Option(help="Count tokens too: a registry name or a local folder.")
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Convert a public dataset, as published, to the task format, and print what it holds."""
    from aceslm.data.importers import Columns, import_dataset, write_task
    from aceslm.data.importers.output import check_output
    from aceslm.data.importers.summary import dropped_summaries, split_summaries
    from launch.show.console import print_json

    check_output(output)
    columns = Columns(question_column, answer_column, id_column, context_column, choices_column, choice_base)
    report = import_dataset(
        kind,
        src,
        split=split,
        seed=seed,
        domain=domain,
        answer_type=answer_type,
        only=only,
        per_label=per_label,
        balance=balance,
        window=window,
        columns=columns,
    )
    splits = split_summaries(report, token_counter(tokenizer) if tokenizer else None)
    dropped = dropped_summaries(report)
    write_task(report.samples, output)
    if json_:
        totals = {"output": str(output), "samples": len(report.samples), "totals": dict(report.totals)}
        origin = {"source": report.source, "licence": report.licence}
        rows = {"splits": [asdict(row) for row in splits], "dropped": [asdict(row) for row in dropped]}
        print_json({**totals, **origin, **rows, "dropped_records": report.dropped})
        return
    _print(kind, output, report, splits, dropped)


def _print(kind: str, output: Path, report: Any, splits: Sequence[Any], dropped: Sequence[Any]) -> None:
    from launch.show.console import print_table, say

    say(f"source: {report.source}")
    say(f"licence: {report.licence}")
    say(f"in the source: {_counts(report.totals)}")
    rows = [
        [
            row.split,
            _counts(row.answer_types),
            _counts(row.labels) or "-",
            f"{row.records:,}",
            f"{row.contexts:,}",
            f"{row.words_p50:,}",
            f"{row.words_p99:,}",
            *(f"{number:,}" if number is not None else "-" for number in (row.tokens_p50, row.tokens_p99)),
        ]
        for row in splits
    ]
    lengths = ["words p50", "p99", "tokens p50", "p99"]
    headers = ["split", "answers", "labels", "records", "contexts", *lengths]
    print_table(f"{kind}: {len(report.samples):,} records", headers, rows, numeric=6)
    if dropped:
        lines = [[row.reason, row.first, f"{row.records:,}"] for row in dropped]
        print_table(f"dropped: {len(report.dropped):,}", ["reason", "the first", "records"], lines, numeric=1)
    else:
        say("dropped: none")
    say(f"wrote {output}")


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in counts.items())
