"""The rule by which the engines are judged must itself tell right from wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from near_ties import Reference, first_difference
from tiny_models import RAW_TEMPLATE, tiny_model, tiny_tokenizer

from aceslm.core.prompts import Completion, Message, Prompt
from aceslm.core.values import GenerationSettings

ASKED = Prompt("asked", (Message("user", "What is revenue 1 2 3"),), max_new_tokens=8, ignore_eos=True)


@pytest.fixture
def reference() -> Reference:
    tokenizer = tiny_tokenizer(template=RAW_TEMPLATE)
    return Reference(tiny_model("llama", len(tokenizer)), tokenizer, frozenset({1}))


def reply(reference: Reference, **changes: Any) -> Completion:
    tokens = reference.answer(ASKED).tokens
    right = Completion(
        "asked",
        reference.text(tokens),
        tokens,
        "length",
        prompt_tokens=len(reference.encode(ASKED)),
        output_tokens=8,
    )
    return replace(right, **changes)


def with_gap(reference: Reference, gap: float, monkeypatch: pytest.MonkeyPatch) -> tuple[int, ...]:
    """Make another token stand `gap` below the chosen one at position 3; return the answer that takes it."""
    tokens = reference.answer(ASKED).tokens
    other = (tokens[3] + 1) % 300
    real = Reference.scores

    def scores(self: Reference, *arguments: Any) -> torch.Tensor:
        found = real(self, *arguments).clone()
        found[other] = found.max() - gap
        return found

    monkeypatch.setattr(Reference, "scores", scores)
    return (*tokens[:3], other, 5, 6, 7, 8)


def test_the_first_difference_counts_an_early_end() -> None:
    assert first_difference([1, 2, 3], [1, 2, 3]) is None
    assert first_difference([1, 2, 3], [1, 5, 3]) == 1
    assert first_difference([1, 2, 3], [1, 2]) == 2
    assert first_difference([], [4]) == 0


def test_equal_answers_hold(reference: Reference) -> None:
    assert reference.check(ASKED, reply(reference))


def test_a_split_at_a_near_tie_is_excused_and_the_rest_not_compared(
    reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = with_gap(reference, 0.0009, monkeypatch)
    assert not reference.check(ASKED, reply(reference, token_ids=tokens))


def test_any_other_difference_names_prompt_position_tokens_and_margin(
    reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = with_gap(reference, 0.0011, monkeypatch)
    expected = reference.answer(ASKED).tokens[3]
    words = rf"'asked'.*position 3: token {tokens[3]} where the reference has {expected}, 0\.0011"
    with pytest.raises(AssertionError, match=words):
        reference.check(ASKED, reply(reference, token_ids=tokens))


def test_an_early_end_is_no_near_tie(reference: Reference) -> None:
    short = reference.answer(ASKED).tokens[:5]
    with pytest.raises(AssertionError, match="after 5 tokens, the reference by 'length' after 8"):
        reference.check(ASKED, reply(reference, token_ids=short))


@pytest.mark.parametrize(
    "wrong", [{"text": "x"}, {"finish_reason": "stop"}, {"prompt_tokens": 1}, {"output_tokens": 7}]
)
def test_equal_tokens_with_wrong_words_around_them_do_not_hold(
    reference: Reference, wrong: dict[str, Any]
) -> None:
    with pytest.raises(AssertionError, match="is not"):
        reference.check(ASKED, reply(reference, **wrong))


def test_the_cut_of_an_endless_answer_is_where_generate_itself_ends(reference: Reference) -> None:
    endless = reference.endless(ASKED)
    ending = Reference(reference.model, reference.tokenizer, frozenset({1, endless[4]}))
    asked = replace(ASKED, ignore_eos=False)
    assert ending.answer(asked).tokens == ending.own_answer(asked) == endless[: endless.index(endless[4]) + 1]
    assert ending.answer(asked).finish_reason == "stop"
    stop = reference.text(endless[1:3])
    assert stop.isascii()  # `generate` finds no stop string in tokens that are no whole characters
    stopped = replace(ASKED, stop=(stop,))
    assert reference.answer(stopped).tokens == reference.own_answer(stopped)
    assert reference.answer(stopped).tokens == endless[:3]


def test_without_noise_a_sampled_answer_would_be_the_greedy_one(reference: Reference) -> None:
    frozen = GenerationSettings(temperature=1e-4)
    assert reference.answer(ASKED, frozen).tokens == reference.answer(ASKED).tokens
    warm = GenerationSettings(temperature=1.0)
    assert reference.answer(ASKED, warm).tokens != reference.answer(ASKED).tokens
