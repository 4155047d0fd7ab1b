"""What a model's files say about themselves: neither torch is imported nor a weight read.

    check_checkpoint(Path("my-model"), "my-model")    # BrokenModel names the file, the cause, what to type

Only what is certain is refused here, so that `submit` can say it on a login node; whether every weight has
its place is known when the model is loaded (`aceslm.engine.checks`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from aceslm.core.errors import BrokenModel

INDEX = "model.safetensors.index.json"
WEIGHTS = "model.safetensors"
# What training wrappers put into the names of the weights that they save.
WRAPPERS = {
    "_orig_mod.": "torch.compile",
    "_fsdp_wrapped_module.": "FSDP",
    "_checkpoint_wrapped_module.": "activation checkpointing",
    "_forward_module.": "Lightning Fabric",
    "base_model.model.": "PEFT",
    "module.": "DataParallel",
}
_SETTINGS = (
    "config.json tokenizer.json tokenizer_config.json generation_config.json special_tokens_map.json "
    "added_tokens.json vocab.json chat_template.json model.safetensors.index.json"
).split()
_TOKENIZERS = ("tokenizer*", "*vocab*", "*.model", "*.tiktoken", "tekken.json", "sentencepiece*", "*.spm")
_MIXED = "config.json and weights belong to different models"
_AGAIN = "copy or download the file again"
_LFS = b"version https://git-lfs"
_LAYER = re.compile(r"^(.*?\b(?:layers?|h|blocks?)\.)(\d+)\.")
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight")
# Keys of configurations whose embedding is narrower than the model, and of layers that only training uses.
_NARROW = {"word_embed_proj_dim", "embedding_size", "d_embed", "emb_dim"}
_EXTRA_LAYERS = ("nextn", "mtp")


def check_checkpoint(folder: Path, name: str, *, remote_code: bool = False, repair: str = "") -> None:
    """Refuse a folder whose files are damaged or contradict each other.

    Args:
        name: of the model, for the message. repair: what to type where files are damaged.

    Raises:
        BrokenModel: says which file and why, in one line.
    """
    stamp = tuple(
        sorted((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in _files(folder))
    )
    fault = _fault(folder, stamp, remote_code)
    if fault is not None:
        end = f": {repair}" if repair and fault.endswith(_AGAIN) else ""
        raise BrokenModel(f"model '{name}' does not load: {fault}{end}")


class _Fault(Exception):
    """What is wrong with a folder."""


@cache
def _fault(folder: Path, stamp: object, remote_code: bool) -> str | None:
    """Return what is wrong, None if nothing is; remembered for as long as no file changes."""
    try:
        settings = {name: _json(folder / name) for name in _SETTINGS if (folder / name).is_file()}
        config = _config(folder, settings, remote_code)
        headers = dict(_headers(folder, config, settings.get(INDEX)))
        if not headers:
            return _unread(folder)
        tensors = {key: entry for header in headers.values() for key, entry in header.items()}
        if not remote_code and not any(any(folder.glob(pattern)) for pattern in _TOKENIZERS):
            raise _Fault("it has no tokenizer (tokenizer.json): tokenizer.save_pretrained writes it there")
        _check_wrappers(tensors)
        if "quantization_config" not in config and not remote_code:
            _check_sizes(config, tensors)
    except _Fault as fault:
        return str(fault)
    return None


def wrapper_hint(prefix: str) -> str:
    """Say where a prefix of all keys comes from and how to strip it."""
    origin = WRAPPERS.get(prefix)
    if origin is None:
        return f"strip '{prefix}' from every key"
    bare = f"k.replace('{prefix}', '')" if prefix.startswith("_") else f"k.removeprefix('{prefix}')"
    return (
        f"saved from {origin}: strip '{prefix}', with safetensors.torch: "
        f"save_file({{{bare}: v for k, v in load_file(F).items()}}, F, metadata={{'format': 'pt'}})"
    )


def shown_keys(keys: list[str]) -> str:
    """Return the first keys of a list and how many there are."""
    return f"{', '.join(keys[:2])}{', ...' if len(keys) > 2 else ''} ({len(keys):,})"


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file()]


def _json(path: Path) -> Any:
    """Read a file that transformers will read as JSON."""
    data = path.read_bytes()
    if data.startswith(_LFS):
        raise _Fault(f"{path.name} is a Git LFS pointer, not the file: `git lfs pull` fetches it")
    try:
        value = json.loads(data)
    except ValueError as error:
        line = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        what = "is empty" if not data.strip() else f"is not valid JSON ({str(error).partition(': line')[0]})"
        raise _Fault(f"{path.name}{line} {what}: {_AGAIN}") from None
    if not isinstance(value, dict):
        raise _Fault(f"{path.name} holds a {type(value).__name__}, not an object: {_AGAIN}")
    return value


def _config(folder: Path, settings: Mapping[str, Any], remote_code: bool) -> dict[str, Any]:
    config: dict[str, Any] = settings.get("config.json", {})
    if (folder / "adapter_config.json").is_file():
        base = _json(folder / "adapter_config.json").get("base_model_name_or_path") or "its base model"
        raise _Fault(
            f"the folder holds an adapter (adapter_config.json) of {base}: merge it with peft: "
            "AutoPeftModelForCausalLM.from_pretrained(F).merge_and_unload().save_pretrained(G)"
        )
    if "config.json" in settings and not config.get("model_type") and not remote_code:
        raise _Fault(
            f"config.json {'has no key model_type' if config else 'holds nothing'}: {_AGAIN}, or "
            "model.config.save_pretrained writes it"
        )
    return config


def _headers(
    folder: Path, config: Mapping[str, Any], index: Mapping[str, Any] | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the files of weights that transformers will read, with what their headers name."""
    named = config.get("transformers_weights")
    if isinstance(named, str) and not named.endswith(".index.json"):
        yield named, _header(folder / named)
    elif (folder / WEIGHTS).is_file():
        yield WEIGHTS, _header(folder / WEIGHTS)
    elif index is not None:
        places = index.get("weight_map")
        if not isinstance(places, dict) or not places:
            raise _Fault(f"{INDEX} has no weight_map: {_AGAIN}")
        files = sorted(set(places.values()))
        if absent := [file for file in files if not (folder / file).is_file()]:
            raise _Fault(
                f"{shown_keys(absent)} of the {len(files)} files that {INDEX} names are missing: {_AGAIN}"
            )
        for file in files:
            header = _header(folder / file)
            owed = [key for key, place in places.items() if place == file and key not in header]
            if owed:
                raise _Fault(f"{file} lacks weights that {INDEX} names: {shown_keys(owed)}: {_AGAIN}")
            yield file, header


