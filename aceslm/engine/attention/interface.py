"""The attention function behind the shared-prefix engine, driven by a plan that travels as a forward kwarg.

A forward pass sees one packed row of tokens: no padding, no batch dimension. The plan says what each token
may attend to: shared prefix blocks (read by many rows at once), the row's own earlier tokens, itself. It is
registered with transformers' attention interface, so every architecture that goes through the interface
and handles its tokens one by one elsewhere is driven by its own modelling code.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface

from aceslm.engine.attention.decode import DecodePlan
from aceslm.engine.attention.partial import with_sinks
from aceslm.engine.attention.plan import LayerCall
from aceslm.engine.attention.prefill import PrefillPlan

ATTENTION_NAME = "aceslm_pieces"


class Unsupported(Exception):
    """This architecture does something with attention that the plan cannot express."""


def _attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    pieces: PrefillPlan | DecodePlan | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """The function that transformers calls in every layer; returns (1, tokens, heads, dim)."""
    index = getattr(module, "layer_idx", None)
    if pieces is None or index is None or attention_mask is not None or key.shape[0] != 1:
        raise Unsupported(type(module).__name__)
    scale = query.shape[-1] ** -0.5 if scaling is None else float(scaling)
    layer = LayerCall(int(index), scale, sliding_window or None, softcap or None)
    piece = pieces.attend(layer, query, key, value)
    decode = isinstance(pieces, DecodePlan)
    out = piece.out
    if s_aux is not None:
        sinks = s_aux.view(1, key.shape[1], -1) if decode else s_aux.view(key.shape[1], -1, 1)
        out = with_sinks(piece, sinks)
    if decode:
        return out.reshape(1, out.shape[0], query.shape[1], -1), None
    return out.flatten(0, 1).transpose(0, 1).unsqueeze(0), None


def register() -> None:
    """Make the attention function known to transformers under ATTENTION_NAME; no mask is built for it."""
    AttentionInterface.register(ATTENTION_NAME, _attention)
