"""Attention in pieces is attention: over any split of the keys, with sinks, soft caps and masks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from aceslm.engine.attention import partial as pieces
from aceslm.engine.attention.partial import (
    Piece,
    PieceKernels,
    choose_kernels,
    explicit_piece,
    merge,
    with_sinks,
)

CPU = torch.device("cpu")
CLOSE = {"atol": 2e-5, "rtol": 1e-4}
EXPLICIT = PieceKernels(None, None, "explicit")


def random_qkv(seed: int, queries: int, keys: int, dim: int = 8) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(2, 3, size, dim, generator=generator) for size in (queries, keys, keys))


def literal(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    scale: float,
    mask: torch.Tensor | None = None,
    softcap: float | None = None,
    sinks: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return softmax attention over all keys as a textbook has it, in float64."""
    scores = q.double() @ k.double().transpose(-1, -2) * scale
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if mask is not None:
        scores = scores + mask.double()
    if sinks is not None:  # one more score a head, whose value is nothing
        scores = torch.cat([scores, sinks.double().expand(*scores.shape[:3])[..., None]], dim=-1)
    weights = scores.softmax(dim=-1)[..., : k.shape[2]]
    return (weights @ v.double()).float()


def in_pieces(kernels: PieceKernels, cuts: list[int], qkv: tuple[torch.Tensor, ...], **how: Any) -> Piece:
    """Attend to the keys between neighbouring cuts, one after another, and merge."""
    q, k, v = qkv
    parts = [
        kernels(q, k[:, :, start:stop], v[:, :, start:stop], **how)
        for start, stop in zip([0, *cuts], [*cuts, k.shape[2]], strict=True)
        if start < stop
    ]
    whole = parts[0]
    for part in parts[1:]:
        whole = merge(whole, part)
    return whole


@given(
    seed=st.integers(0, 99),
    queries=st.integers(1, 6),
    keys=st.integers(1, 40),
    cuts=st.lists(st.integers(0, 40), max_size=4),
    scale=st.sampled_from([0.1, 1.0, 4.0]),
    softcap=st.sampled_from([None, 0.7, 5.0]),
    sunk=st.booleans(),
    explicit=st.booleans(),
)
@hypothesis_settings(max_examples=150, deadline=None, derandomize=True)
def test_pieces_over_any_split_of_the_keys_are_attention_over_all_of_them(
    seed: int,
    queries: int,
    keys: int,
    cuts: list[int],
    scale: float,
    softcap: float | None,
    sunk: bool,
    explicit: bool,
) -> None:
    qkv = random_qkv(seed, queries, keys)
    kernels = EXPLICIT if explicit else choose_kernels(CPU, torch.float32, 8)
    found = in_pieces(kernels, sorted(min(cut, keys) for cut in cuts), qkv, scale=scale, softcap=softcap)
    sinks = torch.tensor([-1.0, 0.5, 3.0])[:, None] if sunk else None
    out = found.out if sinks is None else with_sinks(found, sinks)
    torch.testing.assert_close(out, literal(*qkv, scale=scale, softcap=softcap, sinks=sinks), **CLOSE)


@given(seed=st.integers(0, 99), keys=st.integers(2, 30), cut=st.integers(1, 29), hide=st.integers(0, 4))
@hypothesis_settings(max_examples=100, deadline=None, derandomize=True)
def test_a_query_that_sees_no_key_of_the_second_piece_keeps_the_first(
    seed: int, keys: int, cut: int, hide: int
) -> None:
    queries, cut = 4, min(cut, keys - 1)
    q, k, v = random_qkv(seed, queries, keys)
    hidden = torch.rand(queries, keys, generator=torch.Generator().manual_seed(seed)) < 0.4
    hidden[:, 0] = False  # of the first piece every query sees a key
    hidden[:hide, cut:] = True
    mask = torch.zeros(queries, keys).masked_fill(hidden, -torch.inf)[None, None]
    kernels = choose_kernels(CPU, torch.float32, 8)
    first = kernels(q, k[:, :, :cut], v[:, :, :cut], mask=mask[..., :cut], scale=0.4)
    second = explicit_piece(q, k[:, :, cut:], v[:, :, cut:], mask=mask[..., cut:], scale=0.4)
    whole = merge(first, second)
    torch.testing.assert_close(whole.out, literal(q, k, v, scale=0.4, mask=mask), **CLOSE)
    assert torch.equal(whole.out[:, :, :hide], first.out[:, :, :hide])
    assert torch.equal(whole.lse[:, :, :hide], first.lse[:, :, :hide])
    assert bool((second.out[:, :, :hide] == 0).all())
    assert bool((second.lse[:, :, :hide] == -torch.inf).all())


