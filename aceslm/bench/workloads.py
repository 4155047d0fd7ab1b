"""Prompts to time engines with: made from a word list by a seeded generator, sized in the model's tokens.

    workload = make_workload("ace", engine.count_tokens, key="repeat 0")
    engine.generate(workload.prompts, GenerationSettings(), never)

The texts say nothing; what counts is their lengths and what they share. Every repeat has texts of its own
(of the same lengths), so that no engine keeps anything from the repeat before. All prompts have `ignore_eos`:
every engine does the same amount of work.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from aceslm.core.errors import UsageError, nearest
from aceslm.core.prompts import Message, Prompt

CountTokens = Callable[[str], int]

QUICK_SCALE = 1 / 8
_WORDS = (
    "account actual after alarm also answer asset average balance bearing because before blood board "
    "bond budget capital cash chart check claim class clear clinic close cost count course cover credit "
    "current daily data date debt dose drift drop during early effect energy engine equal equity error "
    "event every factor failure fever figure final first fiscal flow follow force from fund given goods "
    "gross group growth heart heat high hour income index input item joint just labour large last later "
    "lead least ledger less level limit line list load loss lower lung main margin market mean measure "
    "median memory method metal meter minute model month motor never next night normal note notice "
    "number nurse often open order other output over paid pain part past patient peak period phase pipe "
    "place plan point power press price prior profit pulse pump quarter quick quote range rate ratio "
    "reach record reduce report reserve rest result return revenue risk rotor sale same sample scale "
    "second sensor series shaft share sharp short sign simple since speed spread stage start state "
    "steam steel still stock store sum supply surface table target tax term test then time tissue tool "
    "torque total trade trend true unit until usual value valve vein vessel volume wage water wear week "
    "weight when while whole width within work worth year yield zero"
).split()


@dataclass(frozen=True, slots=True)
class BenchWorkload:
    """Named prompts, in the order in which they are handed to an engine."""

    name: str
    description: str
    prompts: tuple[Prompt, ...]


@dataclass(frozen=True, slots=True)
class _Shape:
    """How a workload is built; lengths in tokens of the text, the chat template's own not counted.

    `shared_tokens` open every prompt (0: no system message). `contexts` blocks of `context_tokens` follow,
    each with `prompts` / `contexts` questions (0: none). `answer_tokens` are drawn evenly between its ends.
    """

    description: str
    prompts: int
    question_tokens: tuple[int, int]
    answer_tokens: tuple[int, int]
    shared_tokens: int = 0
    contexts: int = 0
    context_tokens: int = 0


_SHAPES = {
    "ace": _Shape("a 1,024-token playbook before 32 questions", 32, (40, 200), (48, 48), 1024),
    "ace-long": _Shape("a 4,096-token playbook before 128 questions", 128, (40, 200), (48, 48), 4096),
    "short": _Shape("64 short prompts that share only the template", 64, (20, 60), (16, 16)),
    "ragged": _Shape("64 prompts that share nothing, 8 to 256 new tokens", 64, (30, 120), (8, 256)),
    "contexts": _Shape(
        "a 512-token playbook, 8 contexts of 400 tokens, 6 questions each",
        48,
        (20, 60),
        (24, 24),
        512,
        8,
        400,
    ),
}
WORKLOADS = tuple(_SHAPES)


def make_workload(name: str, count_tokens: CountTokens, *, key: str, scale: float = 1.0) -> BenchWorkload:
    """Return a named workload for a model.

    Args:
        count_tokens: text -> its length in the model's tokens; texts come within one word of their length.
        key: another key gives other texts of the same lengths.
        scale: below 1, every length and count is that much smaller (at least 1 token, 2 prompts).

    Raises:
        UsageError: no such workload.
    """
    if name not in _SHAPES:
        raise UsageError(f"--workload: '{name}' is not one of them{nearest(name, WORKLOADS)}")
    shape = _SHAPES[name]
    lengths, words = random.Random(name), random.Random(f"{name}/{key}")  # noqa: S311

    def scaled(number: int, least: int = 1) -> int:
        return max(least, round(number * scale))

    def text(tokens: int) -> str:
        return text_of(tokens, words, count_tokens)

    shared = text(scaled(shape.shared_tokens)) if shape.shared_tokens else ""
    number = scaled(shape.prompts, 2)
    contexts = [text(scaled(shape.context_tokens)) for _ in range(min(scaled(shape.contexts), number))]
    prompts = []
    for index in range(number):
        question = text(scaled(lengths.randint(*shape.question_tokens)))
        if shape.contexts:
            question = f"{contexts[index * len(contexts) // number]}\n\n{question}"
        messages = (*_system(shared), Message("user", question))
        new_tokens = scaled(lengths.randint(*shape.answer_tokens), 2)
        prompts.append(Prompt(f"{name}/{key}/{index}", messages, new_tokens, ignore_eos=True))
    description = shape.description if scale == 1.0 else f"{shape.description}, scaled by {scale:g}"
    return BenchWorkload(name, description, tuple(prompts))


def text_of(tokens: int, words: random.Random, count_tokens: CountTokens) -> str:
    """Return random words (at least one) with at most `tokens` tokens, less than a word short of them.

    Lengths grow with the number of words, so the number is found by bisection.
    """
    drawn = words.choices(_WORDS, k=tokens)  # a word is at least a token
    low, high = 1, max(1, tokens)
    while low < high:
        middle = (low + high + 1) // 2
        if count_tokens(" ".join(drawn[:middle])) <= tokens:
            low = middle
        else:
            high = middle - 1
    return " ".join(drawn[:low])


def spread(workload: BenchWorkload, samples: int | None) -> tuple[Prompt, ...]:
    """Return `samples` prompts spread evenly over a workload; None or too many: all."""
    prompts = workload.prompts
    if samples is None or samples >= len(prompts):
        return prompts
    return tuple(prompts[index * len(prompts) // samples] for index in range(samples))


def _system(text: str) -> Iterator[Message]:
    if text:
        yield Message("system", text)
