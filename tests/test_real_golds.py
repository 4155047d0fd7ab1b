"""The golds of TAT-QA, written as replies write them, are read as themselves whatever their type."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from aceslm.core.values import Sample
from aceslm.data.importers import import_dataset
from aceslm.tasks import build_messages, judge
from aceslm.tasks.base import gold_spans

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
FORMS: dict[str, Callable[[list[str]], str]] = {
    "plain": "; ".join,
    "sentence": lambda items: f"The answer is {'; '.join(items)}.",
    "bullets": lambda items: "\n".join(f"- {item}" for item in items),
    "numbered": lambda items: "\n".join(f"{n}. {item}" for n, item in enumerate(items, 1)),
    "lines": "\n".join,
    "a list in JSON": json.dumps,
    "an object in JSON": lambda items: json.dumps({"answer": items if len(items) > 1 else items[0]}),
    "bold": lambda items: f"**{'; '.join(items)}**",
    "marked": lambda items: f"**Answer:** {'; '.join(items)}",
    "explained": lambda items: "\n".join(items) + "\n\nThis is stated in the table.",
}


@pytest.fixture(scope="module")
def samples() -> tuple[Sample, ...]:
    for place in (os.environ.get("ACESLM_DATA"), ROOT / "../shared/data", ROOT / "../../shared/data"):
        file = Path(place or "", "tatqa", "tatqa_dataset_dev.json")
        if place and file.is_file():
            return import_dataset("tatqa", file, split="eval").samples
    pytest.skip("no TAT-QA files: set ACESLM_DATA to a folder with tatqa/tatqa_dataset_dev.json")


def _items(sample: Sample) -> list[str]:
    scale = "%" if sample.scale == "percent" else f" {sample.scale}" if sample.scale else ""
    return [span if "%" in span and scale == "%" else f"{span}{scale}" for span in gold_spans(sample)]


@pytest.mark.parametrize("form", FORMS)
def test_a_gold_of_any_published_type_is_read_in_any_form(samples: tuple[Sample, ...], form: str) -> None:
    exact: dict[str, list[float]] = defaultdict(list)
    for sample in samples:
        kind = json.loads(sample.metadata)["answer_type"]
        exact[kind].append(judge(sample, FORMS[form](_items(sample))).exact_match)
    assert set(exact) == {"span", "multi-span", "arithmetic", "count"}
    assert {kind: sum(hits) / len(hits) for kind, hits in exact.items() if sum(hits) < 0.98 * len(hits)} == {}


def test_the_prompt_and_the_answer_type_do_not_tell_the_published_type(samples: tuple[Sample, ...]) -> None:
    assert {sample.answer_type for sample in samples} == {"span"}
    asked = {build_messages(sample, None)[0].content.rpartition("\n")[2] for sample in samples}
    assert len(asked) == 1
