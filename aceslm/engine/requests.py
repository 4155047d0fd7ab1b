"""What both torch engines do with a request: encode it, choose its tokens, follow its reply to the end."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from aceslm.core.errors import EngineError
from aceslm.core.prompts import Completion, Prompt
from aceslm.core.values import GenerationSettings
from aceslm.engine.grammar.masks import Grammars, Matcher
from aceslm.engine.sampling import penalised, sampling_scores


@dataclass(frozen=True, slots=True)
class Request:
    """An encoded prompt."""

    prompt: Prompt
    ids: list[int]

    @property
    def need(self) -> int:
        """Tokens of prompt and longest answer together."""
        return len(self.ids) + self.prompt.max_new_tokens

    def problem(self, window: int | None) -> str | None:
        """Return why this request cannot be answered, None if it can."""
        if not self.ids:
            return "empty prompt: it has no tokens"
        if window is None or self.need <= window:
            return None
        return (
            f"too long: {len(self.ids)} prompt tokens + {self.prompt.max_new_tokens} new tokens "
            f"do not fit the context window of {window}"
        )

    def failed(self, reason: str) -> Completion:
        """Return the completion of a request that cannot be answered."""
        return Completion(
            self.prompt.request_id, "", finish_reason="error", error=reason, prompt_tokens=len(self.ids)
        )

    def out_of_memory(self) -> Completion:
        """Return the completion of a request that does not fit the device even alone."""
        return self.failed(f"out of memory: {len(self.ids)} prompt tokens do not fit this device even alone")


@dataclass(slots=True)
class Reply:
    """One answer in progress. `admitted_s` and `first_s` are `time.perf_counter()` readings."""

    request: Request
    matcher: Matcher | None
    admitted_s: float
    batch_size: int
    tokens: list[int] = field(default_factory=list)
    min_margin: float = float("inf")
    first_s: float | None = None

    def follow(self, token: int, margin: float, ends: frozenset[int], tokenizer: Any) -> Completion | None:
        """Take the next token; return the completion if it ends the reply.

        A token without a margin was chosen from logits that are no numbers: the reply fails.

        Raises:
            EngineError: the reply's grammar does not allow the token.
        """
        if math.isnan(margin):
            return self.request.failed(
                f"the model's logits are NaN or infinite after {len(self.tokens)} new tokens: in float16 try "
                "--dtype bfloat16 or float32"
            )
        now_s = time.perf_counter()
        self.first_s = self.first_s or now_s
        self.tokens.append(token)
        self.min_margin = min(self.min_margin, margin)
        prompt = self.request.prompt
        if self.matcher and not self.matcher.finished and not self.matcher.accept(token):
            raise EngineError(
                f"request {prompt.request_id}: the model's vocabulary cannot spell its JSON schema"
            )
        over = token in ends or (self.matcher is not None and self.matcher.finished)
        if over and not prompt.ignore_eos:
            kept = self.tokens[:-1] if token in ends else self.tokens
            return self._completion("stop", _text(tokenizer, kept), now_s)
        if prompt.stop:
            text = _text(tokenizer, self.tokens)
            found = [text.find(stop) for stop in prompt.stop if stop in text]
            if found:
                return self._completion("stop", text[: min(found)], now_s)
        if len(self.tokens) >= prompt.max_new_tokens:
            return self._completion("length", _text(tokenizer, self.tokens), now_s)
        return None

    def _completion(self, reason: str, text: str, now_s: float) -> Completion:
        first_s = self.first_s if self.first_s is not None else now_s
        return Completion(
            request_id=self.request.prompt.request_id,
            text=text,
            token_ids=tuple(self.tokens),
            finish_reason=reason,
            prompt_tokens=len(self.request.ids),
            output_tokens=len(self.tokens),
            latency_ms=(now_s - self.admitted_s) * 1000,
            ttft_ms=(first_s - self.admitted_s) * 1000,
            prefill_ms=(first_s - self.admitted_s) * 1000,
            decode_ms=(now_s - first_s) * 1000,
            batch_size=self.batch_size,
            min_margin=self.min_margin,
        )


def matcher_for(request: Request, grammars: Grammars | None, ends: Sequence[int]) -> Matcher | None:
    """Return a fresh matcher where the request asks for a JSON schema."""
    schema = request.prompt.json_schema
    return grammars.matcher(schema, tuple(ends)) if grammars and schema else None


def token_scores(
    logits: torch.Tensor,
    replies: Sequence[Reply],
    settings: GenerationSettings,
    grammars: Grammars | None,
    ahead: Sequence[int] | None = None,
) -> torch.Tensor:
    """Return scores whose argmax is each reply's next token: penalty, grammar, then sampling.

    Args:
        logits: (rows, vocabulary); replies: one a row, repeated where a row of logits is `ahead` tokens
            further (drafts; then without penalty and grammar).
    """
    seen = (
        [torch.tensor(reply.request.ids + reply.tokens, device=logits.device) for reply in replies]
        if settings.repetition_penalty != 1.0
        else []
    )
    logits = penalised(logits, seen, settings.repetition_penalty)
    if grammars:
        logits = grammars.mask(logits, [reply.matcher for reply in replies])
    asked = (reply.request.prompt for reply in replies)
    names = [prompt.noise_key or prompt.request_id for prompt in asked]
    ahead = ahead or [0] * len(replies)
    positions = [len(reply.tokens) + more for reply, more in zip(replies, ahead, strict=True)]
    return sampling_scores(logits, names, positions, settings)


def best_tokens(scores: torch.Tensor) -> list[tuple[int, float]]:
    """Return each row's best token and its lead over the second best: NaN where the best is no number.

    Args:
        scores: (rows, vocabulary). Equal scores: the lowest token id wins, as in argmax.
    """
    best = scores.topk(2, dim=-1)
    tokens = best.indices[:, 0].tolist()
    first, second = best.values.float().unbind(dim=-1)  # a NaN counts as the largest
    margins = (first - second).masked_fill(~first.isfinite(), torch.nan).tolist()
    for row, margin in enumerate(margins):
        if margin == 0:  # topk promises no order among equals
            tokens[row] = int(scores[row].argmax())
    return list(zip(tokens, margins, strict=True))


def _text(tokenizer: Any, tokens: Sequence[int]) -> str:
    return str(tokenizer.decode(tokens, skip_special_tokens=True))
