"""`aceslm data import`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from launch.verbs.groups import spread
from launch.verbs.options import JsonOption, token_counter

if TYPE_CHECKING:
    from aceslm.data.importers import Columns

_COLUMNS = "Columns (csv, jsonl, json, parquet); a name may be a path: context.contexts, answers.text.0"
_ANSWERS = "Answers and choices (csv, jsonl, json, parquet)"
_SERIES = "Labels and windows (ai4i, nab)"


def _column(text: str) -> Any:
    return typer.Option(help=text, rich_help_panel=_COLUMNS)


def _answers(text: str, **limits: Any) -> Any:
    return typer.Option(help=text, rich_help_panel=_ANSWERS, **limits)


@dataclass(frozen=True, slots=True)
class TableChoice:
    """Where a table of the user's own has what a task needs."""

    question_column: Annotated[str, _column("What is asked.")] = "question"
    answer_column: Annotated[str, _column("The gold answer; a list is several spans.")] = "answer"
    id_column: Annotated[str | None, _column("Default: an id made from what is asked.")] = None
    context_column: Annotated[str | None, _column("A text, or a list of paragraphs.")] = None
    context_id_column: Annotated[
        str | None, _column("What groups questions of one context; default: by its text.")
    ] = None
    split_column: Annotated[str | None, _column("adapt, validate, eval; or train, dev, val, test.")] = None
    scale_column: Annotated[str | None, _column("thousand, million, billion, percent.")] = None
    answer_type_column: Annotated[str | None, _column("Each record's own answer type.")] = None
    domain_column: Annotated[str | None, _column("Each record's own domain.")] = None
    metadata_columns: Annotated[str, _column("Columns to keep as they are: a,b,c.")] = ""
    no_header: Annotated[
        bool,
        typer.Option(
            "--no-header",
            help="The CSV has no header line: c1, c2, ... or 1, 2, ...",
            rich_help_panel=_COLUMNS,
        ),
    ] = False
    records: Annotated[str | None, _column("JSON: the key that holds the records.")] = None
    answer_type: Annotated[
        str | None, _answers("choice, number, span, label; default: one for the file, inferred and printed.")
    ] = None
    answer_regex: Annotated[
        str | None,
        _answers(
            "Extracts the answer from a longer text: its first group, where it matches last; '#### (.+)'."
        ),
    ] = None
    choices_column: Annotated[
        str | None, _answers('A list, JSON text, {"A": ...}, or {"text": [...], "label": [...]}.')
    ] = None
    choices_columns: Annotated[str, _answers("A column a choice: opa,opb,opc,opd, or 'op*'.")] = ""
    labels: Annotated[
        str, _answers("The same choices for every record: yes,no,maybe (or JSON: a list of texts).")
    ] = ""
    answer_is: Annotated[
        str | None,
        _answers("How answers name their choice: letter, text, index; default: by the whole file."),
    ] = None
    choice_base: Annotated[
        int | None, _answers("The answer is a choice's number, counted from 0 or 1.", min=0, max=1)
    ] = None

    def columns(self) -> Columns:
        """Return what the importer of tables is told.

        Raises:
            UsageError: a broken list of names.
        """
        from aceslm.data.importers import Columns

        return Columns(
            question=self.question_column,
            answer=self.answer_column,
            id=self.id_column,
            context=self.context_column,
            choices=self.choices_column,
            choice_base=self.choice_base,
            choices_columns=_listed("--choices-columns", self.choices_columns),
            labels=_listed("--labels", self.labels),
            answer_is=self.answer_is,
            answer_regex=self.answer_regex,
            context_id=self.context_id_column,
            split=self.split_column,
            scale=self.scale_column,
            answer_type=self.answer_type_column,
            domain=self.domain_column,
            metadata=_listed("--metadata-columns", self.metadata_columns),
            header=not self.no_header,
            records=self.records,
        )


@dataclass(frozen=True, slots=True)
class SeriesChoice:
    """How labelled readings become questions."""

    per_label: Annotated[
        int | None,
        typer.Option(min=1, help="At most N records of a label in a split.", rich_help_panel=_SERIES),
    ] = None
    balance: Annotated[
        bool,
        typer.Option(
            "--balance/--no-balance",
            help="Cut the most frequent label to the second.",
            rich_help_panel=_SERIES,
        ),
    ] = True
    window: Annotated[
        int, typer.Option(min=8, help="Values in a block of a NAB series.", rich_help_panel=_SERIES)
    ] = 96


