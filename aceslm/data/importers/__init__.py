"""Public datasets, as published -> samples in the task format.

    report = import_dataset("tatqa", Path("tatqa/"), split="auto")
    write_task(report.samples, Path("tatqa.parquet"))

An importer reads a source's own files into raw records; here they are validated like any task file. What
cannot be used is dropped with a reason; a broken source is a DataError that names file and record.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aceslm.core.errors import DataError, UsageError, nearest
from aceslm.core.values import ANSWER_TYPES, Sample
from aceslm.data.importers import ai4i, columns, formula, medqa, nab, tatqa
from aceslm.data.importers.base import Columns, Found, ImportOptions, ImportReport, Raw
from aceslm.data.importers.output import write_task
from aceslm.data.importers.splits import check_split, contexts_in_two_splits
from aceslm.data.importers.tables import HUB
from aceslm.data.parsing import parse_sample
from aceslm.data.readers import check_splits

__all__ = ["IMPORTERS", "Columns", "ImportReport", "import_dataset", "write_task"]


@dataclass(frozen=True, slots=True)
class Importer:
    """A kind of source. `source` is empty where it is the file itself.

    `selects`: `read` itself keeps what `only` names, by a type that the samples do not show.
    """

    read: Callable[[Any, ImportOptions], Found]
    source: str
    licence: str
    domain: str
    selects: bool = False


IMPORTERS: Mapping[str, Importer] = {
    "tatqa": Importer(tatqa.read, tatqa.SOURCE, tatqa.LICENCE, "finance", selects=True),
    "medqa": Importer(medqa.read, medqa.SOURCE, medqa.LICENCE, "medical"),
    "formula": Importer(formula.read, formula.SOURCE, formula.LICENCE, "finance"),
    "ai4i": Importer(ai4i.read, ai4i.SOURCE, ai4i.LICENCE, "iot"),
    "nab": Importer(nab.read, nab.SOURCE, nab.LICENCE, "iot"),
    "csv": Importer(columns.read_csv, "", columns.LICENCE, ""),
    "jsonl": Importer(columns.read_jsonl, "", columns.LICENCE, ""),
    "json": Importer(columns.read_json, "", columns.LICENCE, ""),
    "parquet": Importer(columns.read_parquet, "", columns.LICENCE, ""),
}


def import_dataset(kind: str, src: Path | str, **options: Any) -> ImportReport:
    """Read a dataset's own files.

    Args:
        kind: a key of `IMPORTERS`.
        src: the file, or the folder of all its files; for tables also `hf://datasets/ORG/NAME/FILE`.
        options: the fields of `ImportOptions`.

    Raises:
        UsageError: an unknown kind or split.
        DataError: a source that is broken (names file and record), that has no usable record, or whose
            splits would share a context.
    """
    if kind not in IMPORTERS:
        raise UsageError(f"importer '{kind}' is not one of them{nearest(kind, IMPORTERS)}")
    chosen = ImportOptions(**options)
    check_split(chosen.split)
    if chosen.only is not None and chosen.only not in ANSWER_TYPES:
        raise UsageError(f"--only: '{chosen.only}' is no answer type{nearest(chosen.only, ANSWER_TYPES)}")
    if chosen.answer_type is not None and chosen.answer_type not in ANSWER_TYPES:
        known = nearest(chosen.answer_type, ANSWER_TYPES)
        raise UsageError(f"--answer-type: '{chosen.answer_type}' is no answer type{known}")
    importer = IMPORTERS[kind]
    if importer.source and (given := columns.used_options(chosen)):
        raise UsageError(
            f"{given[0]}: {kind} has columns of its own; this is for csv, jsonl, json and parquet"
        )
    hub = str(src).startswith(HUB)
    if hub and importer.source:
        raise UsageError(
            f"{src}: {kind} reads the published files; of the hub, csv, jsonl, json and parquet are read"
        )
    found = importer.read(str(src) if hub else Path(src), chosen)
    # only a file's name: the same data imported elsewhere must have the same digest
    source = importer.source or (str(src) if hub else Path(src).name)
    samples, dropped = _validated(found, importer, source, chosen)
    _check(str(src), samples, dropped)
    return ImportReport(samples, tuple(dropped), importer.licence, source, found.totals, tuple(found.said))


def _validated(
    found: Found, importer: Importer, source: str, options: ImportOptions
) -> tuple[tuple[Sample, ...], list[tuple[str, str]]]:
    dropped = list(found.dropped)
    samples: dict[str, Sample] = {}
    splits: list[tuple[str, str]] = []
    for where, raw in found.rows:
        metadata = {**raw.get("metadata", {}), "source": source, "licence": importer.licence}
        record: Raw = {**raw, "metadata": metadata}
        try:
            json.dumps(record, ensure_ascii=False, default=str).encode("utf-8")
            sample = parse_sample(where, record, options.domain or importer.domain)
        except UnicodeEncodeError:
            dropped.append((where, "holds characters that are not Unicode text"))
            continue
        except DataError as error:
            dropped.append((where, str(error).removeprefix(f"{where}: ")))
            continue
        if sample.sample_id in samples:
            hint = "" if importer.source else ": without --id-column ids are made from what is asked"
            raise DataError(f"{where}: id '{sample.sample_id}' was already used{hint}")
        if not importer.selects and options.only not in {None, sample.answer_type}:
            dropped.append((where, f"not of answer type {options.only}"))
            continue
        samples[sample.sample_id] = sample
        splits.append((where, sample.split))
    check_splits(splits)
    return tuple(samples.values()), dropped


def _check(src: str, samples: tuple[Sample, ...], dropped: list[tuple[str, str]]) -> None:
    if not samples:
        first = f"; the first: {dropped[0][0]}: {dropped[0][1]}" if dropped else ""
        raise DataError(f"{src}: no usable record, {len(dropped):,} dropped{first}")
    shared = contexts_in_two_splits([(sample.context_id, sample.split) for sample in samples])
    if shared:
        raise DataError(
            f"{src}: context '{shared[0]}' would be in two splits ({len(shared):,} such contexts); "
            "import the files apart, or give one --split"
        )
