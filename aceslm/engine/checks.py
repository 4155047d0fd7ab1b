"""What is checked of a loaded model before it answers: what misfits is refused, not scored.

refuse_misfit(spec, loading_info)                           # every weight has its place, and every place one
check_model(spec, model, tokenizer, quantization, dtype)    # it is what its rows will say
refuse_wrong_numbers(spec, logits, dtype)                   # of a first pass
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch

from aceslm.core.errors import BrokenModel, EngineError
from aceslm.core.prompts import Message, Prompt
from aceslm.core.values import ModelSpec
from aceslm.engine.chat_template import Prompter
from aceslm.engine.devices import dtype_name
from aceslm.models.checkpoint import WRAPPERS, shown_keys, wrapper_hint

log = logging.getLogger(__name__)

# Buffers that earlier versions of transformers saved: masks, positions, rotary tables. They decide nothing.
_OLD_BUFFERS = re.compile(
    r"(^|\.)(rotary_emb\.\w*(inv_freq|cached)|rope\.freqs|position_ids|embed_positions\.\w*inv_freq"
    r"|(attn|attention|self_attn)\.(bias|masked_bias))$"
)
_QUANTIZED = re.compile(
    r"\.(absmax|quant_map|quant_state\.\w+|SCB|weight_format|qweight|qzeros|scales|g_idx)$"
)


def _broken(spec: ModelSpec, reason: str) -> BrokenModel:
    return BrokenModel(f"model '{spec.model_id}' does not load: {reason}")


def refuse_misfit(spec: ModelSpec, info: Mapping[str, Any]) -> None:
    """Refuse weights that do not fit their configuration: what is missing would be random.

    Args:
        info: transformers' own account of a load (missing, unexpected and mismatched keys).

    Raises:
        BrokenModel: names the first keys, how many, and a known cause.
    """
    missing = sorted(info["missing_keys"])
    unexpected = sorted(key for key in info["unexpected_keys"] if not _OLD_BUFFERS.search(key))
    mismatched = sorted(info["mismatched_keys"])
    faults = []
    if missing:
        faults.append(f"missing: {shown_keys(missing)}")
    if unexpected:
        faults.append(f"not in the model: {shown_keys(unexpected)}")
    if mismatched:
        key, here, wanted = mismatched[0]
        shapes = f"{'x'.join(map(str, here))} instead of {'x'.join(map(str, wanted))}"
        faults.append(f"of another size: {key} {shapes} ({len(mismatched):,})")
    if info.get("error_msgs"):
        faults.append(str(info["error_msgs"][0]).splitlines()[0])
    if faults:
        cause = _why_misfit(missing, unexpected)
        raise _broken(spec, f"its weights do not fit its config.json ({'; '.join(faults)}): {cause}")


def _why_misfit(missing: Sequence[str], unexpected: Sequence[str]) -> str:
    if any(_QUANTIZED.search(key) for key in unexpected):
        return "the weights are quantized and config.json does not say how (quantization_config)"
    if prefix := _added_prefix(unexpected, missing):
        return wrapper_hint(prefix)
    if prefix := _added_prefix(missing, unexpected):
        return f"every key lacks '{prefix}': save the whole model with save_pretrained, not a part of it"
    if missing == ["lm_head.weight"] and not unexpected:
        return (
            "no output layer was saved: if it is the embedding, config.json needs tie_word_embeddings: true"
        )
    return "config.json and weights belong to different models, or only a part was saved"


def _added_prefix(long: Sequence[str], short: Collection[str]) -> str:
    """Return what stands in front of most of the longer keys where the shorter ones have nothing."""
    known = set(short)
    for wrapper in WRAPPERS:
        if any(wrapper in key and key.replace(wrapper, "") in known for key in long):
            return wrapper
    found = Counter(
        key[:end]
        for key in long
        for end in (match.end() for match in re.finditer(r"\.", key))
        if key[end:] in known
    )
    prefix, count = found.most_common(1)[0] if found else ("", 0)
    return prefix if 2 * count >= len(long) else ""


def check_model(spec: ModelSpec, model: Any, tokenizer: Any, quantization: str, dtype: torch.dtype) -> None:
    """Refuse a model that would answer, but not as its rows say.

    Raises:
        BrokenModel: quantized otherwise, another model's tokenizer, a chat template that loses the question.
        EngineError: its weights are not in the promised dtype.
    """
    _refuse_other_quantization(spec, model, quantization)
    if not tokenizer.chat_template:
        log.warning("%s has no chat template: its prompts are plain text that ends in 'Answer:'", spec.name)
    _refuse_broken_template(spec, tokenizer)
    _refuse_foreign_tokenizer(spec, model, tokenizer)
    given = model.get_input_embeddings().weight.dtype
    if given != dtype:
        raise EngineError(f"model '{spec.model_id}' came in {dtype_name(given)}, not in {dtype_name(dtype)}")


def _refuse_other_quantization(spec: ModelSpec, model: Any, quantization: str) -> None:
    """Refuse a checkpoint that is quantized otherwise than its rows would say."""
    own = getattr(model.config, "quantization_config", None)
    if own is None:
        return
    value = own if isinstance(own, dict) else own.to_dict()
    kind = str(value.get("quant_method", "unknown"))
    if "load_in_4bit" in value or "load_in_8bit" in value:
        kind = "int8" if value.get("load_in_8bit") else str(value.get("bnb_4bit_quant_type", "fp4"))
    if kind != quantization:
        ask = f"ask for --quantization {kind}" if kind in ("int8", "nf4") else "use the original checkpoint"
        raise _broken(
            spec, f"its weights are quantized already ({kind}), and rows would say '{quantization}': {ask}"
        )


def _refuse_foreign_tokenizer(spec: ModelSpec, model: Any, tokenizer: Any) -> None:
    """Refuse a tokenizer that writes tokens for which the model has no embedding.

    Tokens that were added to a tokenizer without being used (Gemma 3 has one for images) are no fault.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    outside = [token for token in Prompter(tokenizer, spec).encode(_PROBE) if token >= rows]
    if tokenizer.vocab_size > rows or outside:
        example = f", {tokenizer.convert_ids_to_tokens(outside[0])!r} is {outside[0]:,}" if outside else ""
        raise _broken(
            spec,
            f"its tokenizer knows {len(tokenizer):,} tokens, its embedding {rows:,}{example}: they belong to "
            "different models, or the embedding was not resized",
        )


