"""What an engine owes: the token ids of transformers `generate` on one unpadded prompt, near-ties excepted.

    reference = Reference(model, tokenizer, end_tokens)
    held = reference.check(prompt, completion)     # False: the row split at a near-tie and is not compared on

A near-tie is a position where both tokens stand within NEAR_TIE of the reference's best score, found by a
plain forward pass over the unpadded prompt and the tokens that both share. Anything else fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers

from aceslm.core.prompts import Completion, Prompt
from aceslm.core.values import GenerationSettings, ModelSpec
from aceslm.engine.chat_template import Prompter
from aceslm.engine.sampling import penalised, sampling_scores

NEAR_TIE = 1e-3
GREEDY = GenerationSettings()


@dataclass(frozen=True)
class Answer:
    """What a prompt must be answered with."""

    tokens: tuple[int, ...]
    text: str
    finish_reason: str


def first_difference(reference_tokens: Sequence[int], tokens: Sequence[int]) -> int | None:
    """Return the first position where two answers differ, an early end included; None if equal."""
    for position, (expected, found) in enumerate(zip(reference_tokens, tokens, strict=False)):
        if expected != found:
            return position
    shorter = min(len(reference_tokens), len(tokens))
    return None if len(reference_tokens) == len(tokens) else shorter


@dataclass
class Reference:
    """A model of its own (fp32), never shared with the engine under test, which may rewrite its model."""

    model: Any
    tokenizer: Any
    end_tokens: frozenset[int]
    spec: ModelSpec = field(default_factory=lambda: ModelSpec("reference", "reference", "none"))
    _known: dict[tuple[Any, ...], tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.model.generation_config = transformers.GenerationConfig()
        self._prompter = Prompter(self.tokenizer, self.spec)

    def encode(self, prompt: Prompt) -> tuple[int, ...]:
        """Return the token ids of a prompt."""
        return tuple(self._prompter.encode(prompt))

    def own_answer(self, prompt: Prompt) -> tuple[int, ...]:
        """Return the greedy tokens of `generate` under its own handling of ends and stop strings."""
        stops = {"stop_strings": list(prompt.stop), "tokenizer": self.tokenizer} if prompt.stop else {}
        ends = None if prompt.ignore_eos else sorted(self.end_tokens)
        return self._generate(self.encode(prompt), prompt.max_new_tokens, eos_token_id=ends, **stops)

    def answer(self, prompt: Prompt, settings: GenerationSettings = GREEDY) -> Answer:
        """Return what a prompt must be answered with: the endless answer, cut where its own rules end it."""
        tokens = self.endless(prompt, settings)
        for count in range(1, prompt.max_new_tokens + 1):
            text = self.text(tokens[:count])
            if tokens[count - 1] in self.end_tokens and not prompt.ignore_eos:
                return Answer(tokens[:count], self.text(tokens[: count - 1]), "stop")
            if found := [text.index(stop) for stop in prompt.stop if stop in text]:
                return Answer(tokens[:count], text[: min(found)], "stop")
        return Answer(tokens[: prompt.max_new_tokens], self.text(tokens[: prompt.max_new_tokens]), "length")

    def endless(self, prompt: Prompt, settings: GenerationSettings = GREEDY) -> tuple[int, ...]:
        """Return at least `max_new_tokens` tokens that nothing ends (the same prompt is answered once)."""
        ids = self.encode(prompt)
        key = (ids, settings, prompt.request_id if settings.temperature else "")
        known = self._known.get(key, ())
        if len(known) < prompt.max_new_tokens:
            known = self._known[key] = (
                self._sample(prompt, settings)
                if settings.temperature
                else self._generate(
                    ids,
                    prompt.max_new_tokens,
                    eos_token_id=None,
                    repetition_penalty=settings.repetition_penalty,
                )
            )
        return known

    def text(self, tokens: Sequence[int]) -> str:
        """Return the text of an answer."""
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True))

    @torch.inference_mode()
    def logits(self, ids: Sequence[int], tokens: Sequence[int]) -> torch.Tensor:
        """Return the (len(tokens) + 1, vocabulary) logits behind a prompt and behind each of these tokens."""
        whole = torch.tensor([[*ids, *tokens]])
        result: torch.Tensor = self.model(input_ids=whole, use_cache=False).logits[0, len(ids) - 1 :]
        return result.float()

    def scores(self, prompt: Prompt, tokens: Sequence[int], settings: GenerationSettings) -> torch.Tensor:
        """Return the scores whose argmax is the token behind `tokens`: penalised, filtered, perturbed."""
        ids = self.encode(prompt)
        last = self.logits(ids, tokens)[-1:]
        last = penalised(last, [torch.tensor([*ids, *tokens])], settings.repetition_penalty)
        return sampling_scores(last, [prompt.request_id], [len(tokens)], settings)[0]

    def min_margin(self, prompt: Prompt, tokens: Sequence[int]) -> float:
        """Return the smallest gap between the top two logits over the positions of an answer."""
        top = self.logits(self.encode(prompt), tokens[:-1]).topk(2).values
        return float((top[:, 0] - top[:, 1]).min())

    def check(self, prompt: Prompt, completion: Completion, settings: GenerationSettings = GREEDY) -> bool:
        """Compare a completion with what `generate` answers; False where it split at a near-tie.

        Raises:
            AssertionError: any other difference; it names prompt, position, both tokens and the margin.
        """
        assert completion.error is None, f"{prompt.request_id}: {completion.error}"
        expected = self.answer(prompt, settings)
        at = first_difference(expected.tokens, completion.token_ids)
        if at is not None:
            self._excuse(prompt, expected, completion, at, settings)
            return False
        found = (
            completion.text,
            completion.finish_reason,
            completion.prompt_tokens,
            completion.output_tokens,
        )
        owed = (expected.text, expected.finish_reason, len(self.encode(prompt)), len(expected.tokens))
        assert found == owed, f"{prompt.request_id}: {found} is not {owed}"
        return True

    def _excuse(
        self,
        prompt: Prompt,
        expected: Answer,
        completion: Completion,
        at: int,
        settings: GenerationSettings,
    ) -> None:
        tokens = completion.token_ids
        head = f"prompt {prompt.request_id!r} ({len(self.encode(prompt))} tokens), position {at}"
        if at >= min(len(expected.tokens), len(tokens)):
            raise AssertionError(
                f"{head}: ended by {completion.finish_reason!r} after {len(tokens)} tokens, the reference by "
                f"{expected.finish_reason!r} after {len(expected.tokens)}"
            )
        scores = self.scores(prompt, expected.tokens[:at], settings)
        margin = float(scores.max() - torch.minimum(scores[expected.tokens[at]], scores[tokens[at]]))
        if margin >= NEAR_TIE:
            raise AssertionError(
                f"{head}: token {tokens[at]} where the reference has {expected.tokens[at]}, "
                f"{margin:.6f} apart (a near-tie is below {NEAR_TIE})"
            )

    def _sample(self, prompt: Prompt, settings: GenerationSettings) -> tuple[int, ...]:
        tokens: list[int] = []
        for _ in range(prompt.max_new_tokens):
            tokens.append(int(self.scores(prompt, tokens, settings).argmax()))
        return tuple(tokens)

    @torch.inference_mode()
    def _generate(self, ids: Sequence[int], new: int, **options: Any) -> tuple[int, ...]:
        prompt = torch.tensor([ids])
        answer = self.model.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=new,
            do_sample=False,
            pad_token_id=self.tokenizer.pad_token_id,
            **options,
        )
        return tuple(answer[0, len(ids) :].tolist())
