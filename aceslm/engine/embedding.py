"""Semantic similarity of texts: the cosine of mean-pooled embeddings (Reimers & Gurevych 2019).

scores = similarities(resolve_model("./all-MiniLM-L6-v2"), golds, predictions)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import transformers

from aceslm.core.errors import ModelUnavailable
from aceslm.core.values import ModelSpec
from aceslm.engine.checks import refuse_misfit
from aceslm.engine.devices import choose_device, follow_cores
from aceslm.engine.loading import load_tokenizer, locate

_BATCH = 64


def similarities(
    spec: ModelSpec, left: Sequence[str], right: Sequence[str], device: str = "auto"
) -> list[float]:
    """Return the cosine similarity of each pair of texts, in [-1, 1].

    Equal texts give 1; an empty text has no direction and gives 0 with anything else.

    Raises:
        ModelUnavailable: the embedding model is not on this machine, or does not load.
    """
    distinct = sorted({*left, *right})
    vectors = dict(zip(distinct, _embed(spec, distinct, device), strict=True))
    return [
        1.0 if a == b else float(torch.dot(vectors[a], vectors[b]).clamp(-1, 1)) if a and b else 0.0
        for a, b in zip(left, right, strict=True)
    ]


@torch.inference_mode()
def _embed(spec: ModelSpec, texts: Sequence[str], device: str) -> list[torch.Tensor]:
    """Return one unit vector (hidden size,) a text, on the CPU in float32."""
    follow_cores()
    tokenizer, target = load_tokenizer(spec), choose_device(device)
    model = _load(spec).to(target).eval()
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    vectors: list[torch.Tensor] = []
    for start in range(0, len(texts), _BATCH):
        batch = tokenizer(
            list(texts[start : start + _BATCH]),
            padding=True,
            truncation=True,
            max_length=512,
            return_tensors="pt",
        ).to(target)
        hidden = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)
        vectors += list(torch.nn.functional.normalize(mean.float(), dim=-1).cpu())
    return vectors


def _load(spec: ModelSpec) -> Any:
    place, revision = locate(spec)
    pinned = {"revision": revision} if revision else {}
    try:
        model, info = transformers.AutoModel.from_pretrained(
            place,
            trust_remote_code=spec.trust_remote_code,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **pinned,
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelUnavailable(f"embedding model '{spec.model_id}' does not load: {error}") from error
    # heads are left out of an AutoModel, and a pooler is not used: neither is a fault
    own = {key for key in info["missing_keys"] if "pooler." not in key}
    heads = set() if not own else info["unexpected_keys"]
    refuse_misfit(spec, {**info, "missing_keys": own, "unexpected_keys": heads})
    return model