def test_a_causal_piece_sees_no_later_key() -> None:
    q, k, v = random_qkv(3, 12, 12)
    mask = torch.full((12, 12), -torch.inf).triu(1)[None, None]
    wanted = literal(q, k, v, scale=0.3, mask=mask)
    for kernels in (EXPLICIT, choose_kernels(CPU, torch.float32, 8)):
        torch.testing.assert_close(kernels(q, k, v, causal=True, scale=0.3).out, wanted, **CLOSE)


def test_explicit_products_in_slices_equal_those_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = random_qkv(4, 23, 23)
    full = torch.zeros(1, 1, 23, 23).masked_fill(torch.rand(23, 23) < 0.3, -torch.inf)
    for how in ({"causal": True}, {"mask": full}, {"mask": full[:, :, :1]}, {"softcap": 2.0}):
        at_once = explicit_piece(q, k, v, scale=0.3, **how)
        with monkeypatch.context() as patch:
            patch.setattr(pieces, "_SCORES_AT_ONCE", 2 * 3 * 23 * 5)
            sliced = explicit_piece(q, k, v, scale=0.3, **how)
        torch.testing.assert_close(sliced.out, at_once.out, **CLOSE)
        torch.testing.assert_close(sliced.lse, at_once.lse, **CLOSE)


def test_large_scores_of_one_piece_leave_nothing_of_the_other_and_no_nan() -> None:
    q, k, v = random_qkv(5, 4, 8)
    loud = merge(explicit_piece(q, k, v, scale=1.0), explicit_piece(q, k, v, scale=400.0))
    assert bool(torch.isfinite(loud.out).all())
    whole = torch.cat([k, 400 * k], dim=2)
    torch.testing.assert_close(loud.out, literal(q, whole, torch.cat([v, v], dim=2), scale=1.0), **CLOSE)


# ---- the kernels of a device


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("dim", [8, 64, 80])
def test_the_kernels_chosen_on_the_cpu_agree_with_explicit_products(dtype: torch.dtype, dim: int) -> None:
    kernels = choose_kernels(CPU, dtype, dim)
    assert kernels.name == "flash-cpu"
    q, k, v = (part.to(dtype) for part in random_qkv(6, 17, 17, dim))
    mask = torch.zeros(17, 17, dtype=dtype).masked_fill(torch.rand(17, 17) < 0.5, -torch.inf)
    mask[:, 0] = 0
    close = {"atol": 2e-5 if dtype == torch.float32 else 2e-2, "rtol": 1e-2}
    for how in ({}, {"causal": True}, {"mask": mask[None, None]}):
        found = kernels(q, k, v, scale=dim**-0.5, **how)
        wanted = explicit_piece(q, k, v, scale=dim**-0.5, **how)
        torch.testing.assert_close(found.out, wanted.out, **close)
        torch.testing.assert_close(found.lse, wanted.lse, **close)
        assert found.lse.dtype == torch.float32


def raising(*_: Any) -> tuple[torch.Tensor, torch.Tensor]:
    raise NotImplementedError("no such operator on this device")


def shifted(*arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
    out, lse = pieces._cpu_flash(*arguments)
    return out, lse / 0.6931  # base 2 instead of e


@pytest.mark.parametrize("kernel", [raising, shifted])
def test_a_kernel_that_raises_or_is_wrong_is_not_chosen(
    kernel: pieces.Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "_CANDIDATES", {"cpu": (("odd", kernel, True),)})
    assert choose_kernels(CPU, torch.float32, 8) == EXPLICIT
    monkeypatch.setattr(
        pieces, "_CANDIDATES", {"cpu": (("odd", kernel, True), ("good", pieces._cpu_flash, True))}
    )
    assert choose_kernels(CPU, torch.float32, 8).name == "good"


def test_a_kernel_without_masks_runs_the_plain_pieces_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "_CANDIDATES", {"cpu": (("plain", pieces._cpu_flash, False),)})
    kernels = choose_kernels(CPU, torch.float32, 8)
    assert (kernels.plain, kernels.masked, kernels.name) == (pieces._cpu_flash, None, "plain")


def test_a_device_without_kernels_computes_explicitly() -> None:
    assert choose_kernels(torch.device("meta"), torch.float32, 8) == EXPLICIT


def test_soft_caps_and_unequal_heads_go_through_explicit_products() -> None:
    kernels = PieceKernels(raising, raising, "odd")
    q, k, v = random_qkv(7, 3, 5)
    mask = torch.zeros(1, 1, 3, 5)
    torch.testing.assert_close(
        kernels(q, k, v, mask=mask, scale=0.3, softcap=2.0).out,
        literal(q, k, v, scale=0.3, softcap=2.0),
        **CLOSE,
    )
    narrow = v[..., :4]
    torch.testing.assert_close(
        kernels(q, k, narrow, scale=0.3).out, literal(q, k, narrow, scale=0.3), **CLOSE
    )