_SYSTEM, _QUESTION = "Answer in 17 words.", "How far is it from 1 to 42?"
_PROBE = Prompt("probe", (Message("system", _SYSTEM), Message("user", _QUESTION)), max_new_tokens=1)


def _refuse_broken_template(spec: ModelSpec, tokenizer: Any) -> None:
    """Refuse a chat template that fails, or leaves out what is asked."""
    try:
        text = Prompter(tokenizer, spec).render(_PROBE)
    except Exception as error:  # templates are programs: they fail in any way
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise _broken(spec, f"its chat template fails: {type(error).__name__}: {reason}") from error
    lost = [part for part in (_SYSTEM, _QUESTION) if part not in text]
    if lost:
        raise _broken(spec, f"its chat template leaves out what is asked ({lost[0]!r} is not in the prompt)")


def refuse_wrong_numbers(spec: ModelSpec, logits: torch.Tensor, dtype: torch.dtype) -> None:
    """Refuse a model whose own logits are no numbers, or all the same.

    Args:
        logits: of a plain forward pass, float32. A vocabulary may be masked in part with -inf.

    Raises:
        BrokenModel: a NaN or +inf, or no spread at all.
    """
    bad = logits.isnan() | logits.isposinf()
    if bool(bad.any()):
        fault = f"{int(bad.sum()):,} of {logits.numel():,} of its own logits are NaN or infinite"
    elif bool((logits.amax(dim=-1) == logits.amin(dim=-1)).all()):
        fault = "its own logits are all equal"
    else:
        return
    hint = (
        "float16 overflows where bfloat16 does not: try --dtype bfloat16 or float32"
        if dtype == torch.float16
        else f"its weights are damaged (dtype {dtype_name(dtype)})"
    )
    raise _broken(spec, f"{fault}: {hint}")
