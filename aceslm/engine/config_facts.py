"""What a checkpoint's configuration says about prompts: how long they may be, and what ends an answer."""

from __future__ import annotations

from typing import Any

from aceslm.core.values import ModelSpec


def end_tokens(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """Return every token that the tokenizer or the checkpoint calls an end."""
    ends = {tokenizer.eos_token_id}
    for source in (getattr(model, "generation_config", None), model.config):
        value = getattr(source, "eos_token_id", None)
        ends |= set(value) if isinstance(value, list | tuple) else {value}
    return tuple(sorted(token for token in ends if isinstance(token, int)))


def context_window(spec: ModelSpec, config: Any) -> int | None:
    """Return the longest sequence, the smaller of what registry and checkpoint say."""
    own = getattr(config.get_text_config(), "max_position_embeddings", None)
    limits = [limit for limit in (spec.context_window, own) if isinstance(limit, int) and limit > 0]
    return min(limits) if limits else None


def same_rope_tokens(config: Any) -> float:
    """Return up to which length rotary frequencies do not depend on it."""
    text = config.get_text_config()
    rope = getattr(text, "rope_parameters", None) or {}
    kinds = [rope] if "rope_type" in rope else [part for part in rope.values() if isinstance(part, dict)]
    changing = [part for part in kinds if part.get("rope_type") in ("longrope", "dynamic")]
    if not changing:
        return float("inf")
    original = [
        part.get("original_max_position_embeddings")
        or getattr(text, "original_max_position_embeddings", None)
        or text.max_position_embeddings
        for part in changing
    ]
    return float(min(original))
