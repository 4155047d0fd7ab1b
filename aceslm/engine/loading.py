"""Finding and loading weights and tokenizer, quantized or not, without ever asking a hub by surprise."""

from __future__ import annotations

import logging
import re
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers

from aceslm.core.errors import BrokenModel, EngineError, ModelUnavailable
from aceslm.core.values import ModelSpec
from aceslm.engine.checks import check_model, refuse_misfit, refuse_wrong_numbers
from aceslm.engine.config_facts import context_window, end_tokens, same_rope_tokens
from aceslm.engine.devices import (
    choose_device,
    choose_dtype,
    dtype_name,
    follow_cores,
    free_cuda_bytes,
    memory_error,
    needs_several_devices,
)
from aceslm.models.default_model import embedded_folder
from aceslm.models.registry import folder_digest, require_on_this_machine

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """Weights and tokenizer in memory.

    `eos_token_ids` is the union of what the tokenizer and the checkpoint call an end; the rest of the
    checkpoint's generation_config is ignored. Up to `same_rope_tokens` tokens the rotary frequencies do not
    depend on the length of the sequence (LongRoPE and dynamic NTK change them beyond).
    """

    spec: ModelSpec
    model: Any
    tokenizer: Any
    device: torch.device
    dtype: torch.dtype
    quantization: str
    context_window: int | None
    eos_token_ids: tuple[int, ...]
    same_rope_tokens: float
    load_s: float
    footprint_bytes: int


def load_model(spec: ModelSpec, quantization: str, dtype: str, device: str) -> LoadedModel:
    """Load a model's weights and tokenizer.

    Raises:
        ModelUnavailable: not cached, gated.
        BrokenModel: damaged, or its files do not belong together.
        EngineError: no such device or no bitsandbytes backend for it.
    """
    began = time.perf_counter()
    follow_cores()
    _quiet()
    target = choose_device(device)
    chosen = choose_dtype(spec.dtype if dtype == "auto" else dtype, target)
    place, revision = locate(spec)
    common: dict[str, Any] = {"trust_remote_code": spec.trust_remote_code}
    if revision:
        common["revision"] = revision
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(place, **common)
        # a .bin checkpoint only where the registry allows it; transformers reads it with weights_only
        arguments = {**common, "use_safetensors": None if spec.allow_bin else True}
        model = _weights(spec, place, arguments, quantization, chosen, target)
    except (ModelUnavailable, EngineError):
        raise
    except Exception as error:
        if not _is_the_models(error):
            raise
        raise _not_loaded(spec, error) from error
    model.eval()
    check_model(spec, model, tokenizer, quantization, chosen)
    loaded = LoadedModel(
        spec=spec,
        model=model,
        tokenizer=tokenizer,
        device=target,
        dtype=chosen,
        quantization=quantization,
        context_window=context_window(spec, model.config),
        eos_token_ids=end_tokens(model, tokenizer),
        same_rope_tokens=same_rope_tokens(model.config),
        load_s=0.0,
        footprint_bytes=int(model.get_memory_footprint()),
    )
    _forget_generation_config(model)
    _first_pass(loaded)
    log.info("loaded %s: %s on %s, %s", spec.model_id, dtype_name(chosen), target, quantization)
    return _with_load_time(loaded, time.perf_counter() - began)


def load_tokenizer(spec: ModelSpec) -> Any:
    """Load a model's tokenizer alone, without its weights.

    Raises:
        ModelUnavailable: not cached, gated, damaged.
    """
    _quiet()
    place, revision = locate(spec)
    pinned = {"revision": revision} if revision else {}
    try:
        return transformers.AutoTokenizer.from_pretrained(
            place, trust_remote_code=spec.trust_remote_code, **pinned
        )
    except (ModelUnavailable, EngineError):
        raise
    except Exception as error:
        if not _is_the_models(error):
            raise
        raise _not_loaded(spec, error) from error


def locate(spec: ModelSpec) -> tuple[str, str | None]:
    """Return where transformers finds a model: a folder, or a hub id with its revision.

    Raises:
        ModelUnavailable: the embedded model was not prestaged, or the folder is gone or has changed since.
    """
    if spec.source == "embedded":
        require_on_this_machine(spec)
        return str(embedded_folder()), None
    if spec.source == "folder":
        if not Path(spec.model_id).is_dir():
            raise ModelUnavailable(f"model folder {spec.model_id} does not exist any more")
        if spec.revision.startswith("sha256:") and folder_digest(Path(spec.model_id)) != spec.revision:
            raise ModelUnavailable(
                f"model folder {spec.model_id} has changed since this run was planned: put the files back, "
                "or submit again (which plans a new run)"
            )
        return str(Path(spec.model_id)), None
    return spec.model_id, spec.revision


def _weights(
    spec: ModelSpec,
    place: str,
    common: dict[str, Any],
    quantization: str,
    dtype: torch.dtype,
    device: torch.device,
) -> Any:
    # sizes that differ are refused with the rest, in our words
    arguments: dict[str, Any] = {**common, "dtype": dtype, "ignore_mismatched_sizes": True}
    if quantization != "none":
        arguments["quantization_config"] = _quantization_config(quantization, dtype, device)
    device_map = _device_map(place, common, quantization, dtype, device)
    if device_map:
        arguments["device_map"] = device_map
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, info = transformers.AutoModelForCausalLM.from_pretrained(
            place, output_loading_info=True, **arguments
        )
    refuse_misfit(spec, info)
    return model if device_map else model.to(device)


