"""The protocol that every engine follows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from aceslm.core.prompts import Completion, Prompt
from aceslm.core.values import GenerationSettings


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What actually runs: provenance of every row.

    `engine_effective` differs from `engine` where an architecture needs the fallback. `load_s` and
    `footprint_bytes` (weights in memory) are measured. `determinism` says in words what may move an answer.
    """

    engine: str
    engine_effective: str
    device: str
    dtype: str
    quantization: str
    context_window: int | None
    load_s: float
    footprint_bytes: int
    determinism: str


@dataclass(frozen=True, slots=True)
class EngineCounters:
    """What an engine has spent and given up since it was made.

    `shared_prefill_s` is the time of prefixes computed for several prompts at once; no completion's own times
    hold it. `token_budget_fraction` is what memory errors have left of the tokens (or rows) at once.
    """

    shared_prefill_s: float = 0.0
    token_budget_fraction: float = 1.0


class Engine(Protocol):
    """Turns prompts into completions."""

    @property
    def info(self) -> EngineInfo:
        """What actually runs."""

    @property
    def counters(self) -> EngineCounters:
        """What has been spent and given up so far."""

    def generate(
        self,
        prompts: Sequence[Prompt],
        settings: GenerationSettings,
        should_stop: Callable[[], bool],
    ) -> Iterator[Completion]:
        """Yield completions as they finish, in any order, keyed by request id.

        A prompt that cannot be answered (too long, out of memory alone) yields a completion with `error`.
        Once `should_stop()` is true the iterator ends at the next decode step; what is unfinished is
        simply not yielded.

        Raises:
            EngineError: generation cannot go on.
        """

    def render(self, prompt: Prompt) -> str:
        """Return the exact text that the model sees."""

    def count_tokens(self, text: str) -> int:
        """Return the length of a text in the model's own tokens, special tokens not added."""

    def close(self) -> None:
        """Free the model's memory."""


def never() -> bool:
    """The `should_stop` of callers that do not stop."""
    return False