@spread
def import_(
    *,
    kind: Annotated[
        str, typer.Argument(help="tatqa, medqa, formula, ai4i, nab; csv, jsonl, json, parquet for any table.")
    ],
    src: Annotated[
        str, typer.Argument(help="The published file, the folder of them, or hf://datasets/ORG/NAME/FILE.")
    ],
    output: Annotated[Path, typer.Option(help="The task file to write: .jsonl or .parquet.")],
    split: Annotated[
        str, typer.Option(help="adapt, validate, eval; auto: by the file's name, or seeded by context.")
    ] = "auto",
    split_by_context: Annotated[
        str | None,
        typer.Option(
            help="Tables: deal whole contexts to splits, e.g. adapt=0.3,validate=0.2; the rest is eval."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Keys the splits and the drawing of balanced labels.")] = 0,
    domain: Annotated[str | None, typer.Option(help="finance, medical, iot; default: the kind's.")] = None,
    only: Annotated[
        str | None, typer.Option(help="Keep only this answer type: choice, number, span or label.")
    ] = None,
    table: TableChoice,
    series: SeriesChoice,
    tokenizer: Annotated[
        str | None, typer.Option(help="Count tokens too: a registry name or a local folder.")
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Convert a public dataset, or any table, to the task format, and print what it holds.

    A rationale with its answer at the end: aceslm data import jsonl train.jsonl --output t.jsonl
    --answer-regex '#### (.+)'

    Choices in columns of their own: aceslm data import csv dev.csv --output t.jsonl --choices-columns
    opa,opb,opc,opd --answer-column cop --choice-base 1

    Abstracts as lists of paragraphs, splits by context: aceslm data import json pqa.json --output t.jsonl
    --question-column QUESTION --context-column CONTEXTS --answer-column final_decision
    --labels yes,no,maybe --split-by-context adapt=0.3,validate=0.2

    Letters inside the options: aceslm data import jsonl test.jsonl --output t.jsonl --choices-column options
    --answer-column correct
    """
    from aceslm.data.importers import import_dataset, write_task
    from aceslm.data.importers.output import check_output

    check_output(output)
    report = import_dataset(
        kind,
        src,
        split=split,
        seed=seed,
        domain=domain,
        answer_type=table.answer_type,
        only=only,
        columns=table.columns(),
        split_by_context=split_by_context,
        **asdict(series),
    )
    count_tokens = token_counter(tokenizer) if tokenizer else None
    write_task(report.samples, output)
    _show(kind, output, report, count_tokens, json_=json_)


def _show(kind: str, output: Path, report: Any, count_tokens: Any, *, json_: bool) -> None:
    """Print what an import holds, as JSON or as tables."""
    from aceslm.data.importers.summary import dropped_summaries, split_summaries
    from launch.show.console import print_json

    splits = split_summaries(report, count_tokens)
    dropped = dropped_summaries(report)
    if json_:
        totals = {"output": str(output), "samples": len(report.samples), "totals": dict(report.totals)}
        origin = {"source": report.source, "licence": report.licence}
        rows = {"splits": [asdict(row) for row in splits], "dropped": [asdict(row) for row in dropped]}
        print_json({**totals, **origin, "said": report.said, **rows, "dropped_records": report.dropped})
        return
    _print(kind, output, report, splits, dropped)


def _listed(option: str, text: str) -> tuple[str, ...]:
    """Return the names in `a,b,c`, or in a JSON list where names have commas.

    Raises:
        UsageError: a broken list.
    """
    from aceslm.core.errors import UsageError

    names: Any = text.split(",")
    if text.strip().startswith("["):
        try:
            names = json.loads(text)
        except ValueError as error:
            raise UsageError(f'{option}: broken JSON ({error}); write ["a", "b"], or a,b') from None
    found = tuple(str(name).strip() for name in names if str(name).strip())
    if len(set(found)) < len(found):
        raise UsageError(f"{option} {text}: a name stands there twice")
    return found


def _print(kind: str, output: Path, report: Any, splits: Sequence[Any], dropped: Sequence[Any]) -> None:
    from launch.show.console import print_table, say

    say(f"source: {report.source}")
    say(f"licence: {report.licence}")
    say(f"in the source: {_counts(report.totals)}")
    for line in report.said:
        say(line)
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