def _device_map(
    place: str, common: dict[str, Any], quantization: str, dtype: torch.dtype, device: torch.device
) -> Any:
    """Return accelerate's `device_map`; None where the loaded model is moved as a whole.

    It is `auto` for weights that one CUDA device does not hold, where there are several and none was asked
    for by number.
    """
    whole = {"": device} if quantization != "none" else None
    if device.type != "cuda" or device.index is not None:
        return whole
    free = free_cuda_bytes()
    if len(free) < 2 or not needs_several_devices(weights_bytes(place, common, quantization, dtype), free):
        return whole
    log.info("the weights do not fit one device: accelerate spreads them over %d", len(free))
    return "auto"


def weights_bytes(place: str, common: dict[str, Any], quantization: str, dtype: torch.dtype) -> int:
    """Return the memory that a model's weights will take, from its configuration alone.

    Quantization leaves embeddings and the LM head as they are.
    """
    options = {name: value for name, value in common.items() if name != "use_safetensors"}
    config = transformers.AutoConfig.from_pretrained(place, **options)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(
            config, trust_remote_code=common["trust_remote_code"]
        )
    layer_bytes = {"none": dtype.itemsize, "int8": 1.0, "nf4": 0.5}[quantization]
    head = model.get_output_embeddings()
    small = [
        module.weight
        for module in model.modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    ]
    quantized = sum(weight.numel() for weight in small)
    total = sum(weight.numel() for weight in model.parameters())
    return int(quantized * layer_bytes + (total - quantized) * dtype.itemsize)


def _quantization_config(quantization: str, dtype: torch.dtype, device: torch.device) -> Any:
    if device.type == "mps":
        raise EngineError(
            f"quantization '{quantization}': bitsandbytes has no backend for MPS; "
            "use --device cpu or quantization none"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import bitsandbytes  # noqa: F401
    except Exception as error:
        raise EngineError(f"quantization '{quantization}': bitsandbytes does not import: {error}") from error
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    if quantization == "int8":
        # A threshold above 0 makes a row's result depend on the outliers of its neighbours in the batch.
        return transformers.BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=0.0)
    return transformers.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
    )


def _forget_generation_config(model: Any) -> None:
    """A checkpoint's own temperature or penalty must not leak into results."""
    model.generation_config = transformers.GenerationConfig()


def _first_pass(loaded: LoadedModel) -> None:
    """Run a short text: broken weights show, and bitsandbytes packs its own (loading, not generating)."""
    rows = loaded.model.get_input_embeddings().weight.shape[0]
    text = loaded.tokenizer("The answer is 42.", add_special_tokens=False)["input_ids"]
    ids = torch.tensor([[token for token in text if token < rows] or [0]], device=loaded.device)
    try:
        with torch.inference_mode():
            logits = loaded.model(input_ids=ids, use_cache=False).logits
    except Exception as error:
        if memory_error(error):
            raise
        reason = (str(error).splitlines() or [""])[0]
        raise EngineError(
            f"model '{loaded.spec.model_id}' does not compute on {loaded.device} in "
            f"{dtype_name(loaded.dtype)}: {type(error).__name__}: {reason}"
        ) from error
    refuse_wrong_numbers(loaded.spec, logits[0].float(), loaded.dtype)


def _with_load_time(loaded: LoadedModel, seconds: float) -> LoadedModel:
    return replace(loaded, load_s=seconds)


def _is_the_models(error: Exception) -> bool:
    """Whether a failure of transformers is about the model, not about the device or its memory."""
    signs = ("state_dict", "conversion of the weights")
    if isinstance(error, RuntimeError):
        return not memory_error(error) and any(sign in str(error) for sign in signs)
    return not isinstance(error, MemoryError)


def _not_loaded(spec: ModelSpec, error: Exception) -> ModelUnavailable:
    """Return what to raise: broken files are nothing that a second try or another machine helps with."""
    text = _why_not(spec, error)
    elsewhere = isinstance(error, ImportError) or (isinstance(error, OSError) and error.errno)
    return ModelUnavailable(text) if elsewhere or " does not load: " not in text else BrokenModel(text)


def _why_not(spec: ModelSpec, error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    text = " ".join(lines).lower()
    if spec.source == "hub":
        if re.search(r"gated|\b40[13]\b", text):
            return (
                f"model '{spec.model_id}' is gated: accept its licence on its hub page, set HF_TOKEN, then: "
                f"aceslm prestage --model-id {spec.name}"
            )
        if any(
            sign in text for sign in ("offline", "connect", "not found", "couldn't", "cannot find", "cached")
        ):
            return (
                f"model '{spec.model_id}' is neither in the cache nor reachable; on a node with internet: "
                f"aceslm prestage --model-id {spec.name}"
            )
    reason = lines[0] if not lines[0].endswith(":") else " ".join(lines)[:400]
    return f"model '{spec.model_id}' does not load: {reason}"


def _quiet() -> None:
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
