"""The scripted engine: deterministic answers without a model, for tests and rehearsals.

An answer depends on the prompt's text only, a sampled one on its noise key too. Environment, for rehearsing
trouble: `ACESLM_SCRIPTED_DELAY_S` (seconds per prompt), `ACESLM_SCRIPTED_FAIL` (rows whose prompt holds this
text become error rows), `ACESLM_SCRIPTED_RAISE` (a prompt that holds this text breaks the run).
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from aceslm.core.digests import digest
from aceslm.core.engine import EngineCounters, EngineInfo, never
from aceslm.core.errors import EngineError
from aceslm.core.prompts import Completion, Prompt
from aceslm.core.values import GenerationSettings

_LESSON_WORDS = "check compare read copy match column row unit year label total reading".split()
_WORDS = ("normal", "anomalous", "Retail", "32", "7.7", "freight costs fell")


class ScriptedEngine:
    """Answers from a digest of the prompt; yields in an order of its own."""

    def __init__(self) -> None:
        self.info = EngineInfo(
            engine="scripted",
            engine_effective="scripted",
            device="none",
            dtype="none",
            quantization="none",
            context_window=None,
            load_s=0.0,
            footprint_bytes=0,
            determinism="exact: the answer depends on the prompt alone",
        )
        self._delay_s = float(os.environ.get("ACESLM_SCRIPTED_DELAY_S", "0"))
        self._fail = os.environ.get("ACESLM_SCRIPTED_FAIL")
        self._raise = os.environ.get("ACESLM_SCRIPTED_RAISE")

    @property
    def counters(self) -> EngineCounters:
        """Nothing is shared, nothing given up."""
        return EngineCounters()

    def generate(
        self,
        prompts: Sequence[Prompt],
        settings: GenerationSettings,
        should_stop: Callable[[], bool] = never,
    ) -> Iterator[Completion]:
        """Yield one completion a prompt, in the order of their digests."""
        for prompt in sorted(prompts, key=lambda prompt: digest(prompt.request_id)):
            if should_stop():
                return
            began = time.perf_counter()
            time.sleep(self._delay_s)
            text = self.render(prompt)
            if self._raise and self._raise in text:
                raise EngineError(f"the scripted engine was told to break at '{self._raise}'")
            answer = self._answer(prompt, text, settings)
            failed = bool(self._fail and self._fail in text)
            latency_ms = (time.perf_counter() - began) * 1000
            yield Completion(
                request_id=prompt.request_id,
                text="" if failed else answer,
                finish_reason="error" if failed else "stop",
                error=f"the scripted engine was told to fail at '{self._fail}'" if failed else None,
                prompt_tokens=self.count_tokens(text),
                output_tokens=0 if failed else self.count_tokens(answer),
                latency_ms=latency_ms,
                batch_size=1,
                batch_ms=latency_ms,
            )

    def render(self, prompt: Prompt) -> str:
        """Return the messages, one after another."""
        return "\n".join(f"{message.role}: {message.content}" for message in prompt.messages)

    def count_tokens(self, text: str) -> int:
        """Count words and marks."""
        return len(re.findall(r"\w+|[^\w\s]", text))

    def close(self) -> None:
        """Nothing is held."""

    def _answer(self, prompt: Prompt, text: str, settings: GenerationSettings) -> str:
        # Greedy: the text alone decides. Sampled: the noise too.
        noise = (prompt.noise_key or prompt.request_id) if settings.temperature else ""
        key = digest(text, noise, settings.temperature)
        if prompt.json_schema is not None:
            return json.dumps(_conforming(json.loads(prompt.json_schema), key))
        options = re.findall(r"^([A-Z])\. ", text, re.MULTILINE)
        if options:
            return f"The answer is ({options[int(key, 16) % len(options)]})."
        return _WORDS[int(key, 16) % len(_WORDS)]


def _conforming(schema: Mapping[str, Any], key: str) -> Any:
    """Return a value that follows a role's schema, chosen by `key`: ids b1 to b9, lessons of plain words."""
    number = int(key, 16)
    if "anyOf" in schema:
        return _conforming(schema["anyOf"][number % len(schema["anyOf"])], key)
    if "const" in schema:
        return schema["const"]
    if schema["type"] == "array":
        count = min(max(schema["minItems"], number % 4), schema["maxItems"])
        return [_conforming(schema["items"], digest(key, n)) for n in range(count)]
    if schema["type"] == "object":
        return {name: _conforming(one, digest(key, name)) for name, one in schema["properties"].items()}
    return _text(schema["pattern"], key)


def _text(pattern: str, key: str) -> str:
    words = [_LESSON_WORDS[int(digest(key, n), 16) % len(_LESSON_WORDS)] for n in range(6)]
    if pattern.startswith("^b"):
        return f"b{1 + int(key, 16) % 9}"
    return words[0] if pattern.startswith("^[a-z]") else " ".join(words)
