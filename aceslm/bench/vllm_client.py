"""vLLM as a contender: a process of another Python that runs `vllm_worker.py` for as long as the benchmark.

It gets the token ids that our own prompter makes, the same dtype and all cores of this process. Its wall time
is taken around its `generate` call: tokenizing and the pipe are not in it.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from aceslm.bench.contender import TimedRun
from aceslm.core.digests import digest
from aceslm.core.engine import EngineInfo
from aceslm.core.errors import WorkError
from aceslm.core.machine import usable_cpus
from aceslm.core.prompts import Prompt
from aceslm.core.values import GenerationSettings, ModelSpec

_WORKER = Path(__file__).with_name("vllm_worker.py")


class VllmProcess:
    """The worker process and its two pipes; what it prints goes to a file, whose end explains a failure."""

    def __init__(self, python: Path, cores: Sequence[int]) -> None:
        # open for as long as the process; `close` closes it
        self._printed = tempfile.TemporaryFile(mode="w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            [str(python), str(_WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._printed,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(len(cores))},
        )

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send one request and return its reply.

        Raises:
            WorkError: the worker failed or ended.
        """
        sender, replies = self._process.stdin, self._process.stdout
        assert sender is not None and replies is not None  # noqa: S101
        try:
            print(json.dumps(request), file=sender, flush=True)
            line = replies.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self._printed.seek(0)
            last = [text.strip() for text in self._printed if text.strip()][-1:]
            raise WorkError(f"the vLLM worker ended: {last[0] if last else 'it printed nothing'}")
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise WorkError(f"vLLM: {reply['error']}")
        return reply

    def close(self) -> None:
        """End the process: its input closes; it is killed where that is not enough."""
        with suppress(BrokenPipeError):  # it may have ended already
            if self._process.stdin is not None:
                self._process.stdin.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._printed.close()


class VllmContender:
    """vLLM with its prefix cache emptied before each pass, or kept from the pass before."""

    samples = True

    def __init__(self, process: VllmProcess, prompter: Any, info: EngineInfo, *, keeps_prefix: bool) -> None:
        self._process = process
        self._prompter = prompter
        self.info = info
        self.keeps_prefix = keeps_prefix

    def run(self, prompts: Sequence[Prompt], settings: GenerationSettings) -> TimedRun:
        """Answer all prompts; where the prefix is kept, an untimed pass over the same prompts comes first."""
        request = {
            "prompts": [
                {
                    "ids": self._prompter.encode(prompt),
                    "max_new_tokens": prompt.max_new_tokens,
                    "ignore_eos": prompt.ignore_eos,
                    "seed": int(digest(prompt.noise_key or prompt.request_id, length=8), 16),
                }
                for prompt in prompts
            ],
            "temperature": settings.temperature,
            "reset": True,
        }
        reply = self._process.ask(request)
        if self.keeps_prefix:
            reply = self._process.ask({**request, "reset": False})
        answers = {
            prompt.request_id: tuple(ids) for prompt, ids in zip(prompts, reply["answers"], strict=True)
        }
        return TimedRun(reply["wall_s"], answers, sum(len(ids) for ids in answers.values()))

    def close(self) -> None:
        """End the process; the second of two contenders finds it ended."""
        self._process.close()


def load_vllm(spec: ModelSpec, python: Path, dtype: str) -> dict[str, VllmContender]:
    """Start vLLM with a model; return it cold (`vllm`) and with its prefix cache kept (`vllm_warm`).

    Raises:
        WorkError: it does not start or load.
    """
    from aceslm.engine.chat_template import Prompter
    from aceslm.engine.loading import load_tokenizer, locate

    began = time.perf_counter()
    cores = usable_cpus()
    place, revision = locate(spec)
    process = VllmProcess(python, cores)
    try:
        first = {"model": place, "revision": revision, "dtype": dtype, "cores": cores}
        version = process.ask({**first, "max_model_len": spec.context_window})["version"]
    except BaseException:
        process.close()
        raise
    info = EngineInfo(
        engine=f"vllm {version}",
        engine_effective=f"vllm {version}",
        device="as vLLM chooses",
        dtype=dtype,
        quantization="none",
        context_window=spec.context_window,
        load_s=time.perf_counter() - began,
        footprint_bytes=0,
        determinism="not stated by vLLM",
    )
    prompter = Prompter(load_tokenizer(spec), spec)
    return {
        "vllm": VllmContender(process, prompter, info, keeps_prefix=False),
        "vllm_warm": VllmContender(process, prompter, info, keeps_prefix=True),
    }
