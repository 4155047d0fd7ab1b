"""Models: a name -> what exactly will be loaded, and how it gets onto this machine.

    spec = resolve_model("smollm2-135m-gguf")            # no network, no torch
    spec = prestage_model("qwen3-0.6b", report=print)    # on a node with internet

A hub model is pinned: registry revision, else `configs/models.lock.yaml`, else the commit in the hub cache.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from aceslm.config.folders import cache_dir
from aceslm.config.registry import ModelEntry, lock_path, model_lock, model_registry
from aceslm.core.digests import digest, file_sha256
from aceslm.core.errors import BrokenModel, ConfigError, ModelUnavailable, nearest
from aceslm.core.files import locked, replacing, write_json
from aceslm.core.values import ModelSpec
from aceslm.models.checkpoint import check_checkpoint
from aceslm.models.default_model import EMBEDDED_SHA256, embedded_folder

Report = Callable[[str], None]

# What decides a folder's answers: weights, configuration, tokenizer, templates.
_FOLDER_PATTERNS = ("*.safetensors", "*.bin", "*.json", "*.jinja", "*.model", "*.txt", "*.py")
_HUB_PATTERNS = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def resolve_model(name: str, *, trust_remote_code: bool = False) -> ModelSpec:
    """Return what a name in a grid stands for: a registry entry, a local folder, or a hub id.

    Raises:
        ConfigError: none of these, or a pinned revision that the lock contradicts.
        ModelUnavailable: a hub model whose revision nothing on this machine knows.
        BrokenModel: files that are here are damaged, or contradict each other.
    """
    registry = model_registry()
    if name in registry:
        return _from_entry(name, registry[name], trust_remote_code)
    path = Path(name).expanduser()
    if path.is_dir():
        return _from_folder(name, path, trust_remote_code)
    if name.startswith((".", "/", "~")):
        raise ConfigError(f"model folder {name} does not exist")
    if _HUB_ID.fullmatch(name):
        return _from_entry(name, ModelEntry(id=name), trust_remote_code)
    raise ConfigError(
        f"unknown model '{name}'{nearest(name, registry)}; `aceslm models` lists the registry, "
        "and any hub id (org/name) or local folder works too"
    )


def prestage_model(name: str, report: Report) -> ModelSpec:
    """Bring a model onto this machine and prove that it loads with the hub switched off.

    Raises:
        ModelUnavailable: it cannot be fetched, or does not load offline.
        BrokenModel: its files are damaged, or do not belong together.
    """
    entry = model_registry().get(name)
    if entry is not None and entry.source == "embedded":
        from aceslm.models.embedded import prestage_embedded

        prestage_embedded(report)
    elif entry is not None and entry.source == "scripted":
        return resolve_model(name)
    elif not Path(name).expanduser().is_dir():
        _prestage_hub(name, entry or _hub_entry(name), report)
    try:
        spec = resolve_model(name)
        report(f"{name}: loading it with the hub switched off")
        _prove(spec)
    except ModelUnavailable as error:
        fetched = "" if Path(name).expanduser().is_dir() else "was fetched but "
        cause = str(error).partition(" does not load: ")[2] or str(error)
        raise type(error)(f"model '{name}' {fetched}does not load offline: {cause}") from None
    return spec


def require_on_this_machine(spec: ModelSpec) -> None:
    """Refuse to start work with an embedded model that was never prestaged.

    Raises:
        ModelUnavailable: says what to type.
    """
    if spec.source == "embedded" and not (embedded_folder() / "config.json").exists():
        raise ModelUnavailable(
            f"model '{spec.name}' is not in the cache yet: aceslm prestage --model-id {spec.name}"
        )


def folder_digest(folder: Path) -> str:
    """Return `sha256:...` over the names and bytes of a model folder's files.

    Remembered in the cache by path, size and modification time, so that a second call reads nothing.
    """
    files = sorted({path for pattern in _FOLDER_PATTERNS for path in folder.glob(pattern) if path.is_file()})
    stamp = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files]
    memory = cache_dir() / "folders" / f"{digest(str(folder.resolve()))}.json"
    if memory.exists():
        with suppress(ValueError, OSError):  # a note that was cut off is written anew
            known = json.loads(memory.read_text(encoding="utf-8"))
            if known.get("stamp") == stamp:
                return str(known["digest"])
    value = "sha256:" + digest([[path.name, file_sha256(path)] for path in files], length=64)
    with suppress(OSError):  # a read-only cache only costs time
        write_json(memory, {"folder": str(folder.resolve()), "stamp": stamp, "digest": value})
    return value


def _from_entry(name: str, entry: ModelEntry, trust_remote_code: bool) -> ModelSpec:
    revisions = {
        "embedded": f"sha256:{EMBEDDED_SHA256}",
        "scripted": "scripted",
    }
    revision = revisions.get(entry.source) or _hub_revision(name, entry)
    remote_code = entry.trust_remote_code or trust_remote_code
    folder = _snapshot(entry.id, revision) if entry.source == "hub" else embedded_folder()
    if entry.source != "scripted" and folder.is_dir():
        repair = f"aceslm prestage --model-id {name}"
        if entry.source == "hub":
            repair += f" (damaged files are only fetched again once {folder.parent.parent} is deleted)"
        check_checkpoint(folder, entry.id, remote_code=remote_code, repair=repair)
    return ModelSpec(
        name=name,
        model_id=entry.id,
        revision=revision,
        source=entry.source,
        dtype=entry.dtype,
        context_window=entry.context_window,
        chat_template_args=entry.chat_template_args,
        trust_remote_code=remote_code,
        allow_bin=entry.allow_bin,
    )


def _from_folder(name: str, path: Path, trust_remote_code: bool) -> ModelSpec:
    if not (path / "config.json").exists() and not (path / "adapter_config.json").exists():
        raise ConfigError(f"model folder {name} has no config.json: is it a transformers checkpoint?")
    if not list(path.glob("*.safetensors")):
        raise ConfigError(f"model folder {name} has no .safetensors file: convert it with save_pretrained")
    folder = path.resolve()
    check_checkpoint(folder, name, remote_code=trust_remote_code)
    return ModelSpec(
        name=name,
        model_id=str(folder),
        revision=folder_digest(folder),
        source="folder",
        trust_remote_code=trust_remote_code,
    )


def _hub_revision(name: str, entry: ModelEntry) -> str:
    locked_entry = model_lock().get(entry.id)
    if entry.revision and locked_entry and locked_entry.revision != entry.revision:
        raise ConfigError(
            f"model '{name}': the registry pins revision {entry.revision[:12]}, configs/models.lock.yaml has "
            f"{locked_entry.revision[:12]}: aceslm prestage --model-id {name}, or correct the registry"
        )
    revision = entry.revision or (locked_entry.revision if locked_entry else _cached_revision(entry.id))
    if revision is None:
        gated = (
            "; it is gated: accept its licence on its hub page and set HF_TOKEN first" if entry.gated else ""
        )
        raise ModelUnavailable(
            f"model '{name}' ({entry.id}) is not on this machine; on a node with internet: "
            f"aceslm prestage --model-id {name}{gated}"
        )
    return revision


def _cached_revision(hub_id: str) -> str | None:
    """Return the commit that the hub cache calls `main`, without any request."""
    try:
        return (_hub_folder(hub_id) / "refs" / "main").read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def _hub_folder(hub_id: str) -> Path:
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    hub = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    return hub / f"models--{hub_id.replace('/', '--')}"


def _snapshot(hub_id: str, revision: str) -> Path:
    """Return where the hub cache keeps a revision; it may not be there."""
    return _hub_folder(hub_id) / "snapshots" / revision


def _hub_entry(name: str) -> ModelEntry:
    if not _HUB_ID.fullmatch(name):
        resolve_model(name)  # raises the error that names the nearest model
    return ModelEntry(id=name)


def _prestage_hub(name: str, entry: ModelEntry, report: Report) -> None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError

    patterns = [
        *_HUB_PATTERNS,
        *(["*.bin"] if entry.allow_bin else []),
        *(["*.py"] if entry.trust_remote_code else []),
    ]
    report(f"{name}: downloading {entry.id}")
    try:
        folder = Path(snapshot_download(entry.id, revision=entry.revision, allow_patterns=patterns))
    except GatedRepoError:
        raise ModelUnavailable(
            f"model '{entry.id}' is gated: accept its licence on its hub page, set HF_TOKEN, "
            "and run the same again"
        ) from None
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ModelUnavailable(f"model '{entry.id}' cannot be fetched: {_first_line(error)}") from None
    _write_lock(entry.id, folder)


def _write_lock(hub_id: str, folder: Path) -> None:
    """Pin what was downloaded: the snapshot folder is named by its commit."""
    path = lock_path()
    files = {file.name: file_sha256(file) for file in sorted(folder.iterdir()) if file.is_file()}
    value = {"id": hub_id, "revision": folder.name, "files": files, "date": time.strftime("%Y-%m-%d")}
    with locked(path.with_name(".models.lock.yaml.lock"), "aceslm prestage"):
        entries: dict[str, Any] = {key: entry.model_dump() for key, entry in model_lock().items()}
        with replacing(path) as partial:
            partial.write_text(yaml.safe_dump({**entries, hub_id: value}, sort_keys=True), encoding="utf-8")


_PROOF = """
import json, sys
from aceslm.engine import load_engine
from aceslm.core.errors import AceslmError
from aceslm.core.values import ModelSpec
try:
    load_engine(ModelSpec(**json.loads(sys.argv[1]))).close()
except AceslmError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_status)
"""


def _prove(spec: ModelSpec) -> None:
    """Load the model in a fresh process that may not ask any hub."""
    from dataclasses import asdict

    result = subprocess.run(
        [sys.executable, "-c", _PROOF, json.dumps(asdict(spec))],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode == 0:
        return
    lines = [line for line in result.stderr.splitlines() if line.strip()] or ["no message"]
    if result.returncode < 0:
        lines = [f"signal {-result.returncode} ended the process that loaded it: is there enough memory?"]
    raise (BrokenModel if result.returncode == BrokenModel.exit_status else ModelUnavailable)(lines[-1])


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
