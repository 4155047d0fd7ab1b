from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from aceslm.core.values import GenerationSettings
from aceslm.engine.sampling import filtered_logits, gumbel_noise, penalised, sampling_scores

LOGITS = torch.tensor([[2.0, 1.0, 0.0, -1.0]])


def test_sampling_draws_from_the_softmax() -> None:
    settings = GenerationSettings(temperature=0.7)
    draws = 4000
    scores = [sampling_scores(LOGITS, [f"r{n}"], [0], settings).argmax().item() for n in range(draws)]
    expected = (LOGITS[0] / 0.7).softmax(0).numpy().astype(float) * draws
    counts = np.bincount(scores, minlength=4)
    assert stats.chisquare(counts, expected * counts.sum() / expected.sum()).pvalue > 1e-4


def test_noise_is_keyed_by_request_and_position() -> None:
    assert torch.equal(gumbel_noise("a", 3, 8), gumbel_noise("a", 3, 8))
    assert not torch.equal(gumbel_noise("a", 3, 8), gumbel_noise("a", 4, 8))
    assert not torch.equal(gumbel_noise("a", 3, 8), gumbel_noise("b", 3, 8))
    assert gumbel_noise("a", 0, 100_000).isfinite().all()


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        (GenerationSettings(temperature=1.0, top_k=2), [True, True, False, False]),
        (GenerationSettings(temperature=1.0, top_p=0.6), [True, False, False, False]),
        (GenerationSettings(temperature=1.0, top_p=0.7), [True, True, False, False]),
        (GenerationSettings(temperature=1.0, min_p=0.1), [True, True, True, False]),
        (GenerationSettings(temperature=1.0), [True, True, True, True]),
    ],
)
def test_filters_keep_the_tokens_that_their_definition_names(
    settings: GenerationSettings, kept: list[bool]
) -> None:
    assert filtered_logits(LOGITS, settings).isfinite()[0].tolist() == kept


def test_the_repetition_penalty_lowers_seen_tokens_of_either_sign() -> None:
    result = penalised(LOGITS, [torch.tensor([0, 3, 3])], 2.0)
    assert result.tolist() == [[1.0, 1.0, 0.0, -2.0]]


def test_greedy_scores_are_the_logits_themselves() -> None:
    assert sampling_scores(LOGITS, ["a"], [0], GenerationSettings()) is LOGITS