def _unread(folder: Path) -> str | None:
    """Return what is wrong where there is no file of weights that transformers would read."""
    others = sorted(path.name for path in folder.glob("*.safetensors"))
    if not others:
        return None
    return f"it has neither {WEIGHTS} nor {INDEX}, only {shown_keys(others)}: {_AGAIN}"


def _header(path: Path) -> dict[str, Any]:
    """Return what a safetensors file holds: key -> dtype, shape, data_offsets."""
    if not path.is_file():
        raise _Fault(f"{path.name} is missing: {_AGAIN}")
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(len(_LFS))
        length = int.from_bytes(start[:8], "little")
        if start == _LFS:
            raise _Fault(f"{path.name} is a Git LFS pointer, not the weights: `git lfs pull` fetches them")
        if len(start) < 8 or not 2 <= length <= size - 8:
            raise _Fault(f"{path.name} is no complete safetensors file ({size:,} bytes): {_AGAIN}")
        file.seek(8)
        try:
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            end = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError):
            raise _Fault(f"{path.name} has no readable header: {_AGAIN}") from None
    if size < end:
        raise _Fault(f"{path.name} is cut off ({size:,} of {end:,} bytes): {_AGAIN}")
    return dict(header)


def _check_wrappers(tensors: Mapping[str, Any]) -> None:
    if adapters := sorted(key for key in tensors if ".lora_A." in key or ".lora_B." in key):
        raise _Fault(
            f"its weights hold an adapter that was not merged: {shown_keys(adapters)}; with peft: "
            "model.merge_and_unload().save_pretrained(G)"
        )
    for prefix in WRAPPERS:
        marked = sorted(key for key in tensors if key.startswith(prefix) or f".{prefix}" in key)
        if marked and (prefix.startswith("_") or all(key.startswith(prefix) for key in tensors)):
            raise _Fault(
                f"{len(marked):,} of {len(tensors):,} weights are named after a wrapper, first {marked[0]}: "
                f"{wrapper_hint(prefix)}"
            )


def _check_sizes(config: Mapping[str, Any], tensors: Mapping[str, Any]) -> None:
    """Compare layers, vocabulary and width of a plain decoder with its configuration."""
    layers = _number(config, "num_hidden_layers", "n_layer", "num_layers")
    found = [match for key in tensors if (match := _LAYER.match(key))]
    if layers is not None and len({match[1] for match in found}) == 1:
        present = {int(match[2]) for match in found}
        more_allowed = any(word in key for key in config for word in _EXTRA_LAYERS)
        if not set(range(layers)) <= present or (max(present) >= layers and not more_allowed):
            raise _Fault(
                f"config.json says {layers} layers, the weights hold {len(present)} ({found[0][1]}N): "
                f"{_MIXED}"
            )
    embeddings = [key for key in tensors if key.endswith(_EMBEDDINGS) and "vision" not in key]
    vocabulary, width = _number(config, "vocab_size"), _number(config, "hidden_size", "n_embd", "d_model")
    if len(embeddings) != 1 or vocabulary is None or width is None or _NARROW & set(config):
        return
    shape = tensors[embeddings[0]].get("shape")
    if isinstance(shape, list) and len(shape) == 2 and shape != [vocabulary, width]:
        raise _Fault(
            f"config.json says {vocabulary:,} tokens of {width:,} numbers, the weights hold "
            f"{shape[0]:,} of {shape[1]:,} ({embeddings[0]}): {_MIXED}"
        )


def _number(config: Mapping[str, Any], *names: str) -> int | None:
    values = [config[name] for name in names if isinstance(config.get(name), int)]
    return values[0] if values else None
