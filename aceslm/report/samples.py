"""Result rows -> what the page's browser of samples needs: small columns, and texts in blocks.

    choice = choose_rows(paths, max_rows=100_000)
    browser = build_browser(paths, choice, playbooks)

Samples, contexts and prompt skeletons are stored once. What does not fit is sampled by whole samples, so that
the modes stay comparable: errors first, then unparsed answers, then a seeded draw.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from aceslm.core.parquet import iter_rows
from aceslm.core.paths import RunPaths
from aceslm.report.blocks import TextStore
from aceslm.report.prompts import PromptParts, take_out

SEED = 0
CORRECT, PARSED, ERROR, SEEN, ADAPT, FAILED = 1, 2, 4, 8, 16, 32  # bits of a row's flags; page.js knows them
_CELL_COLUMNS = ("model_id", "quantization", "task_name", "mode", "variant", "seed", "split")
_COLUMNS = (
    *_CELL_COLUMNS,
    *"cell_id shard sample_id epoch question context gold choices answer_type context_id pred".split(),
    *"raw_output parsed correct error seen prompt_digest playbook_version bullets_used".split(),
    *"latency_ms prompt_tokens output_tokens".split(),
)
_CACHED_SHARDS = 4

SampleKey = tuple[str, str]
FindPlaybook = Callable[[str, int | None, str], str]  # cell id, version, prompt -> the playbook's text in it


@dataclass(frozen=True, slots=True)
class RowChoice:
    """Which rows the page shows. `keys` None: all of them."""

    total: int
    shown: int
    keys: frozenset[SampleKey] | None = None


@dataclass(slots=True)
class Browser:
    """The browser's data. `rows` are equally long columns; row i has output i."""

    cells: list[dict[str, Any]] = field(default_factory=list)
    rows: dict[str, list[int]] = field(
        default_factory=lambda: {"sample": [], "cell": [], "epoch": [], "flags": []}
    )
    samples: TextStore = field(default_factory=TextStore)
    contexts: TextStore = field(default_factory=TextStore)
    outputs: TextStore = field(default_factory=TextStore)
    skeletons: TextStore = field(default_factory=TextStore)
    playbooks: TextStore = field(default_factory=TextStore)

    def stores(self) -> Mapping[str, TextStore]:
        names = ("samples", "contexts", "outputs", "skeletons", "playbooks")
        return {name: getattr(self, name) for name in names}


def choose_rows(paths: RunPaths, max_rows: int) -> RowChoice:
    """Choose the samples to show; all of their rows come along, at least one sample's."""
    rank: dict[SampleKey, int] = {}
    size: dict[SampleKey, int] = {}
    for row in iter_rows(paths.results, ("task_name", "sample_id", "error")):
        key = (row["task_name"], row["sample_id"])
        size[key] = size.get(key, 0) + 1
        rank[key] = min(rank.get(key, 2), _rank(row["error"]))
    total = sum(size.values())
    if total <= max_rows:
        return RowChoice(total, total)
    order = sorted(size)
    random.Random(SEED).shuffle(order)  # noqa: S311 - not for secrets
    keys: set[SampleKey] = set()
    shown = 0
    for key in sorted(order, key=rank.__getitem__):
        if keys and shown + size[key] > max_rows:
            break
        keys.add(key)
        shown += size[key]
    return RowChoice(total, shown, frozenset(keys))


def build_browser(paths: RunPaths, choice: RowChoice, find_playbook: FindPlaybook) -> Browser:
    """Read the chosen rows of `results.parquet` and their prompts."""
    browser = Browser()
    prompts = _Prompts(paths)
    numbers: dict[SampleKey, int] = {}
    cells: dict[str, int] = {}
    for row in _chosen(paths, choice):
        key = (row["task_name"], row["sample_id"])
        if key not in numbers:
            numbers[key] = _add_sample(browser, row)
        if row["cell_id"] not in cells:
            cells[row["cell_id"]] = len(browser.cells)
            browser.cells.append({name: row[name] for name in _CELL_COLUMNS})
        browser.rows["sample"].append(numbers[key])
        browser.rows["cell"].append(cells[row["cell_id"]])
        browser.rows["epoch"].append(row["epoch"])
        browser.rows["flags"].append(_flags(row))
        _add_output(browser, row, prompts.of(row), find_playbook)
    return browser


def _chosen(paths: RunPaths, choice: RowChoice) -> Iterator[dict[str, Any]]:
    for row in iter_rows(paths.results, _COLUMNS):
        if choice.keys is None or (row["task_name"], row["sample_id"]) in choice.keys:
            yield row


def _rank(error: str | None) -> int:
    if error is None:
        return 2
    return 1 if error.startswith("unparsed") else 0


def _flags(row: Mapping[str, Any]) -> int:
    error = row["error"]
    return (
        (CORRECT if row["correct"] else 0)
        | (PARSED if row["parsed"] else 0)
        | (ERROR if error is not None else 0)
        | (FAILED if _rank(error) == 0 else 0)
        | (SEEN if row["seen"] else 0)
        | (ADAPT if row["split"] == "adapt" else 0)
    )


def _add_sample(browser: Browser, row: Mapping[str, Any]) -> int:
    context = browser.contexts.add(row["context"]) if row["context"] else None
    texts = [row["sample_id"], row["question"], row["gold"], list(row["choices"])]
    chars = sum(map(len, texts[:3])) + sum(map(len, row["choices"]))
    return browser.samples.append([*texts, context, row["answer_type"], row["context_id"]], chars + 20)


def _add_output(
    browser: Browser, row: Mapping[str, Any], prompt: str | None, find_playbook: FindPlaybook
) -> None:
    skeleton = playbook = None
    if prompt is not None:
        text = find_playbook(row["cell_id"], row["playbook_version"], prompt)
        playbook = browser.playbooks.add(text) if text else None
        parts = PromptParts(row["context"], row["question"], tuple(row["choices"]), text)
        skeleton = browser.skeletons.add(take_out(prompt, parts))
    pred, raw = row["pred"], row["raw_output"]
    figures = [row["latency_ms"] and round(row["latency_ms"]), row["prompt_tokens"], row["output_tokens"]]
    used = list(row["bullets_used"])
    values = [pred, 0 if raw == pred and raw is not None else raw, row["error"], skeleton, playbook, *figures]
    if row["playbook_version"] is not None or used:
        values += [row["playbook_version"], used]
    chars = len(pred or "") + len(raw or "") + len(row["error"] or "") + 30
    browser.outputs.append(values, chars)


@dataclass(slots=True)
class _Prompts:
    """The prompt texts of a few shards at a time; rows come shard by shard."""

    paths: RunPaths
    _shards: OrderedDict[str, dict[str, str]] = field(default_factory=OrderedDict)

    def of(self, row: Mapping[str, Any]) -> str | None:
        """Return a row's prompt; None before its shard is published."""
        shard = row["shard"]
        if shard not in self._shards:
            path = self.paths.prompts(shard)
            rows = iter_rows(path) if path.exists() else ()
            self._shards[shard] = {one["prompt_digest"]: one["text"] for one in rows}
            if len(self._shards) > _CACHED_SHARDS:
                self._shards.popitem(last=False)
        return self._shards[shard].get(row["prompt_digest"])
