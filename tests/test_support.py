"""What packed passes cannot drive, or drive wrongly, is answered by `generate`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from near_ties import GREEDY
from tinies import LONG, OTHER, Tinies, Tiny, ask, check_all, mixed_prompts
from tiny_models import ORIGINAL_LENGTH

from aceslm.core.errors import BrokenModel
from aceslm.engine import self_check as support
from aceslm.engine.attention import (
    decode as decode_plan,
)
from aceslm.engine.attention import (
    interface as attention,
)
from aceslm.engine.attention import (
    prefill as prefill_plan,
)
from aceslm.engine.attention.partial import Piece, choose_kernels
from aceslm.engine.loading import LoadedModel, load_model
from aceslm.engine.model_runner import PackedModel
from aceslm.engine.self_check import head_dim, prove
from aceslm.models.registry import resolve_model

pytestmark = pytest.mark.usefixtures("one_core")


def loaded_model(tiny: Tiny, dtype: str = "float32") -> LoadedModel:
    return load_model(resolve_model(str(tiny.folder)), "none", dtype, "cpu")


def proof(loaded: LoadedModel) -> str | None:
    """Return why packed passes do not fit a loaded model, None if they do."""
    attention.register()
    kernels = choose_kernels(loaded.device, loaded.dtype, head_dim(loaded.model))
    reason, _ = prove(loaded, PackedModel(loaded.model, loaded.device, kernels, 2048))
    return reason


# ---- architectures


@pytest.mark.parametrize("name", ["bloom", "falcon"])
def test_what_is_not_driven_is_left_to_generate_and_said_once(
    tinies: Tinies, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    tiny = tinies(name)
    with caplog.at_level(logging.INFO, "aceslm"):
        engine = tiny.engine(rows=4)
        check_all(tiny, engine, mixed_prompts()[:6])
        check_all(tiny, engine, mixed_prompts()[6:])
    assert (engine.info.engine, engine.info.engine_effective) == ("shared_prefix", "generate")
    said = [record.getMessage() for record in caplog.records if record.name.endswith("shared_prefix")]
    assert len(said) == 1
    assert said[0].startswith("shared_prefix cannot drive ")
    assert said[0].endswith(": generate runs instead")


def test_a_model_left_to_generate_has_its_own_attention_back(tinies: Tinies) -> None:
    loaded = loaded_model(tinies("bloom"))
    before = loaded.model.config._attn_implementation
    assert proof(loaded) is not None
    assert loaded.model.config._attn_implementation == before


# ---- a proof that a wrong model does not pass

Function = Callable[..., tuple[torch.Tensor, None]]
REAL: Function = attention._attention


def louder_head(*args: Any, **kwargs: Any) -> tuple[torch.Tensor, None]:
    out, weights = REAL(*args, **kwargs)
    return out * torch.tensor([1.0, 1.03, 1.0, 1.0])[:, None], weights


def wider_window(*args: Any, sliding_window: int | None = None, **kwargs: Any) -> tuple[torch.Tensor, None]:
    return REAL(*args, sliding_window=sliding_window and sliding_window + 1, **kwargs)


def no_window(*args: Any, sliding_window: int | None = None, **kwargs: Any) -> tuple[torch.Tensor, None]:
    return REAL(*args, **kwargs)


def other_scale(*args: Any, scaling: float, **kwargs: Any) -> tuple[torch.Tensor, None]:
    return REAL(*args, scaling=scaling * 1.05, **kwargs)


def swapped_heads(*args: Any, **kwargs: Any) -> tuple[torch.Tensor, None]:
    out, weights = REAL(*args, **kwargs)
    return out[:, :, [1, 0, 2, 3]], weights


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("llama", louder_head),
        ("llama", other_scale),
        ("llama", swapped_heads),
        ("mistral-sliding", wider_window),
        ("mistral-sliding", no_window),
        ("gemma3", no_window),
    ],
)
def test_attention_that_is_slightly_wrong_is_refused(
    tinies: Tinies, name: str, wrong: Function, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = loaded_model(tinies(name))
    assert proof(loaded) is None
    loaded.model.set_attn_implementation("sdpa")
    monkeypatch.setattr(attention, "_attention", wrong)
    assert "logits differ by" in (proof(loaded) or "")
    assert loaded.model.config._attn_implementation == "sdpa"


def test_a_window_longer_than_the_proof_is_proved_too(
    tinies: Tinies, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = loaded_model(tinies("mistral-sliding"))
    for holder in (loaded.model.config, *(layer.self_attn for layer in loaded.model.model.layers)):
        holder.sliding_window = 100
    monkeypatch.setattr(attention, "_attention", no_window)
    assert "logits differ by" in (proof(loaded) or "")


@pytest.mark.parametrize(
    "wrong_merge",
    [
        lambda first, second: first,
        lambda first, second: Piece(second.out, second.lse),
        lambda first, second: Piece((first.out + second.out) / 2, first.lse),
    ],
    ids=["prefix unseen", "own unseen", "unweighted"],
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_pieces_that_are_merged_wrongly_are_refused(
    tinies: Tinies, dtype: str, wrong_merge: Callable[[Piece, Piece], Piece], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = loaded_model(tinies("llama"), dtype)
    assert proof(loaded) is None
    loaded.model.set_attn_implementation("sdpa")
    for plan in (prefill_plan, decode_plan):
        monkeypatch.setattr(plan, "merge", wrong_merge)
    assert "logits differ by" in (proof(loaded) or "")


def test_a_model_that_mixes_neighbouring_tokens_outside_attention_is_refused(tinies: Tinies) -> None:
    loaded = loaded_model(tinies("llama"))
    for layer in loaded.model.model.layers:
        layer.mlp.register_forward_hook(lambda _, inputs, out: out + 0.2 * inputs[0].roll(1, dims=1))
    assert "logits differ by" in (proof(loaded) or "")


def test_a_model_that_ignores_its_positions_is_refused(tinies: Tinies) -> None:
    loaded = loaded_model(tinies("llama"))
    rotary = loaded.model.model.rotary_emb
    usual = rotary.forward
    rotary.forward = lambda x, position_ids: usual(x, torch.arange(position_ids.shape[1])[None])
    assert "logits differ by" in (proof(loaded) or "")


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("row", [0, 1])
@pytest.mark.parametrize("position", [0, -1])
def test_one_logit_that_is_no_number_fails_the_proof(
    tinies: Tinies, value: float, row: int, position: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = loaded_model(tinies("llama"))
    real = support._packed_logits

    def poisoned(*args: Any) -> tuple[list[torch.Tensor], int]:
        logits, token_bytes = real(*args)
        logits[row][position, 5] = value
        return logits, token_bytes

    monkeypatch.setattr(support, "_packed_logits", poisoned)
    loaded.model.set_attn_implementation("sdpa")
    assert "logits differ by inf" in (proof(loaded) or "")
    assert loaded.model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_logits_that_are_no_numbers_on_either_side_never_agree(value: float) -> None:
    fine = torch.randn(3, 9, generator=torch.Generator().manual_seed(0))
    for row in range(3):
        bad = fine.clone()
        bad[row, 4] = value
        for got, wanted in ((bad, fine), (fine, bad), (bad, bad)):
            assert support._difference(got, wanted) == float("inf")
    assert support._difference(fine, fine) == 0
    assert support._difference(1e38 * fine, -1e38 * fine) == float("inf")  # the norm overflows


def test_a_model_whose_own_logits_turn_into_nan_behind_a_prefix_is_called_broken(tinies: Tinies) -> None:
    loaded = loaded_model(tinies("llama"))
    usual = loaded.model.forward

    def late_nan(*args: Any, **kwargs: Any) -> Any:
        out = usual(*args, **kwargs)
        out.logits[:, 15:] = torch.nan
        return out

    loaded.model.forward = late_nan
    with pytest.raises(BrokenModel, match="of its own logits are NaN or infinite"):
        proof(loaded)


def test_an_engine_whose_proof_fails_answers_by_generate(
    tinies: Tinies, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "_attention", louder_head)
    tiny = tinies("llama")
    engine = tiny.engine(rows=4)
    assert engine.info.engine_effective == "generate"
    check_all(tiny, engine, mixed_prompts())


def test_the_proof_leaves_sliding_windows_as_they_were(tinies: Tinies) -> None:
    loaded = loaded_model(tinies("gemma3"))
    holders = [loaded.model.config, *(layer.self_attn for layer in loaded.model.model.layers)]
    before = [holder.sliding_window for holder in holders]
    assert proof(loaded) is None
    assert [holder.sliding_window for holder in holders] == before


# ---- rotary frequencies that depend on the length


def test_prompts_beyond_the_original_length_of_longrope_are_answered_alone(
    tinies: Tinies, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = tinies("phi3-longrope")
    engine = tiny.engine(rows=8)
    assert engine.info.engine_effective == "shared_prefix"
    real, sizes = engine._loaded.model.generate, []

    def generate(input_ids: torch.Tensor, **options: Any) -> Any:
        sizes.append(tuple(input_ids.shape))
        return real(input_ids=input_ids, **options)

    monkeypatch.setattr(engine._loaded.model, "generate", generate)
    prompts = [
        *mixed_prompts(),
        ask(LONG[:60], "short"),
        ask(LONG[:60] + "1", "short too"),
        ask(OTHER, "long"),
    ]
    sums = [len(tiny.reference.encode(prompt)) + prompt.max_new_tokens for prompt in prompts]
    longer = sorted(
        len(tiny.reference.encode(prompt))
        for prompt, total in zip(prompts, sums, strict=True)
        if total > ORIGINAL_LENGTH
    )
    assert 4 <= len(longer) <= len(prompts) - 4
    for _ in range(2):  # the packed attention is back after the rows that were answered alone
        sizes.clear()
        check_all(tiny, engine, prompts, GREEDY)
        assert sorted(sizes) == [(1, length) for length in longer]
