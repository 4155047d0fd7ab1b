"""Families of tiny models as files, with their reference: what the tests of the engines share.

tiny = tinies("llama")                  # a fixture of conftest; made on first use, kept for the session
check_all(tiny, tiny.engine(rows=4), mixed_prompts())
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from near_ties import GREEDY, Reference
from tiny_models import RAW_TEMPLATE, save_tiny, tiny_model, tiny_tokenizer
from transformers import AutoTokenizer

from aceslm.core.engine import never
from aceslm.core.prompts import Completion, Message, Prompt
from aceslm.core.values import GenerationSettings
from aceslm.engine import load_engine
from aceslm.models.registry import resolve_model

ENGINE = "shared_prefix"
LONG = "What is the answer to this question Context revenue rose because gross profit " * 2
OTHER = "letter of correct option A B C D normal anomalous with number only 7 8 9 " * 2


@dataclass(frozen=True)
class Tiny:
    """A family as files for the engine under test, and as the reference."""

    folder: Path
    reference: Reference

    def engine(self, rows: int, name: str = ENGINE) -> Any:
        """Return a fresh engine with this many rows at once."""
        return load_engine(
            resolve_model(str(self.folder)), engine=name, dtype="float32", device="cpu", batch_size=rows
        )


Tinies = Callable[[str], Tiny]


def make_tiny(folder: Path, name: str) -> Tiny:
    """Write a family's tiny model to a folder."""
    tokenizer = tiny_tokenizer(template=RAW_TEMPLATE)
    model = tiny_model(name, len(tokenizer))
    save_tiny(folder, model, tokenizer, end_token=1)
    # what is loaded may split words otherwise than what was saved (Qwen2): both sides load it
    reference = Reference(model, AutoTokenizer.from_pretrained(folder), frozenset())
    end = often_said([reference.endless(prompt) for prompt in mixed_prompts()])
    save_tiny(folder, model, tokenizer, end)
    return Tiny(folder, replace(reference, end_tokens=frozenset({1, end})))


def often_said(answers: Sequence[tuple[int, ...]]) -> int:
    """Return a token that ends some of the answers, not all, and few at once."""
    said = Counter(token for answer in answers for token in set(answer[2:]) - set(answer[:2]))
    return min(said, key=lambda token: (abs(said[token] - len(answers) // 3), token))


def ask(text: str, name: str | None = None, new: int = 12, **options: Any) -> Prompt:
    return Prompt(name or text, (Message("user", text),), max_new_tokens=new, **options)


def mixed_prompts() -> list[Prompt]:
    """Eight prompts behind one long prefix (one is nothing but it), two behind another, three behind none."""
    endings = [
        "",
        "1 ?",
        "normal",
        "A B C D",
        "letter of correct option 5 6 7 8 9",
        "x",
        "gross " * 9,
        "\n" * 3,
    ]
    texts = [LONG + ending for ending in endings]
    texts += [OTHER + "revenue", OTHER + "Answer with number only", "x", "normal anomalous 3", "profit " * 25]
    return [ask(text, f"m{n}", new=5 + n % 4 * 3) for n, text in enumerate(texts)]


def answers(
    engine: Any, prompts: Sequence[Prompt], settings: GenerationSettings = GREEDY
) -> dict[str, Completion]:
    found = list(engine.generate(prompts, settings, never))
    assert sorted(one.request_id for one in found) == sorted(prompt.request_id for prompt in prompts)
    return {completion.request_id: completion for completion in found}


def check_all(
    tiny: Tiny, engine: Any, prompts: Sequence[Prompt], settings: GenerationSettings = GREEDY
) -> dict[str, Completion]:
    """Compare all answers with the reference; at most one in eight may split at a near-tie."""
    found = answers(engine, prompts, settings)
    held = [tiny.reference.check(prompt, found[prompt.request_id], settings) for prompt in prompts]
    assert held.count(False) <= max(1, len(held) // 8), "too many near-ties to judge anything"
    return found
