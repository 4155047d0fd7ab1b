"""Models over several devices: when accelerate places the weights, and that placed models answer the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import dispatch_model
from tinies import Tinies, check_all, mixed_prompts

from aceslm.engine import loading, shared_prefix
from aceslm.engine.devices import needs_several_devices
from aceslm.engine.loading import load_model, weights_bytes
from aceslm.engine.shared_prefix import SharedPrefixEngine
from aceslm.models.registry import resolve_model

pytestmark = pytest.mark.usefixtures("one_core")

GB = 10**9


@pytest.mark.parametrize(
    ("weights", "free", "spread"),
    [
        (14 * GB, [80 * GB], False),
        (140 * GB, [80 * GB], False),  # one device: it has to do
        (14 * GB, [80 * GB, 80 * GB], False),
        (70 * GB, [80 * GB, 80 * GB], True),  # no room for keys and values
        (140 * GB, [80 * GB] * 4, True),
        (14 * GB, [10 * GB, 80 * GB], True),
        (14 * GB, [], False),
    ],
)
def test_weights_are_spread_only_where_one_of_several_devices_does_not_hold_them(
    weights: int, free: list[int], spread: bool
) -> None:
    assert needs_several_devices(weights, free) is spread


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_the_bytes_of_weights_are_known_before_they_are_loaded(tinies: Tinies, name: str) -> None:
    folder = str(tinies(name).folder)
    loaded = load_model(resolve_model(folder), "none", "float32", "cpu")
    common = {"trust_remote_code": False, "use_safetensors": True}
    owed = sum(weight.nbytes for weight in loaded.model.parameters())
    assert weights_bytes(folder, common, "none", torch.float32) == owed
    assert weights_bytes(folder, common, "none", torch.bfloat16) == owed // 2
    if name == "llama":
        sizes = [weights_bytes(folder, common, kind, torch.bfloat16) for kind in ("none", "int8", "nf4")]
        layers = sum(weight.numel() for weight in loaded.model.model.layers.parameters() if weight.dim() > 1)
        assert sizes[0] - sizes[1] == layers
        assert sizes[1] - sizes[2] == layers // 2


@pytest.mark.parametrize("quantization", ["none", "int8"])
@pytest.mark.parametrize(
    ("device", "free", "automatic"),
    [
        ("cuda", [GB, GB], False),
        ("cuda", [1000, GB], True),
        ("cuda", [1000], False),
        ("cuda:0", [1000, GB], False),  # asked for by number
        ("cpu", [1000, GB], False),
    ],
)
def test_placement_is_automatic_only_where_it_must_be(
    tinies: Tinies,
    monkeypatch: pytest.MonkeyPatch,
    quantization: str,
    device: str,
    free: list[int],
    automatic: bool,
) -> None:
    monkeypatch.setattr(loading, "free_cuda_bytes", lambda: free)
    place, target = str(tinies("llama").folder), torch.device(device)
    found = loading._device_map(place, {"trust_remote_code": False}, quantization, torch.float32, target)
    whole = {"": target} if quantization == "int8" else None
    assert found == ("auto" if automatic else whole)


def cut(model: Any, first: str, second: str) -> dict[str, str]:
    """Return a device map: the first layer and all that is not a layer on `first`, the rest on `second`."""
    outside = [name for name, _ in model.model.named_children() if name != "layers"]
    places = {f"model.{name}": first for name in outside} | {"lm_head": first}
    return places | {f"model.layers.{n}": second if n else first for n in range(len(model.model.layers))}


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_a_model_whose_weights_are_partly_on_disk_gives_equal_tokens(
    tinies: Tinies, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_prefix, "MIN_SAVED_TOKENS", 8)
    tiny = tinies(name)
    loaded = load_model(resolve_model(str(tiny.folder)), "none", "float32", "cpu")
    places = cut(loaded.model, "cpu", "disk")
    spread = dispatch_model(loaded.model, places, main_device="cpu", offload_dir=tmp_path, force_hooks=True)
    assert {weight.device.type for weight in spread.parameters()} == {"cpu", "meta"}
    engine = SharedPrefixEngine(replace(loaded, model=spread), batch_size=4)
    assert engine.info.engine_effective == "shared_prefix"
    check_all(tiny, engine, mixed_prompts())


def test_a_model_that_accelerate_has_loaded_gives_equal_tokens(
    tinies: Tinies, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "_device_map", lambda *_: {"": "cpu"})
    tiny = tinies("llama")
    engine = tiny.engine(rows=4)
    check_all(tiny, engine, mixed_prompts())
